//! The process that becomes a private proxy.
//!
//! The protocol of `LISTEN_FDS` names the process that it is for, so this process prepares everything
//! and then replaces itself by the proxy. It asks the kernel to end it with `proxyctl`, which holds for
//! the proxy too.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getppid, setsid};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::jail;

/// The hidden word of the command line.
pub(super) const ARGUMENT: &str = "__private-proxy";
/// The first descriptor of the protocol.
const FIRST: i32 = 3;
/// Variables of the service manager that runs `proxyctl`. They are not for this proxy.
const OF_THE_MANAGER: [&str; 9] = [
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Becomes the proxy: `PARENT PROGRAM ARGUMENTS…`, with the control socket as standard input.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let Err(error) = become_proxy(arguments);
    // `proxyctl` reads it.
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn become_proxy(arguments: &[OsString]) -> io::Result<std::convert::Infallible> {
    let [parent, program, arguments @ ..] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // The parent may have ended before the kernel was asked.
    if parent.to_str() != Some(&getppid().to_string()) {
        return Err(io::Error::other("proxyctl has ended"));
    }
    setsid()?;
    // This program has opened nothing yet. The socket gets the first number.
    jail::close_from(3)?;
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    if control.as_raw_fd() != FIRST {
        return Err(io::Error::other("descriptors are in use"));
    }
    fcntl_setfd(&control, FdFlags::empty())?;
    rustix::stdio::dup2_stdin(std::fs::File::options().write(true).open("/dev/null")?)?;
    let mut command = Command::new(program);
    for name in OF_THE_MANAGER {
        command.env_remove(name);
    }
    Err(command
        .args(arguments)
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "control")
        // It has no doors but those of sessions: others would be open to every user of the machine.
        .env("CODEX_NETWORK_PROXY_PRIVATE", "1")
        .exec())
}
