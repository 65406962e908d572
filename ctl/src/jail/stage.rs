//! The side in the jail. `proxyctl` starts itself again with [`STAGE_ARGUMENT`], and this module is that
//! program.
//!
//! Three processes, each of one thread when it forks, from the outside in:
//! - The first stage makes the user, network, mount and IPC namespaces, brings the loopback interface up,
//!   loads the redirect rules and binds the listeners. It stays outside the process namespace.
//! - `init` is process 1 of the process namespace. It prepares the mounts, reaps what is left behind,
//!   performs the `connect` calls of the jail's programs on threads of its own (`supervisor`), and ends
//!   when the command ends, or when `proxyctl` or the first stage ends. The kernel then ends everything
//!   in the namespace.
//! - The command's process enters a second user namespace, which maps back to the caller's user, gives up
//!   all capabilities, puts the system call filter in force (`confine`), and executes the command.
//!
//! The outer user namespace owns the network and the mounts. The command is in the inner one, so it can
//! change neither and cannot trace `init`.

mod calls;
mod confine;
pub(super) mod identity;
mod init;
mod mounts;
mod network;
mod supervisor;
mod terminal;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

pub(crate) use calls::{close_from, fork};
pub(super) use confine::can_keep_signals_inside;

use super::frames::{self, Kind};
use super::{Confinement, JailError, JailPlan, listeners};

/// The first argument of a stage. It is not part of the command line that people use.
pub(crate) const STAGE_ARGUMENT: &str = "__jail";

/// The exit code when no jail can be made.
const CANNOT: u8 = 125;

/// Runs a stage. Its standard input is the socket to `proxyctl`.
pub(crate) fn run() -> ExitCode {
    // Nothing that `proxyctl` inherited goes on to the jail. This program has opened nothing yet.
    if close_from(3).and_then(|()| calls::keep_children()).is_err() {
        return ExitCode::from(CANNOT);
    }
    let Ok(stream) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::from(CANNOT);
    };
    let stream = UnixStream::from(stream);
    match first_stage(&stream) {
        Ok(code) => code,
        Err(error) => {
            // Without `proxyctl`, there is no reader.
            let _ = frames::send(&stream, Kind::Failed, error.encoded().as_bytes(), &[]);
            ExitCode::from(CANNOT)
        }
    }
}

fn first_stage(stream: &UnixStream) -> Result<ExitCode, JailError> {
    let broken = |error: io::Error| JailError::step("the stage cannot begin", &error);
    let plan = frames::receive(stream).map_err(broken)?;
    let plan = plan.filter(|frame| frame.kind == Kind::Plan);
    let plan = plan.ok_or_else(|| broken(frames::malformed()))?;
    let (parent, jail): (u32, JailPlan) =
        serde_json::from_slice(&plan.payload).map_err(|error| broken(error.into()))?;
    let [stdin] = plan.descriptors.as_slice() else {
        return Err(broken(frames::malformed()));
    };
    rustix::stdio::dup2_stdin(stdin).map_err(|error| broken(error.into()))?;
    drop(plan.descriptors);
    // The terminal's signals are for the command. This process ends with it.
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(|error| broken(error.into()))?;
    let caller = identity::Caller::current();
    if jail.confinement == Confinement::Jail {
        make_namespaces(stream, caller)?;
        end_with(parent)?;
        prepare_network(stream, &jail)?;
        unshare(CloneFlags::CLONE_NEWPID).map_err(|error| {
            JailError::namespaces("the kernel refuses a process namespace", &error.into())
        })?;
    } else {
        end_with(parent)?;
    }
    let child = fork().map_err(|error| JailError::step("cannot fork", &error))?;
    match child {
        None => Ok(init::run(stream, &jail, &init::Start { caller, mask })),
        // From here on, `init` sends the messages to `proxyctl`.
        Some(child) => Ok(wait_for(child)),
    }
}

/// Makes the kernel end this process with its parent.
fn end_with(parent: u32) -> Result<(), JailError> {
    let failed = |error: io::Error| JailError::step("cannot tie the jail to proxyctl", &error);
    // A change of user namespace clears it, so this comes after.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| failed(error.into()))?;
    // The parent may have ended before the kernel knew.
    if getppid().as_raw().cast_unsigned() == parent {
        Ok(())
    } else {
        Err(failed(io::Error::other("proxyctl has ended")))
    }
}

fn make_namespaces(stream: &UnixStream, caller: identity::Caller) -> Result<(), JailError> {
    let new = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC;
    unshare(new)
        .map_err(|error| JailError::namespaces("the kernel refuses a namespace", &error.into()))?;
    let failed =
        |error: io::Error| JailError::namespaces("the kernel refuses the user's mapping", &error);
    if caller.is_root() {
        frames::send(stream, Kind::Unshared, &[], &[]).map_err(failed)?;
        let answer = frames::receive(stream).map_err(failed)?;
        let mapped = answer.filter(|frame| frame.kind == Kind::Mapped);
        let mapped = mapped.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
        if mapped.payload == [1] {
            return Ok(());
        }
    }
    identity::write_as_root(caller).map_err(failed)
}

/// Prepares the network, and passes the listeners to `proxyctl`.
fn prepare_network(stream: &UnixStream, jail: &JailPlan) -> Result<(), JailError> {
    network::bring_up().map_err(|error| {
        JailError::namespaces("cannot bring the jail's loopback interface up", &error)
    })?;
    let rules = jail.transparent.then(network::start_rules);
    let doors = listeners::in_jail(jail)
        .map_err(|error| JailError::step("cannot bind a listener in the jail", &error))?;
    let not_transparent = rules.and_then(|rules| rules.and_then(network::finish_rules).err());
    let not_transparent = not_transparent.map(|reason| {
        format!("programs that ignore proxy variables reach nothing in the jail: {reason}")
    });
    let (kinds, sockets): (Vec<_>, Vec<_>) = doors
        .into_iter()
        .filter(|(door, _)| not_transparent.is_none() || *door != super::Door::Transparent)
        .unzip();
    let failed = |error: io::Error| JailError::step("cannot pass the listeners", &error);
    let encoded = serde_json::to_vec(&(kinds, not_transparent));
    let encoded = encoded.map_err(|error| failed(error.into()))?;
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    frames::send(stream, Kind::Doors, &encoded, &sockets).map_err(failed)
}

/// Waits for process 1 of the jail. That process reports how the command ended.
fn wait_for(child: Pid) -> ExitCode {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => return ExitCode::SUCCESS,
            Err(nix::Error::EINTR) => {}
            _ => return ExitCode::from(CANNOT),
        }
    }
}

/// The command and its environment, as [`Kind::Start`] has them.
struct CommandLine {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl CommandLine {
    fn read(payload: &[u8]) -> io::Result<Self> {
        let mut texts = frames::read_texts(payload)?.into_iter();
        let count = texts.next().and_then(|count| count.to_str()?.parse().ok());
        let count: usize = count.ok_or_else(frames::malformed)?;
        let command: Vec<OsString> = texts.by_ref().take(count).collect();
        if command.is_empty() || command.len() != count {
            return Err(frames::malformed());
        }
        let mut environment = Vec::new();
        while let Some(name) = texts.next() {
            environment.push((name, texts.next().ok_or_else(frames::malformed)?));
        }
        Ok(Self {
            command,
            environment,
        })
    }
}
