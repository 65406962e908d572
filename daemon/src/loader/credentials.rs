//! Reads the sources of credentials that launchers do not give: files, programs and credentials of systemd
//! (SPEC B13).
//!
//! It happens where the configuration is read, with the same privilege. A source that cannot be read is no
//! error of the configuration: sessions have no dummy for its credential.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_network_config::{CredentialReading, CredentialSource, Secret, duration_text};
use codex_network_files::{Reading, Trust};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::privsep::briefing::Environment;

/// Most bytes of a source. A credential has at most 8 KiB.
const MAX_BYTES: u64 = 64 << 10;
/// The permissions of a file that other users may read or change.
const OF_OTHERS: u32 = 0o077;
/// How long a program may take to end once its output is closed.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of checks whether it has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The directory of the credentials of systemd.
const SYSTEMD_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// The variables of the service that a program gets, besides `PATH`.
const PASSED_ON: [&str; 6] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "LOGNAME",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];
/// Where a program looks for other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Reads these sources at the same time: a program may run for seconds.
pub(super) fn read(
    sources: Vec<CredentialSource>,
    environment: &Environment,
) -> Vec<CredentialReading> {
    thread::scope(|scope| {
        let readings = sources.into_iter().map(|source| {
            let kept = source.clone();
            let reading = thread::Builder::new().spawn_scoped(scope, || one(source, environment));
            (kept, reading)
        });
        let readings: Vec<_> = readings.collect();
        let finished = readings.into_iter().map(|(source, reading)| {
            let reading = reading.ok().and_then(|reading| reading.join().ok());
            reading.unwrap_or_else(|| result(source, Err("cannot be read: no thread".to_owned())))
        });
        finished.collect()
    })
}

fn one(source: CredentialSource, environment: &Environment) -> CredentialReading {
    let value = match &source {
        // The launcher gives it.
        CredentialSource::Environment => Err("is not in a source".to_owned()),
        CredentialSource::File(path) => file(path, FileRules::OwnerAlone),
        CredentialSource::SystemdCredential(name) => match environment.get(SYSTEMD_DIRECTORY) {
            Some(directory) => file(&PathBuf::from(directory).join(name), FileRules::Systemd),
            None => Err(format!(
                "cannot be read: the service has no credentials of systemd; add `LoadCredential={name}:/path` to \
                 its unit"
            )),
        },
        CredentialSource::Command { argv, timeout, .. } => program(argv, *timeout, environment),
    };
    result(source, value)
}

fn result(source: CredentialSource, value: Result<Secret, String>) -> CredentialReading {
    let value = value.and_then(|value| match value.expose() {
        [] => Err(format!("is empty ({source})")),
        _ => Ok(value),
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_secs());
    let read_at = if value.is_ok() { now } else { 0 };
    let failures = u64::from(value.is_err());
    let (value, failure) = match value {
        Ok(value) => (Some(value), None),
        Err(why) => (None, Some(Arc::from(why))),
    };
    CredentialReading {
        source,
        value,
        read_at: i64::try_from(read_at).unwrap_or(i64::MAX),
        failure,
        failures,
    }
}

/// Which permissions of a file are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileRules {
    /// Those for other users, as for the key of the CA.
    OwnerAlone,
    /// None: systemd gives the service's user access with a list that the mode does not show.
    Systemd,
}

fn file(path: &Path, rules: FileRules) -> Result<Secret, String> {
    let shown = path.display();
    let unreadable =
        |error: &dyn std::fmt::Display| format!("cannot be read from {shown}: {error}");
    let file = Reading::up_to(MAX_BYTES)
        .kept_by(Trust::of_process())
        .open(path)
        .map_err(|error| unreadable(&error))?;
    let mode = file.metadata().mode() & 0o7777;
    if rules == FileRules::OwnerAlone && mode & OF_OTHERS != 0 {
        return Err(format!(
            "is refused: {shown} has mode {mode:04o}, and only its owner may read it; chmod 600 {shown}"
        ));
    }
    let content = file.read().map_err(|error| unreadable(&error))?;
    Ok(without_line_end(&content))
}

/// The value without one line end at its end.
fn without_line_end(content: &[u8]) -> Secret {
    let line = content.strip_suffix(b"\n");
    let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Secret::new(line.unwrap_or(content).to_vec())
}

/// Runs a program, without a shell, and takes its standard output. Its standard error is discarded: it may
/// contain the value.
fn program(
    argv: &[String],
    timeout: Duration,
    environment: &Environment,
) -> Result<Secret, String> {
    let (name, arguments) = argv.split_first().ok_or("has no program")?;
    let trust = Trust::of_process();
    if trust.is_binding() {
        let checked = trust.check(Path::new(name));
        checked.map_err(|error| format!("is refused: root does not run {name}: {error}"))?;
    }
    let mut command = Command::new(name);
    command.args(arguments).env_clear().env("PATH", PATH);
    for variable in PASSED_ON {
        command.envs(environment.get(variable).map(|value| (variable, value)));
    }
    #[cfg(target_os = "linux")]
    super::end_with_loader::end_with_loader(&mut command);
    let started = command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Its own child processes end with it.
        .process_group(0)
        .spawn();
    let mut child = started.map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("cannot be read: {name} is not installed"),
        _ => format!("cannot be read: {name} cannot be started: {error}"),
    })?;
    let output = output(&mut child, timeout);
    let patience = output.as_ref().map_or(Duration::ZERO, |_| END_TIMEOUT);
    let status = end(&mut child, patience);
    let output = output.map_err(|why| format!("cannot be read: {name} {why}"))?;
    let status = status.map_err(|error| format!("cannot be read: {name}: {error}"))?;
    if !status.success() {
        return Err(format!("cannot be read: {name} failed ({status})"));
    }
    Ok(without_line_end(&output))
}

