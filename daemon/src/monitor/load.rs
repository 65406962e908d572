//! Running a loader and taking what it says, within a limit of time and of size.
//!
//! The files that it reads may be anything that can be opened, a pipe that nobody writes to among
//! them, so a loader may hang; it is killed then. It also ends with the monitor, by its own wish
//! ([`crate::worker::die_with_the_monitor`]).

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Event;
use super::reloads::Begin;
use crate::ca::Scalar;
use crate::privsep;
use crate::privsep::settled::Loaded;

/// Most that a loader may say: some files of the largest size that is read.
const LONGEST: usize = 512 << 20;
/// How long a loader may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A loader at work. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Loading(Arc<Mutex<Child>>);

/// What a loader is given.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    /// How to find the configuration.
    pub(super) words: Vec<OsString>,
    /// The certificate of the CA that the monitor made, for the public files.
    pub(super) certificate: Vec<u8>,
}

/// Runs a loader to its end.
pub(super) fn load(arguments: &Arguments) -> anyhow::Result<Loaded> {
    let (loading, stdout) = Loading::begin(&mut loader(arguments)?, &arguments.certificate)?;
    loading.finish(stdout, LIMIT)
}

/// Runs a loader beside the loop, which hears of the outcome.
pub(super) fn start(
    arguments: &Arguments,
    Begin(load): Begin,
    events: SyncSender<Event>,
) -> anyhow::Result<Loading> {
    // On this thread, which lives as long as the monitor: the loader ends with whoever started it.
    let (loading, stdout) = Loading::begin(&mut loader(arguments)?, &arguments.certificate)?;
    let working = Loading(Arc::clone(&loading.0));
    std::thread::spawn(move || {
        // A loop that has ended needs no outcome.
        let _ = events.send(Event::Loaded(load, working.finish(stdout, LIMIT)));
    });
    Ok(loading)
}

fn loader(arguments: &Arguments) -> anyhow::Result<Command> {
    let mut command = Command::new(privsep::this_program()?);
    command.args(&arguments.words).arg(privsep::LOADER);
    Ok(command)
}

impl Loading {
    /// Starts one, which reads `input`: so little that it fits into a pipe.
    fn begin(command: &mut Command, input: &[u8]) -> anyhow::Result<(Self, ChildStdout)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the loader")?;
        // One that is gone already says more by how it went.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
        let stdout = child.stdout.take().context("the loader has no output")?;
        Ok((Self(Arc::new(Mutex::new(child))), stdout))
    }

    fn finish(&self, mut stdout: ChildStdout, limit: Duration) -> anyhow::Result<Loaded> {
        let mut key = Scalar::default();
        let said = read(&mut stdout, &mut key, limit);
        // It has closed its output, which it does at its very end, or it is of no use.
        let status = self.end().context("cannot wait for the loader")?;
        let said = said?;
        let Some((length, said)) = said.split_first_chunk() else {
            bail!("the loader failed ({status})");
        };
        if said.len() as u64 != u64::from_le_bytes(*length) {
            bail!("the loader failed ({status})");
        }
        Loaded::decode(&key, said).context("the loader says something else than it should")
    }

    /// Kills and reaps it. One that has ended already keeps its own status, and its process id
    /// until it is reaped here: no other process can be hit.
    fn end(&self) -> std::io::Result<ExitStatus> {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        child.wait()
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // Whoever waits for it reaps it, or has already.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}

/// Everything up to the end of its output. What comes first goes into `key` and nowhere else.
fn read(stdout: &mut ChildStdout, key: &mut Scalar, limit: Duration) -> anyhow::Result<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let mut said = Vec::new();
    let mut part = vec![0; 64 * 1024];
    let mut of_key = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut output = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let polled = match PollTimeout::try_from(left) {
            Ok(left) => poll(&mut output, left),
            Err(_) => poll(&mut output, PollTimeout::MAX),
        };
        let ready = match polled {
            Err(nix::Error::EINTR) => 0,
            polled => polled.context("cannot wait for the loader")?,
        };
        if deadline <= Instant::now() {
            bail!(
                "loading took longer than {} s; see whether a file of the configuration is a pipe, or on a disk that \
                 does not answer",
                limit.as_secs()
            );
        }
        if ready == 0 {
            continue;
        }
        let is_key = of_key < key.len();
        let read = if is_key {
            stdout.read(&mut key[of_key..])
        } else {
            stdout.read(&mut part)
        };
        match read {
            Ok(0) => return Ok(said),
            Ok(length) if is_key => of_key += length,
            Ok(length) => said.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read what the loader says"),
        }
        if said.len() > LONGEST {
            bail!("the loader says more than {LONGEST} bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn finish(script: &str, limit: Duration) -> (String, Loading) {
        let mut command = Command::new("sh");
        let (loading, stdout) = Loading::begin(command.args(["-c", script]), &[]).expect("a shell");
        let error = loading.finish(stdout, limit).expect_err("no settings");
        (format!("{error:#}"), loading)
    }

    #[test]
    fn c7_a_loader_that_takes_too_long_is_killed_and_reaped() {
        let (error, loading) = finish("exec sleep 1000", Duration::from_millis(50));
        assert!(error.contains("loading took longer than 0 s"), "{error}");
        let status = loading.0.lock().expect("a lock").try_wait();
        let signal = status.expect("our own child").and_then(|s| s.signal());
        assert_eq!(signal, Some(9));
    }

    #[test]
    fn c7_a_loader_that_never_stops_talking_is_ended_too() {
        let (error, _) = finish("exec yes", Duration::from_millis(50));
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn c7_half_of_what_a_loader_has_to_say_is_nothing() {
        let minute = Duration::from_secs(60);
        for script in [
            "exit 3",
            "printf 1234567; exit 3",
            r"head -c 32 /dev/zero; printf '\011\0\0\0\0\0\0\0less'; exit 3",
            r"head -c 32 /dev/zero; printf '\001\0\0\0\0\0\0\0more'; exit 3",
        ] {
            let (error, _) = finish(script, minute);
            assert!(
                error.contains("the loader failed (exit status: "),
                "{error}"
            );
        }
        let (error, _) = finish(
            r"head -c 32 /dev/zero; printf '\001\0\0\0\0\0\0\0\007'",
            minute,
        );
        assert!(error.contains("something else"), "{error}");
    }
}
