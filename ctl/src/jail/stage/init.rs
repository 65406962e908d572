//! Process 1 of the jail: prepares the mounts, starts the command, reaps what is left behind, and passes
//! on signals. With `--isolation env` it does the same outside any namespace.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgid, pipe2};
use rustix::process::{WaitOptions, wait};

use super::confine::{self, UnixSockets};
use super::identity::{self, Caller};
use super::terminal::CommandTerminal;
use super::{CANNOT, CommandLine, calls, mounts, supervisor};
use crate::jail::frames::{self, Kind};
use crate::jail::{Confinement, JailError, JailPlan, reaches_one_process};

/// How long a signal to the process group counts as the one that `proxyctl` forwards.
const SAME_SIGNAL_INTERVAL: Duration = Duration::from_millis(500);

/// Facts of the process that made the namespaces.
pub(super) struct Start {
    pub(super) caller: Caller,
    /// The signal mask that `proxyctl` was started with, which is the command's.
    pub(super) mask: SigSet,
}

/// Prepares the jail, waits for the command, and stays until it ends.
pub(super) fn run(stream: &UnixStream, jail: &JailPlan, given: &Start) -> ExitCode {
    match serve(stream, jail, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = frames::send(stream, Kind::Failed, error.encoded().as_bytes(), &[]);
            ExitCode::from(CANNOT)
        }
    }
}

fn serve(stream: &UnixStream, jail: &JailPlan, given: &Start) -> Result<(), JailError> {
    let failed = |error: Errno| JailError::step("cannot tie the jail to its stage", &error.into());
    // The stage may have ended before this. Then `proxyctl` closes the stream, which ends this process.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    if jail.confinement == Confinement::Jail {
        mounts::prepare(jail.hidden_terminal)
            .map_err(|error| JailError::namespaces("its mounts", &error))?;
    }
    let mut terminal = None;
    if jail.hidden_terminal.is_some() {
        let opened = CommandTerminal::open(stream);
        let failed = |error| JailError::step("cannot make a terminal for it", &error);
        terminal = Some(opened.map_err(failed)?);
    }
    let broken = |error: io::Error| JailError::step("the jail cannot start the command", &error);
    let Some(start) = frames::receive(stream).map_err(broken)? else {
        return Ok(());
    };
    if start.kind != Kind::Start {
        return Err(broken(frames::malformed()));
    }
    let line = CommandLine::read(&start.payload).map_err(broken)?;
    let own = SignalFd::with_flags(
        &SigSet::all(),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )
    .map_err(|error| broken(error.into()))?;
    let (command, from_the_group) =
        start_command(stream, jail, given, line, &own, terminal.as_ref()).map_err(broken)?;
    Supervisor {
        stream,
        confinement: jail.confinement,
        own,
        command,
        from_the_group,
        has_own_terminal: terminal.is_some(),
    }
    .until_the_end()
    .map_err(|error| JailError::step("its process 1 cannot go on", &error).of_running())
}

/// Starts the command's process. It waits until its inner user namespace has its maps. It gets the signals that came
/// before it existed.
fn start_command(
    stream: &UnixStream,
    jail: &JailPlan,
    given: &Start,
    line: CommandLine,
    own: &SignalFd,
    terminal: Option<&CommandTerminal>,
) -> io::Result<(Pid, GroupSignals)> {
    let (to_init, from_command) = pipe2(OFlag::O_CLOEXEC)?;
    let (to_command, from_init) = pipe2(OFlag::O_CLOEXEC)?;
    let Some(child) = calls::fork()? else {
        drop((to_init, from_init));
        let given_terminal = terminal.map_or(Ok(()), CommandTerminal::give);
        let confined =
            given_terminal.and_then(|()| confine_command(jail, from_command, to_command));
        let _ = match confined.map(|()| execute(line, &given.mask)) {
            Ok(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                frames::send_number(stream, Kind::NotStarted, number)
            }
            Err(error) => {
                let error = JailError::namespaces("cannot confine the command", &error);
                frames::send(stream, Kind::Failed, error.encoded().as_bytes(), &[])
            }
        };
        std::process::exit(i32::from(CANNOT));
    };
    // All signals are blocked in it until it begins the command, so one that reached it too counts once.
    let mut from_the_group = GroupSignals::new();
    from_the_group.note(own, jail.confinement, |number| {
        if let Ok(signal) = Signal::try_from(number)
            && signal != Signal::SIGCHLD
        {
            let _ = kill(child, signal);
        }
    });
    let probed = to_command.as_raw_fd();
    drop((from_command, to_command));
    if jail.confinement == Confinement::Jail {
        let (mut to_init, mut from_init) = (File::from(to_init), File::from(from_init));
        // The end without a byte means that the command's process has failed, and has said so.
        if to_init.read(&mut [0])? == 1 {
            identity::write_inner(child, given.caller)?;
            // Before the command begins. The files of a process that cannot be dumped belong to root, so
            // not before the maps are written.
            prctl::set_dumpable(false)?;
            let is_supervised = !jail.allow_unix_sockets && supervisor::is_possible(child, probed);
            from_init.write_all(&[u8::from(is_supervised)])?;
            if is_supervised && supervisor::start(child, &to_init)? {
                from_init.write_all(&[1])?;
            }
        }
    }
    Ok((child, from_the_group))
}

