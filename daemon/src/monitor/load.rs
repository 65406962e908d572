//! Runs a loader and takes its output, within limits of time and size.
//!
//! The configured files may be of any kind, even a pipe without a writer, so a loader may hang;
//! then it is killed. It also ends with the monitor, by its own request
//! ([`crate::worker::die_with_the_monitor`]).

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::reloads::Begin;
use super::{Event, end_loader};
use crate::ca::Scalar;
use crate::logging;
use crate::privsep;
use crate::privsep::briefing::{Briefing, Environment, WhichConfiguration};
use crate::privsep::settled::Loaded;
use crate::privsep::system_files::Plan;

/// Largest output of a loader: several files of the largest accepted size.
const MAX_OUTPUT: usize = 512 << 20;
/// A loader's own environment: variables that libraries read, none of them secret.
const PASSED_ON: [&str; 4] = ["HOME", "RUST_BACKTRACE", "SSL_CERT_DIR", "SSL_CERT_FILE"];
/// How long a loader may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running loader. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Loading(Arc<Mutex<Child>>);

/// The input of a loader.
pub(super) struct Arguments {
    /// How to find the configuration.
    words: Vec<OsString>,
    environment: Arc<Environment>,
    /// That of the monitor's CA, for the public files.
    certificate: Vec<u8>,
}

impl Arguments {
    /// `words` are the arguments of the command line. `certificate` is that of the monitor's CA, for the
    /// public files. The environment is that of this process.
    pub(super) fn new(words: Vec<OsString>, certificate: &[u8]) -> Self {
        Self {
            words,
            environment: Arc::new(Environment::of_this_process()),
            certificate: certificate.to_vec(),
        }
    }

    /// The monitor has another CA: later loaders get its certificate.
    pub(super) fn set_certificate(&mut self, certificate: &[u8]) {
        self.certificate = certificate.to_vec();
    }

    fn briefing(&self, which: WhichConfiguration) -> Arc<Zeroizing<Vec<u8>>> {
        let briefing = Briefing::Configuration {
            which,
            environment: Arc::clone(&self.environment),
            certificate: self.certificate.clone(),
        };
        Arc::new(briefing.encode())
    }
}

/// Runs a loader and waits for its result.
pub(super) fn load(arguments: &Arguments, which: WhichConfiguration) -> anyhow::Result<Loaded> {
    let (loading, stdout) = Loading::begin(&mut loader(arguments)?, &arguments.briefing(which))?;
    loading.finish(stdout, LOAD_TIMEOUT)
}

/// Runs a loader beside the loop, which gets the result as an event.
pub(super) fn start(
    arguments: &Arguments,
    which: WhichConfiguration,
    Begin(load): Begin,
    events: SyncSender<Event>,
) -> anyhow::Result<Loading> {
    let loaded = move |loaded| Event::Loaded(load, loaded);
    beside(arguments, &arguments.briefing(which), events, loaded)
}

/// Runs a loader beside the loop that reads the files of the system alone. `reading` is the number
/// of the event with the result.
pub(super) fn start_reading(
    arguments: &Arguments,
    plan: Plan,
    reading: u32,
    events: SyncSender<Event>,
) -> anyhow::Result<Loading> {
    let briefing = Arc::new(Briefing::SystemFiles(plan).encode());
    let read = move |read| Event::SystemFilesRead(reading, read);
    beside(arguments, &briefing, events, read)
}

/// Runs a loader beside the loop that reads these sources of credentials alone. `reading` is the number of the
/// event with the result.
pub(super) fn start_reading_credentials(
    arguments: &Arguments,
    sources: Vec<Vec<u8>>,
    reading: u32,
    events: SyncSender<Event>,
) -> anyhow::Result<Loading> {
    let briefing = Briefing::Credentials {
        sources,
        environment: Arc::clone(&arguments.environment),
    };
    let read = move |read| Event::CredentialsRead(reading, read);
    beside(arguments, &Arc::new(briefing.encode()), events, read)
}

fn beside(
    arguments: &Arguments,
    briefing: &Arc<Zeroizing<Vec<u8>>>,
    events: SyncSender<Event>,
    event: impl FnOnce(anyhow::Result<Loaded>) -> Event + Send + 'static,
) -> anyhow::Result<Loading> {
    // On this thread, which lives as long as the monitor: the loader ends with the thread that
    // started it.
    let (loading, stdout) = Loading::begin(&mut loader(arguments)?, briefing)?;
    let working = Loading(Arc::clone(&loading.0));
    std::thread::spawn(move || {
        // A loop that has ended needs no result.
        let _ = events.send(event(working.finish(stdout, LOAD_TIMEOUT)));
    });
    Ok(loading)
}

