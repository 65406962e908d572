//! A terminal of the command's own (SPEC J9). Process 1 of the jail makes it, leads its session, and passes its other side
//! to `proxyctl`. The command is in a process group of that session, which a parent in the session can continue: so the
//! kernel lets it be stopped (`setpgid(2)`, orphaned process groups).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;

use nix::fcntl::OFlag;
use nix::pty::{posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::tcgetsid;
use nix::unistd::{Pid, getpid, setpgid, setsid, tcsetpgrp};

use crate::jail::frames::{self, Kind};

/// The side of the terminal that programs use. While it is open, the other side does not end.
pub(super) struct CommandTerminal(File);

impl CommandTerminal {
    /// Makes the terminal in the jail's own file system of terminals, and makes it the controlling terminal of this
    /// process. It takes the place of the launcher's terminal among the standard streams. Other streams stay.
    pub(super) fn open(stream: &UnixStream) -> io::Result<Self> {
        let [input, output, error] = [
            tcgetsid(io::stdin()).is_ok(),
            tcgetsid(io::stdout()).is_ok(),
            tcgetsid(io::stderr()).is_ok(),
        ];
        let other_side = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        unlockpt(&other_side)?;
        setsid()?;
        // The first terminal that the leader of a session opens is its controlling terminal.
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open(ptsname_r(&other_side)?)?;
        // Fails if it is not.
        tcgetsid(&terminal)?;
        if input {
            rustix::stdio::dup2_stdin(&terminal)?;
        }
        if output {
            rustix::stdio::dup2_stdout(&terminal)?;
        }
        if error {
            rustix::stdio::dup2_stderr(&terminal)?;
        }
        frames::send(stream, Kind::Terminal, &[], &[other_side.as_fd()])?;
        Ok(Self(terminal))
    }

    /// Moves the calling process, which becomes the command, into a process group of its own in the foreground.
    pub(super) fn give(&self) -> io::Result<()> {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        // Its signals are blocked, so it is not stopped for this.
        Ok(tcsetpgrp(&self.0, getpid())?)
    }
}
