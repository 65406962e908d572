//! The copy of the last configuration that a worker ran with (SPEC L16).
//!
//! A service that starts with a configuration that cannot be used runs with this copy. A loader
//! writes it under a temporary name, and the monitor renames it once a worker runs with it. It holds
//! the text of the files, and not the secrets that they name, which are read again. It is used only
//! for the same command line.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use codex_network_config::{Daemon, Sources};
use codex_network_files::{ReadError, Reading, Trust};
use nix::fcntl::OFlag;

use crate::ca::certificate::{fingerprint, hex};
use crate::ca::publish::own_directory;
use crate::privsep::briefing::Environment;
use crate::state;

/// Its first line, with the version of its layout.
const TITLE: &[u8] = b"codex-network-proxy: the last good configuration, layout 1\n";
/// Its name in the state directory. A mark of the command line follows, if there is one, and an ending
/// if no worker has run with it yet.
const NAME: &str = "last-good";
/// Largest copy, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The directory of the copy. It is not that of the configuration, which may not be readable.
pub(super) fn directory(environment: &Environment) -> Option<PathBuf> {
    state::directory(&Daemon::default(), |name| environment.get(name))
}

/// Writes the copy into a directory, for the monitor to move. `None` if it is there already.
///
/// # Errors
///
/// A sentence for the log. The service runs without a copy.
pub(super) fn write(
    state: &Path,
    words: &[OsString],
    captured: &Sources,
) -> Result<Option<PathBuf>, String> {
    let body = [&section(words)[..], &captured.to_bytes()].concat();
    let content = [TITLE, &fingerprint(&body), &body].concat();
    let name = name(words);
    let present = reading().read(&state.join(&name));
    if present.is_ok_and(|present| *present == content) {
        return Ok(None);
    }
    put(state, &name, &content).map_err(|error| {
        format!(
            "no copy of this configuration can be kept for a start with a broken one: {}: {error}",
            state.display()
        )
    })
}

/// The path of a copy that could not be written. There is no file, so the monitor removes the older
/// copy, which must not come back.
pub(super) fn unwritten(state: &Path, words: &[OsString]) -> PathBuf {
    state.join(format!("{}.unwritten", name(words)))
}

/// The sources in the copy.
///
/// # Errors
///
/// Why there are none, in one sentence.
pub(super) fn read(state: &Path, words: &[OsString]) -> Result<Sources, String> {
    let path = state.join(name(words));
    let broken = || format!("{} is broken", path.display());
    let content = reading().read(&path).map_err(|error| match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no earlier configuration".to_owned()
        }
        error => format!("{}: {error}", path.display()),
    })?;
    let content = content
        .strip_prefix(TITLE)
        .ok_or("the earlier configuration is in another layout")?;
    // A part of a configuration could allow what the whole forbids.
    let (mark, body) = content.split_first_chunk().ok_or_else(broken)?;
    if fingerprint(body) != *mark {
        return Err(broken());
    }
    let sources = body
        .strip_prefix(&section(words)[..])
        .ok_or("the earlier configuration is that of another command line")?;
    Sources::from_bytes(sources).map_err(|_| broken())
}

/// Services with different command lines have copies of their own.
fn name(words: &[OsString]) -> String {
    if words.is_empty() {
        NAME.to_owned()
    } else {
        format!("{NAME}-{}", &hex(&fingerprint(&section(words)))[..8])
    }
}

fn reading() -> Reading {
    Reading::up_to(MAX_BYTES)
        .without_links()
        .kept_by(Trust::of_process())
}

/// The command line, in a form of known length.
fn section(words: &[OsString]) -> Vec<u8> {
    let count = (words.len() as u64).to_le_bytes();
    let words = words.iter().flat_map(|word| {
        let length = (word.len() as u64).to_le_bytes();
        [&length[..], word.as_bytes()].concat()
    });
    count.into_iter().chain(words).collect()
}

fn put(state: &Path, name: &str, content: &[u8]) -> io::Result<Option<PathBuf>> {
    own_directory(state).map_err(io::Error::other)?;
    forget(state, name)?;
    let mark = &hex(&fingerprint(content))[..16];
    let path = state.join(format!("{name}.{mark}"));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(Some(path))
}

/// Removes copies that no worker has run with.
fn forget(state: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(state)?.flatten() {
        let found = entry.file_name();
        let ending = found.to_str().and_then(|found| {
            let ending = found.strip_prefix(name)?;
            ending.strip_prefix('.')
        });
        if ending.is_some_and(|ending| ending.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Sources {
        let source = Sources::none().with_text("a.toml", content);
        source.capture().expect("it is in memory")
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn l16_a_copy_is_used_only_whole_and_for_its_command_line() {
        let place = tempfile::tempdir().expect("a directory");
        let state = place.path();
        let ours = words(&["--config=a"]);
        let missing = read(state, &ours).expect_err("no copy yet");
        assert!(missing.contains("no earlier configuration"), "{missing}");
        let new = write(state, &ours, &text("[network]\n")).expect("it is written");
        let new = new.expect("it is new");
        assert!(read(state, &ours).is_err(), "no worker ran with it");
        fs::rename(&new, state.join(name(&ours))).expect("the monitor moves it");
        assert!(read(state, &ours).is_ok());
        let same = write(state, &ours, &text("[network]\n"));
        assert_eq!(same, Ok(None));
        let others = [
            words(&[]),
            words(&["--config=b"]),
            words(&["--config=a", "-c=x"]),
        ];
        for others in others {
            let refused = read(state, &others).expect_err("another command line");
            assert!(refused.contains("no earlier"), "{refused}");
            fs::copy(state.join(name(&ours)), state.join(name(&others))).expect("our own files");
            let refused = read(state, &others).expect_err("another command line");
            assert!(refused.contains("command line"), "{refused}");
        }
        let content = reading()
            .read(&state.join(name(&ours)))
            .expect("it is there");
        for end in 0..content.len() {
            fs::write(state.join(name(&ours)), &content[..end]).expect("our own file");
            assert!(read(state, &ours).is_err(), "cut to {end}");
        }
    }

    #[test]
    fn l16_a_new_copy_replaces_one_that_no_worker_ran_with() {
        let place = tempfile::tempdir().expect("a directory");
        let state = place.path();
        fs::write(state.join("last-good.txt"), "mine").expect("our own file");
        let copy = |content| write(state, &[], &text(content)).expect("it is written");
        let first = copy("[network]\n").expect("it is new");
        let second = copy("[network]\nenabled = true\n").expect("it is new");
        assert!(!first.exists() && second.exists());
        assert!(state.join("last-good.txt").exists());
    }
}
