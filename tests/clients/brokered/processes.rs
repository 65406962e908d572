//! The memory of the processes of a client, as the kernel shows it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{ChildStdin, Command, Stdio};

use e2e::machine::{Need, can};
use e2e::process::command_line;
use parking_lot::Mutex;

/// The variable that every process of a session with credentials has.
const MARKER: &[u8] = b"CODEX_NETWORK_PROXY_CREDENTIAL_BROKER_ACTIVE=1";
/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 20;
/// Longer mappings are reservations, which are empty.
const MAX_MAPPING: u64 = 1 << 30;

/// A search for a value in the environment and the memory of processes.
pub(super) struct Search {
    value: String,
    /// The command lines of all processes whose memory was searched.
    searched: Mutex<Vec<String>>,
    /// The places of the value.
    found: Mutex<Vec<String>>,
}

impl Search {
    pub(super) fn new(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            searched: Mutex::new(Vec::new()),
            found: Mutex::new(Vec::new()),
        }
    }

    /// Searches the processes of the session that has the URL of this origin in its environment.
    pub(super) fn look(&self, origin: &str) {
        let origin = format!("ORIGIN={origin}").into_bytes();
        let processes = fs::read_dir("/proc").expect("a Linux machine");
        for process in processes.flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(environment) = fs::read(process.path().join("environ")) else {
                continue;
            };
            let has = |wanted: &[u8]| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|one| one == wanted)
            };
            if !has(MARKER) || !has(&origin) {
                continue;
            }
            let command = command_line(pid);
            if is_in(&self.value, |to| to.write_all(&environment)) {
                self.found.lock().push(format!("environment of {command}"));
            }
            let mut has_memory = false;
            let is_in_memory = is_in(&self.value, |to| {
                copy_memory(pid, &mut |block| {
                    has_memory = true;
                    to.write_all(block)
                })
            });
            if is_in_memory {
                self.found.lock().push(format!("memory of {command}"));
            }
            // Its user may not permit it, and it may have ended.
            if has_memory {
                self.searched.lock().push(command);
            }
        }
    }

    /// Fails if a process had the value, or if no process was searched where that is possible.
    #[track_caller]
    pub(super) fn found_nothing(&self, origin: &str) {
        let found = self.found.lock();
        assert!(found.is_empty(), "{found:#?}");
        let searched = self.searched.lock();
        assert!(
            !searched.is_empty() || !can(Need::Ptrace),
            "no process of {origin} was searched"
        );
    }
}

/// Whether a value is in the bytes that a function writes. `grep` searches: it is fast in any build.
fn is_in(value: &str, write: impl FnOnce(&mut ChildStdin) -> io::Result<()>) -> bool {
    let mut grep = Command::new("grep")
        .args(["--quiet", "--text", "--null-data", "--fixed-strings", value])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .spawn()
        .expect("every machine has grep");
    let mut input = grep.stdin.take().expect("a pipe");
    // It stops reading when it has found the value, and a process may end while it is read.
    let _: io::Result<()> = write(&mut input);
    drop(input);
    grep.wait().expect("our own child").success()
}

/// Passes on the memory of a process that is its own: no files that it only reads.
fn copy_memory(pid: u32, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut block = vec![0; usize::try_from(BLOCK).expect("a small number")];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next());
        let bounds = range.split_once('-').and_then(|(start, end)| {
            let number = |hex| u64::from_str_radix(hex, 16).ok();
            Some((number(start)?, number(end)?))
        });
        let Some((start, end)) = bounds else {
            continue;
        };
        let is_own = rights.is_some_and(|rights| rights.starts_with("rw"));
        if !is_own || end - start > MAX_MAPPING {
            continue;
        }
        let mut at = start;
        while at < end {
            let wanted = usize::try_from((end - at).min(BLOCK)).expect("at most a block");
            let Ok(count @ 1..) = memory.read_at(&mut block[..wanted], at) else {
                break;
            };
            to(&block[..count])?;
            at += count as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that holds the value is noticed.
    #[test]
    fn a_value_in_the_memory_of_a_process_is_found() {
        if !e2e::machine::has(Need::Ptrace) {
            return;
        }
        let (origin, value) = (
            "https://search.test:1",
            "sk-proj-REALfound0123456789abcdefABCDEF",
        );
        let mut child = Command::new("sh")
            .args(["-c", "read line; kept=$line; echo; read line; echo $kept"])
            .env("ORIGIN", origin)
            .env("CODEX_NETWORK_PROXY_CREDENTIAL_BROKER_ACTIVE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut input = child.stdin.take().expect("a pipe");
        writeln!(input, "{value}").expect("a shell that reads");
        let mut output = child.stdout.take().expect("a pipe");
        io::Read::read_exact(&mut output, &mut [0]).expect("a shell that writes");
        let search = Search::new(value);
        search.look(origin);
        drop(input);
        child.wait().expect("our own child");
        let found = search.found.lock();
        assert!(
            matches!(&found[..], [one] if one.starts_with("memory of sh ")),
            "{found:?}"
        );
    }
}