/// Confines this process. `init` writes the maps of the inner namespace in between, and then starts to
/// supervise the calls of `connect`, if it can.
fn confine_command(jail: &JailPlan, to_init: OwnedFd, from_init: OwnedFd) -> io::Result<()> {
    if jail.confinement == Confinement::Environment {
        return Ok(());
    }
    let (mut to_init, mut from_init) = (File::from(to_init), File::from(from_init));
    unshare(CloneFlags::CLONE_NEWUSER)?;
    to_init.write_all(&[1])?;
    let mut is_supervised = [0];
    from_init.read_exact(&mut is_supervised)?;
    let mut unix_sockets = if jail.allow_unix_sockets {
        UnixSockets::All
    } else {
        UnixSockets::Pairs
    };
    if is_supervised == [1] {
        prctl::set_no_new_privs()?;
        // A kernel permits one listener for a process, and a container may have it.
        let listener = calls::listen_for_connects();
        let number = listener.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        to_init.write_all(&number.to_le_bytes())?;
        if listener.is_ok() {
            from_init.read_exact(&mut [0])?;
            unix_sockets = UnixSockets::Supervised;
        }
    }
    confine::confine(unix_sockets)
}

/// Executes the command. Returns the reason when that fails.
fn execute(line: CommandLine, mask: &SigSet) -> io::Error {
    let [program, arguments @ ..] = line.command.as_slice() else {
        return frames::malformed();
    };
    if let Err(error) = mask.thread_set_mask() {
        return error.into();
    }
    // `exec` lets SIGPIPE end the command.
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(line.environment)
        .exec()
}

struct Supervisor<'a> {
    stream: &'a UnixStream,
    confinement: Confinement,
    own: SignalFd,
    command: Pid,
    from_the_group: GroupSignals,
    /// Whether the command is in a process group of its own.
    has_own_terminal: bool,
}

/// When this process last received each signal from another process.
struct GroupSignals([Option<Instant>; 65]);

impl GroupSignals {
    fn new() -> Self {
        Self([None; 65])
    }

    /// Reads this process's own signals, and shows each to `see`. Those of the terminal, and SIGCHLD, need no note.
    fn note(&mut self, own: &SignalFd, confinement: Confinement, mut see: impl FnMut(i32)) {
        while let Ok(Some(signal)) = own.read_signal() {
            if is_from_outside(confinement, &signal)
                && let Some(noted) = self.0.get_mut(signal.ssi_signo as usize)
            {
                *noted = Some(Instant::now());
            }
            see(signal.ssi_signo.cast_signed());
        }
    }

    /// Whether this process has just received the signal. It counts once.
    fn take_recent(&mut self, number: i32) -> bool {
        let place = usize::try_from(number).ok();
        let noted = place.and_then(|place| self.0.get_mut(place)?.take());
        noted.is_some_and(|at| at.elapsed() < SAME_SIGNAL_INTERVAL)
    }
}

/// Whether a process outside the jail has sent a signal to this one. Those inside have a number here; it is
/// true for `kill` alone, whose code the other calls cannot give.
fn is_from_outside(confinement: Confinement, signal: &libc::signalfd_siginfo) -> bool {
    if signal.ssi_code == libc::SI_KERNEL {
        return i32::try_from(signal.ssi_signo).is_ok_and(reaches_one_process);
    }
    confinement == Confinement::Environment
        || (signal.ssi_code == libc::SI_USER && signal.ssi_pid == 0)
}

impl Supervisor<'_> {
    /// Serves until the command or `proxyctl` ends.
    fn until_the_end(&mut self) -> io::Result<()> {
        loop {
            if self.reap()? {
                return Ok(());
            }
            let mut watched = [
                PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.own.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let message = watched[0].any().unwrap_or(false);
            self.from_the_group
                .note(&self.own, self.confinement, |_| {});
            if message {
                match frames::receive(self.stream)? {
                    Some(frame) if frame.kind == Kind::Signal => self.forward(frame.number()?),
                    Some(_) => return Err(frames::malformed()),
                    // `proxyctl` is gone.
                    None => return Ok(()),
                }
            }
        }
    }

    /// Reaps every process that has ended. Returns whether the command is among them.
    fn reap(&self) -> io::Result<bool> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        loop {
            // The command's process is a child until it is reaped here.
            let Some((process, status)) = wait(options)? else {
                return Ok(false);
            };
            if process.as_raw_nonzero().get() != self.command.as_raw() {
                continue;
            }
            if let Some(signal) = status.stopping_signal() {
                frames::send_number(self.stream, Kind::Stopped, signal)?;
            } else if let Some(signal) = status.terminating_signal() {
                frames::send_number(self.stream, Kind::Killed, signal)?;
                return Ok(true);
            } else if let Some(status) = status.exit_status() {
                frames::send_number(self.stream, Kind::Exited, status)?;
                return Ok(true);
            }
        }
    }

    /// Passes a signal to the command, unless the whole process group has received it.
    fn forward(&mut self, number: i32) {
        let Ok(signal) = Signal::try_from(number) else {
            return;
        };
        if self.has_own_terminal {
            // A shell in the jail may have moved into another group, and any of it may have ended just now.
            if killpg(self.command, signal).is_err() {
                let _ = kill(self.command, signal);
            }
            return;
        }
        let is_recent = self.from_the_group.take_recent(number);
        let same_group = getpgid(Some(self.command)) == getpgid(None);
        if !(is_recent && same_group) {
            // It may have ended just now.
            let _ = kill(self.command, signal);
        }
    }
}
