//! The side of `proxyctl`: starts the stage, receives its listeners, starts the command, forwards
//! signals, and waits.
//!
//! A signal that the terminal sends reaches the command without help, since the command is in the same
//! process group. Every other signal is forwarded, and so is a hangup: when a terminal closes, the leader of
//! its session may be the only process that gets it. `proxyctl` stops when the command has stopped, so that
//! the shell takes the terminal back at the right time.
//!
//! A command with a terminal of its own is in another process group. No signal of the launcher's terminal reaches it
//! without help, so all are forwarded. What is typed and shown goes through a [`TerminalRelay`].

use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getegid;

use super::early_signals::EarlySignals;
use super::frames::{self, Frame, Kind};
use super::relay::TerminalRelay;
use super::stage::identity;
use super::stage::{STAGE_ARGUMENT, can_keep_signals_inside};
use super::stop::{stop_group_too, stop_too};
use super::{
    Confinement, Door, JailError, JailPlan, listeners, reaches_one_process, standard_streams,
};

/// Signals that go on to the command.
const FORWARDED: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
];

const SIGNALS_LEAVE: &str = "the program can signal the processes of its process group outside the jail: \
                             before Linux 6.12, or without Landlock, the kernel cannot prevent that";

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It could not be started: not found, or not executable.
    NotStarted(io::Error),
}

impl Ended {
    /// The exit status that a shell would report: 126 and 127 for a command that did not start, and
    /// 128 and the number of a signal.
    pub(crate) fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Exited(status) => *status,
            Self::Killed(signal) => 128 + signal,
            Self::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => 127,
            Self::NotStarted(_) => 126,
        };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }
}

/// A jail whose listeners exist and whose command waits. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct PreparedJail {
    stage: Stage,
    early: EarlySignals,
    /// The listeners of the doors.
    pub(crate) doors: Vec<(Door, OwnedFd)>,
    /// Why there is no transparent door, if one was wanted: a sentence for the user.
    pub(crate) not_transparent: Option<String>,
    /// Which signals leave the jail, if any do: a sentence for the user.
    pub(crate) signals_leave: Option<&'static str>,
    /// The other side of the command's own terminal, if the plan wants one.
    pub(crate) terminal: Option<OwnedFd>,
}

/// A jail whose command runs. Dropping it ends the command and everything that it started.
#[derive(Debug)]
pub(crate) struct RunningJail(Stage);

/// Ends a jail from another thread.
#[derive(Debug)]
pub(crate) struct JailEnd(UnixStream);

#[derive(Debug)]
struct Stage {
    child: Child,
    stream: UnixStream,
    signals: SignalFd,
    former_mask: SigSet,
}

/// Makes a jail up to the point where its command could start. Call this on the main thread, which must
/// outlive the jail, before other threads exist: from here on signals are blocked, until the jail is dropped. Until
/// the command starts they act as usual; then [`RunningJail::wait`] passes them on.
///
/// # Errors
///
/// One line that says why, with the remedy.
pub(crate) fn prepare(plan: &JailPlan) -> Result<PreparedJail, JailError> {
    if plan.confinement == Confinement::Jail {
        standard_streams::check()?;
    }
    let cannot_start = |error: io::Error| JailError::step("cannot start the first stage", &error);
    let stage = Stage::start().map_err(cannot_start)?;
    let early = EarlySignals::obey(&watched_signals()).map_err(cannot_start)?;
    let encoded = serde_json::to_vec(&(std::process::id(), plan));
    let encoded = encoded.map_err(|error| cannot_start(error.into()))?;
    let stdin = io::stdin();
    frames::send(&stage.stream, Kind::Plan, &encoded, &[stdin.as_fd()]).map_err(cannot_start)?;
    if plan.confinement == Confinement::Environment {
        let doors = listeners::outside(plan)
            .map_err(|error| JailError::step("cannot bind a listener", &error))?;
        return Ok(PreparedJail {
            stage,
            early,
            doors,
            not_transparent: None,
            signals_leave: None,
            terminal: None,
        });
    }
    let has_terminal = plan.hidden_terminal.is_some();
    loop {
        let frame = stage.receive()?;
        match frame.kind {
            Kind::Unshared => {
                let mapped = identity::write_whole(stage.child.id());
                frames::send(
                    &stage.stream,
                    Kind::Mapped,
                    &[u8::from(mapped.is_ok())],
                    &[],
                )
                .map_err(cannot_start)?;
            }
            Kind::Doors => {
                let (kinds, not_transparent): (Vec<Door>, Option<String>) =
                    serde_json::from_slice(&frame.payload)
                        .map_err(|error| cannot_start(error.into()))?;
                if kinds.len() != frame.descriptors.len() {
                    return Err(cannot_start(frames::malformed()));
                }
                let terminal = if has_terminal {
                    Some(stage.receive_terminal()?)
                } else {
                    None
                };
                return Ok(PreparedJail {
                    stage,
                    early,
                    doors: kinds.into_iter().zip(frame.descriptors).collect(),
                    not_transparent,
                    // With a terminal of its own, the command is in a process group of its own.
                    signals_leave: (!has_terminal && !can_keep_signals_inside())
                        .then_some(SIGNALS_LEAVE),
                    terminal,
                });
            }
            _ => return Err(cannot_start(frames::malformed())),
        }
    }
}

