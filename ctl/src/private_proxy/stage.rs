//! The process that becomes a private proxy.
//!
//! The protocol of `LISTEN_FDS` names the process that it is for, so this process prepares everything
//! and then replaces itself by the proxy. It asks the kernel to end it with `proxyctl`, which holds for
//! the proxy too.
//!
//! It is a fork of `proxyctl`, which no other process of the user may trace or dump, and executes a copy of the
//! proxy that the user may not read. So the kernel protects each of its moments (SPEC B4).

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, getpid, getppid, setsid};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Resource, getrlimit};

use crate::jail;

/// The first descriptor of the protocol.
const FIRST: i32 = 3;
/// Everybody may execute the copy of the program, and nobody may read it.
const EXECUTE_ONLY: u32 = 0o111;
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
        // Root may read every file, and every process.
        let is_user = !Uid::effective().is_root();
        let copy = is_user.then(|| unreadable_copy(self.program)).flatten();
        let copy_path = copy.as_ref().map(path_of);
        // A system may forbid programs that are no files. Then the proxy protects itself, once it runs.
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for program in copy_path.iter().map(PathBuf::as_path).chain([self.program]) {
            error = self.execute(program);
        }
        Err(error)
    }

    /// Executes this file. Returns the reason when that fails.
    fn execute(&self, file: &Path) -> io::Error {
        let mut command = Command::new(file);
        command.arg0(self.program).args(&self.arguments);
        command.env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in OF_THE_MANAGER {
            command.env_remove(name);
        }
        command
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "control")
            // It has no doors but those of sessions: others would be open to every user of the machine.
            .env("CODEX_NETWORK_PROXY_PRIVATE", "1")
            .exec()
    }
}

/// A copy of a program in memory. The kernel lets no other process of the user trace or dump a process that executes a
/// file which the user may not read, from the first moment on. `None` if the copy is not possible.
fn unreadable_copy(program: &Path) -> Option<File> {
    let mut source = File::open(program).ok()?;
    // The kernel ends a process that writes more.
    let limit = getrlimit(Resource::Fsize).current;
    if limit.is_some_and(|limit| source.metadata().is_ok_and(|file| file.len() > limit)) {
        return None;
    }
    let name = program.file_name()?;
    // From Linux 6.3 on, an administrator may want this said of files that are executed. Earlier ones refuse the flag.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let plain = MFdFlags::MFD_CLOEXEC;
    let made = memfd_create(name, plain | executable).or_else(|_| memfd_create(name, plain));
    let mut copy = File::from(made.ok()?);
    io::copy(&mut source, &mut copy).ok()?;
    copy.set_permissions(Permissions::from_mode(EXECUTE_ONLY))
        .ok()?;
    Some(copy)
}

/// Names an open file in this process, and in one that it becomes.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Stdio;

    use super::*;

    /// A user without rights.
    const NOBODY: u32 = 65_534;

    /// The owner of the memory of a process, which is root if it cannot be dumped.
    fn owner_of_memory(program: &Path) -> u32 {
        let mut command = Command::new(program);
        if Uid::effective().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command
            .arg0("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        // It is executed: `spawn` waits for that.
        let memory = std::fs::metadata(format!("/proc/{}/mem", child.id()));
        drop(child.stdin.take());
        child.wait().expect("our own child");
        memory.expect("our own child").uid()
    }

    #[test]
    fn b4_a_program_that_the_user_may_not_read_cannot_be_dumped_from_its_first_moment() {
        let program = Path::new("/bin/cat");
        assert_ne!(owner_of_memory(program), 0, "one that is readable");
        let copy = unreadable_copy(program).expect("Linux has files in memory");
        // The descriptor closes when the program begins.
        assert_eq!(
            owner_of_memory(&path_of(&copy)),
            0,
            "one that is not readable"
        );
    }
}