/// The standard output up to its end.
fn output(child: &mut Child, timeout: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (sender, ended) = mpsc::sync_channel(1);
    thread::Builder::new()
        .spawn(move || {
            // One allocation: a vector that grows leaves its old bytes behind.
            let capacity = usize::try_from(MAX_BYTES + 1).unwrap_or(usize::MAX);
            let mut output = Zeroizing::new(Vec::with_capacity(capacity));
            let read = stdout.take(MAX_BYTES + 1).read_to_end(&mut output);
            // After the time limit, the receiver is gone.
            let _ = sender.send(read.map(|_| output));
        })
        .map_err(|error| format!("has no thread: {error}"))?;
    match ended.recv_timeout(timeout) {
        Ok(Ok(output)) if output.len() as u64 > MAX_BYTES => {
            Err(format!("prints more than {} KiB", MAX_BYTES >> 10))
        }
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("has unreadable output: {error}")),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(format!("did not end within {}", duration_text(timeout)))
        }
    }
}

/// Waits for a program for a moment, and then kills it with everything that it started.
fn end(child: &mut Child, patience: Duration) -> std::io::Result<ExitStatus> {
    let mut waited = Duration::ZERO;
    while waited < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(CHECK_INTERVAL);
        waited += CHECK_INTERVAL;
    }
    // It was not waited for, so the number of its group is still its own.
    if let Ok(group) = i32::try_from(child.id()) {
        // All of it may have ended.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    child.wait()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn reading(source: CredentialSource) -> CredentialReading {
        let mut readings = read(vec![source], &Environment::default());
        readings.remove(0)
    }

    fn shell(script: &str) -> CredentialReading {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let timeout = Duration::from_millis(500);
        reading(CredentialSource::Command {
            argv,
            timeout,
            ttl: None,
        })
    }

    fn value(reading: &CredentialReading) -> Option<&[u8]> {
        assert_eq!(reading.value.is_some(), reading.read_at > 0);
        assert_eq!(reading.value.is_none(), reading.failure.is_some());
        reading.value.as_ref().map(Secret::expose)
    }

    fn failure(reading: &CredentialReading) -> &str {
        assert_eq!((value(reading), reading.failures), (None, 1));
        reading.failure.as_deref().expect("a failure")
    }

    #[test]
    fn b13_a_file_is_its_value_without_a_line_end_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let source = || CredentialSource::File(path.clone());
        assert!(failure(&reading(source())).starts_with("cannot be read from "));
        let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode));
        for (content, expected) in [("one\n", "one"), ("one\r\n", "one"), ("one\n\n", "one\n")] {
            fs::write(&path, content).expect("our own file");
            mode(0o600).expect("our own file");
            assert_eq!(value(&reading(source())), Some(expected.as_bytes()));
        }
        for others in [0o640, 0o604, 0o620] {
            mode(others).expect("our own file");
            let why = reading(source());
            // Root refuses a file that others may write before it looks at readers.
            assert!(failure(&why).contains("chmod "), "{why:?}");
        }
        mode(0o600).expect("our own file");
        fs::write(&path, "\n").expect("our own file");
        assert!(failure(&reading(source())).starts_with("is empty"));
        fs::write(&path, vec![b'x'; 65537]).expect("our own file");
        assert!(failure(&reading(source())).contains("larger than 64 KiB"));
    }

    #[test]
    fn b13_a_program_has_a_clean_environment_and_limits() {
        assert_eq!(value(&shell("echo one")), Some(&b"one"[..]));
        let shown = reading(CredentialSource::Command {
            argv: vec!["/usr/bin/env".to_owned()],
            timeout: Duration::from_secs(10),
            ttl: None,
        });
        let path = format!("PATH={PATH}");
        assert_eq!(value(&shown), Some(path.as_bytes()));
        let failed = shell("echo hunter2; echo hunter2 >&2; exit 3");
        assert!(failure(&failed).ends_with("failed (exit status: 3)"));
        assert!(!failure(&failed).contains("hunter2"));
        assert!(failure(&shell("exec tail -f /dev/null")).contains("did not end within 500ms"));
        assert!(failure(&shell("tail -f /dev/null & echo one")).contains("did not end within"));
        assert!(failure(&shell("exec cat /dev/zero")).contains("prints more than 64 KiB"));
        assert!(failure(&shell("true")).starts_with("is empty"));
        let missing = reading(CredentialSource::Command {
            argv: vec!["/nonexistent/tool".to_owned()],
            timeout: Duration::from_secs(1),
            ttl: None,
        });
        assert!(failure(&missing).contains("/nonexistent/tool"));
    }

    #[test]
    fn b13_without_credentials_of_systemd_the_remedy_is_named() {
        let missing = reading(CredentialSource::SystemdCredential("token".to_owned()));
        assert!(failure(&missing).contains("LoadCredential=token:/path"));
    }
}
