//! The process that becomes a private proxy.
//!
//! The protocol of `LISTEN_FDS` names the process that it is for, so this process prepares everything
//! and then replaces itself by the proxy. It asks the kernel to end it with `proxyctl`, which holds for
//! the proxy too.
//!
//! It is a fork of `proxyctl`, which no other process of the user may trace or dump (SPEC B4). The proxy protects
//! itself as its first act.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid, setsid};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::jail;

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

/// The program, the arguments and the descriptors of a private proxy.
#[derive(Debug)]
pub(super) struct ProxyStart<'p> {
    pub(super) program: &'p Path,
    pub(super) arguments: Vec<OsString>,
    /// Its whole environment, but for the variables of the protocol.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The control socket.
    pub(super) control: OwnedFd,
    /// Its standard error.
    pub(super) log: PipeWriter,
}

/// A process of this module, until it is reaped.
#[derive(Debug)]
pub(super) struct ProxyProcess {
    pid: Pid,
    is_reaped: bool,
}

impl ProxyStart<'_> {
    /// Starts the proxy. Call it while this process has one thread.
    pub(super) fn start(self) -> io::Result<ProxyProcess> {
        let proxyctl = getpid();
        if let Some(pid) = jail::fork()? {
            return Ok(ProxyProcess {
                pid,
                is_reaped: false,
            });
        }
        let Err(error) = self.become_proxy(proxyctl);
        // `proxyctl` reads it.
        let _ = writeln!(io::stderr(), "{error}");
        // Nothing of the parent is dropped here.
        std::process::exit(1)
    }

    fn become_proxy(&self, proxyctl: Pid) -> io::Result<std::convert::Infallible> {
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have ended before the kernel was asked.
        if getppid() != proxyctl {
            return Err(io::Error::other("proxyctl has ended"));
        }
        setsid()?;
        let null = || File::options().write(true).open("/dev/null");
        rustix::stdio::dup2_stdin(&self.control)?;
        rustix::stdio::dup2_stdout(null()?)?;
        rustix::stdio::dup2_stderr(&self.log)?;
        // The socket gets the first number.
        jail::close_from(3)?;
        let control = io::stdin().as_fd().try_clone_to_owned()?;
        if control.as_raw_fd() != FIRST {
            return Err(io::Error::other("descriptors are in use"));
        }
        fcntl_setfd(&control, FdFlags::empty())?;
        rustix::stdio::dup2_stdin(null()?)?;
        let mut command = Command::new(self.program);
        command.args(&self.arguments);
        command.env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in OF_THE_MANAGER {
            command.env_remove(name);
        }
        Err(command
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "control")
            // It has no doors but those of sessions: others would be open to every user of the machine.
            .env("CODEX_NETWORK_PROXY_PRIVATE", "1")
            .exec())
    }
}

impl ProxyProcess {
    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Whether it has ended. Does not wait.
    pub(super) fn has_ended(&mut self) -> bool {
        self.reap(Some(WaitPidFlag::WNOHANG))
    }

    /// Asks it to end.
    pub(super) fn end(&mut self) {
        if !self.has_ended() {
            let _ = kill(self.pid, Signal::SIGTERM);
        }
    }

    /// Kills it, and waits for its end.
    pub(super) fn kill(&mut self) {
        if self.has_ended() {
            return;
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        while !self.reap(None) {}
    }

    fn reap(&mut self, flags: Option<WaitPidFlag>) -> bool {
        if !self.is_reaped {
            self.is_reaped = !matches!(
                waitpid(self.pid, flags),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR)
            );
        }
        self.is_reaped
    }
}