fn loader(arguments: &Arguments) -> anyhow::Result<Command> {
    let mut command = privsep::command("loader")?;
    command.args(&arguments.words).arg(privsep::LOADER);
    // Everything else comes over the pipe.
    command.env_clear().envs(
        std::env::vars_os().filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed)),
    );
    Ok(command)
}

impl Loading {
    /// Starts a loader that reads `input`.
    fn begin(
        command: &mut Command,
        input: &Arc<Zeroizing<Vec<u8>>>,
    ) -> anyhow::Result<(Self, ChildStdout)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the loader")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let loading = Self(Arc::new(Mutex::new(child)));
        let (mut stdin, stdout) = pipes.context("the loader has no pipes")?;
        let input = Arc::clone(input);
        // On a thread: a loader that does not read must not block the monitor. When the loader
        // ends, so does the thread. Its status says more than a failed write.
        std::thread::Builder::new()
            .name("briefing".to_owned())
            .spawn(move || drop(stdin.write_all(&input)))
            .context("cannot start the thread that writes to the loader")?;
        Ok((loading, stdout))
    }

    fn finish(&self, mut stdout: ChildStdout, limit: Duration) -> anyhow::Result<Loaded> {
        let mut key = Scalar::default();
        let said = read(&mut stdout, &mut key, limit);
        // It has closed its output, so it is about to exit or unusable.
        let status = self.end().context("cannot wait for the loader")?;
        let said = said?;
        let Some((length, said)) = said.split_first_chunk() else {
            bail!("the loader failed ({status})");
        };
        if said.len() as u64 != u64::from_le_bytes(*length) {
            bail!("the loader failed ({status})");
        }
        Loaded::decode(&key, said).context("the loader's output is malformed")
    }

    /// Kills and reaps it. One that has ended already keeps its own status, and its process id
    /// until it is reaped here, so no other process can be killed.
    fn end(&self) -> std::io::Result<ExitStatus> {
        let mut child = self.0.lock();
        end_loader::kill(&mut child)?;
        child.wait()
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // The thread that waits for it reaps it, or has already.
        let _ = end_loader::kill(&mut self.0.lock());
    }
}

/// Reads the whole output. The first bytes go into `key` and nowhere else.
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
                "loading took longer than {}; see whether a file of the configuration is a pipe, or on a disk that \
                 does not answer",
                logging::duration_text(limit)
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
        if said.len() > MAX_OUTPUT {
            bail!("the loader's output is larger than {MAX_OUTPUT} bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn finish(script: &str, limit: Duration) -> (String, Loading) {
        let mut command = Command::new("sh");
        let input = Arc::default();
        let (loading, stdout) =
            Loading::begin(command.args(["-c", script]), &input).expect("a shell");
        let error = loading.finish(stdout, limit).expect_err("no settings");
        (format!("{error:#}"), loading)
    }

    #[test]
    fn c7_a_loader_that_takes_too_long_is_killed_and_reaped() {
        let (error, loading) = finish("exec sleep 1000", Duration::from_millis(50));
        assert!(error.contains("loading took longer than 50ms;"), "{error}");
        let status = loading.0.lock().try_wait();
        let signal = status.expect("our own child").and_then(|s| s.signal());
        assert_eq!(signal, Some(9));
    }

    #[test]
    fn c7_a_loader_that_does_not_read_holds_nothing_up() {
        // Far more than fits into a pipe.
        let input = Arc::new(Zeroizing::new(vec![0; 1 << 20]));
        let mut command = Command::new("sh");
        let command = command.args(["-c", "exec sleep 1000"]);
        let (loading, stdout) = Loading::begin(command, &input).expect("a shell");
        let error = loading.finish(stdout, Duration::from_millis(50));
        assert!(
            error
                .expect_err("no settings")
                .to_string()
                .contains("longer than")
        );
    }

    #[test]
    fn c7_a_loader_that_never_stops_talking_is_ended_too() {
        let (error, _) = finish("exec yes", Duration::from_millis(50));
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn c7_half_of_a_loaders_output_is_not_used() {
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
        assert!(error.contains("the layout of its operation"), "{error}");
    }
}