impl PreparedJail {
    /// Starts the command (its name and arguments) with exactly this environment. The name is looked up in
    /// the `PATH` of that environment.
    ///
    /// # Errors
    ///
    /// When the stage has ended.
    pub(crate) fn start(
        self,
        command: &[OsString],
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<RunningJail, JailError> {
        let failed = |error: io::Error| JailError::step("cannot start the command", &error);
        let mut texts = vec![OsString::from(command.len().to_string())];
        texts.extend(command.iter().cloned());
        for (name, value) in environment {
            texts.extend([name, value]);
        }
        let texts = frames::write_texts(&texts).map_err(failed)?;
        drop(self.early);
        frames::send(&self.stage.stream, Kind::Start, &texts, &[]).map_err(failed)?;
        Ok(RunningJail(self.stage))
    }
}

impl RunningJail {
    /// The means to end it from another thread.
    ///
    /// # Errors
    ///
    /// This process has too many descriptors.
    pub(crate) fn end_handle(&self) -> Result<JailEnd, JailError> {
        let stream = self.0.stream.try_clone();
        let failed = |error: io::Error| JailError::step("cannot watch the session", &error);
        Ok(JailEnd(stream.map_err(failed)?))
    }

    /// Waits for the command. Forwards signals meanwhile, and stops with the command. Serves the command's own
    /// terminal, if it has one. Blocks the thread.
    ///
    /// # Errors
    ///
    /// When the jail ended without a word of its command.
    pub(crate) fn wait(
        &mut self,
        mut terminal: Option<&mut (dyn TerminalRelay + 'static)>,
    ) -> Result<Ended, JailError> {
        if let Some(terminal) = terminal.as_deref_mut() {
            terminal.take();
        }
        let ended = self.0.until_the_end(terminal.as_deref_mut());
        // The stage ends when nothing of the jail is left.
        let _ = self.0.child.wait();
        if let Some(terminal) = terminal {
            terminal.finish();
        }
        ended
    }
}

impl JailEnd {
    /// Ends the command and everything that it started. [`RunningJail::wait`] returns when they are gone.
    pub(crate) fn end(&self) {
        // It fails if the jail has ended.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Stage {
    fn start() -> io::Result<Self> {
        let forwarded = watched_signals();
        let (stream, theirs) = UnixStream::pair()?;
        let child = forked(&mut Command::new("/proc/self/exe"))
            .arg(STAGE_ARGUMENT)
            // Without isolation, the command can read it. It may hold credentials.
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        // Not before: the stage inherits the mask, and passes it on to the command.
        let former_mask = forwarded.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let signals =
            SignalFd::with_flags(&forwarded, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self {
            child,
            stream,
            signals,
            former_mask,
        })
    }

    /// The stage's next message. Its failure is an error.
    fn receive(&self) -> Result<Frame, JailError> {
        Self::checked(frames::receive(&self.stream))
    }

    fn receive_terminal(&self) -> Result<OwnedFd, JailError> {
        let failed = |error: io::Error| JailError::step("cannot make a terminal for it", &error);
        let frame = self.receive()?;
        let mut descriptors = frame.descriptors.into_iter();
        let terminal = descriptors.next().filter(|_| frame.kind == Kind::Terminal);
        terminal.ok_or_else(|| failed(frames::malformed()))
    }

    fn checked(received: io::Result<Option<Frame>>) -> Result<Frame, JailError> {
        match received {
            Ok(Some(frame)) if frame.kind == Kind::Failed => {
                Err(JailError::decoded(&frame.payload))
            }
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(JailError::without_remedy("it ended unexpectedly")),
            Err(error) => Err(JailError::step("its first stage failed", &error)),
        }
    }

    fn until_the_end(
        &mut self,
        mut terminal: Option<&mut (dyn TerminalRelay + 'static)>,
    ) -> Result<Ended, JailError> {
        loop {
            let mut watched = vec![
                PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let mut timeout = PollTimeout::NONE;
            if let Some(terminal) = terminal.as_deref() {
                watched.extend(terminal.watched());
                timeout = terminal.timeout();
            }
            match poll(&mut watched, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(JailError::step("cannot wait", &error.into())),
            }
            let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
            let [frame, signal] = [is_ready(&watched[0]), is_ready(&watched[1])];
            drop(watched);
            if signal {
                self.forward_signals(terminal.as_deref_mut());
            }
            if let Some(terminal) = terminal.as_deref_mut() {
                terminal.serve();
            }
            if frame {
                let received = frames::receive(&self.stream);
                let has_said_why =
                    matches!(&received, Ok(Some(frame)) if frame.kind == Kind::Failed);
                let frame = Self::checked(received).map_err(|error| {
                    // The stage knows whether the command had begun.
                    if has_said_why {
                        error
                    } else {
                        error.of_running()
                    }
                })?;
                let failed = |error: io::Error| JailError::step("its stage failed", &error);
                let number = frame.number().map_err(failed)?;
                match frame.kind {
                    Kind::Stopped => match terminal.as_deref_mut() {
                        None => stop_too(number),
                        Some(terminal) => self.stop_with_terminal(number, terminal),
                    },
                    Kind::Exited => return Ok(Ended::Exited(number)),
                    Kind::Killed => return Ok(Ended::Killed(number)),
                    Kind::NotStarted => {
                        return Ok(Ended::NotStarted(io::Error::from_raw_os_error(number)));
                    }
                    _ => return Err(failed(frames::malformed())),
                }
            }
        }
    }

    /// Gives the terminal back while this process is stopped.
    fn stop_with_terminal(&mut self, number: i32, terminal: &mut (dyn TerminalRelay + 'static)) {
        terminal.release();
        stop_group_too(number);
        // In an orphaned process group, the kernel stops nothing. The command goes on then too.
        if !self.forward_signals(Some(&mut *terminal)) {
            let _ = frames::send_number(&self.stream, Kind::Signal, libc::SIGCONT);
        }
        terminal.take();
    }

    /// Returns whether one of the signals continues a process.
    fn forward_signals(
        &mut self,
        mut terminal: Option<&mut (dyn TerminalRelay + 'static)>,
    ) -> bool {
        let mut continues = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let Ok(number) = i32::try_from(signal.ssi_signo) else {
                continue;
            };
            continues |= number == libc::SIGCONT;
            let goes_on = match terminal.as_deref_mut() {
                None => signal.ssi_code != libc::SI_KERNEL || reaches_one_process(number),
                Some(terminal) if number == libc::SIGWINCH => {
                    terminal.resized();
                    false
                }
                // These are about this process and the launcher's terminal.
                Some(_) => ![libc::SIGTTIN, libc::SIGTTOU].contains(&number),
            };
            if goes_on {
                // When the jail has ended, the next frame says so.
                let _ = frames::send_number(&self.stream, Kind::Signal, number);
            }
        }
        continues
    }
}

/// Lets a command start by `fork`, and not by `vfork`, which the library prefers. A terminal may stop the child before
/// it begins its program. With `vfork` its parent then waits in the kernel and does not stop, so no shell continues
/// them. The group stays as it is.
pub(crate) fn forked(command: &mut Command) -> &mut Command {
    command.gid(getegid().as_raw())
}

/// The signals that this process blocks and reads.
fn watched_signals() -> SigSet {
    let mut signals: SigSet = FORWARDED.into_iter().collect();
    signals.add(Signal::SIGTTOU);
    signals
}

/// The stage ends when it reads the end of its stream, and everything in the jail with it.
impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.child.wait();
        let _ = self.former_mask.thread_set_mask();
    }
}
