//! The terminal that `proxyctl` was started from. Its settings are kept, and given back.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use codex_network_files::Reading;
use nix::fcntl::OFlag;
use nix::sys::stat::makedev;
use nix::sys::termios::{
    FlushArg, OutputFlags, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::termios::{Winsize, tcgetwinsize};

/// The field of `/proc/self/stat` with the controlling terminal, counted from the one behind the program's name.
const TERMINAL_FIELD: usize = 4;

/// The controlling terminal of this process. Dropping it gives its settings back.
#[derive(Debug)]
pub(crate) struct LauncherTerminal {
    file: File,
    device: u64,
    original: Termios,
    is_taken: bool,
}

/// Who may use the terminal at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreground {
    /// This process group.
    Own,
    /// Another one.
    Other,
    /// The terminal is gone.
    Gone,
}

impl LauncherTerminal {
    /// Opens the controlling terminal.
    ///
    /// # Errors
    ///
    /// This process has no controlling terminal.
    pub(crate) fn open() -> io::Result<Self> {
        // Without waiting: an open file of its own, so that no other process sees this setting.
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits())
            .open("/dev/tty")?;
        let original = tcgetattr(&file)?;
        Ok(Self {
            device: device()?,
            file,
            original,
            is_taken: false,
        })
    }

    /// This terminal, as if it were the controlling one and taken.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        let nonblocking = nix::fcntl::FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&file, nonblocking).expect("an open file");
        Self {
            device: 0,
            original: tcgetattr(&file).expect("a terminal"),
            file,
            is_taken: true,
        }
    }

    /// Its device number.
    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    /// Its settings as they were.
    pub(super) fn settings(&self) -> &Termios {
        &self.original
    }

    pub(super) fn size(&self) -> io::Result<Winsize> {
        Ok(tcgetwinsize(&self.file)?)
    }

    pub(super) fn foreground(&self) -> Foreground {
        match tcgetpgrp(&self.file) {
            Ok(group) if group == getpgrp() => Foreground::Own,
            Ok(_) => Foreground::Other,
            Err(_) => Foreground::Gone,
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Passes keys on as they are typed. SIGTTOU is blocked, so only a process in the foreground may call this.
    pub(super) fn take(&mut self) {
        let Ok(found) = tcgetattr(&self.file) else {
            return;
        };
        let mut raw = found.clone();
        cfmakeraw(&mut raw);
        // Another program of the pipeline may write to the terminal itself.
        if !io::stdout().is_terminal() {
            let processing = OutputFlags::OPOST | OutputFlags::ONLCR;
            raw.output_flags |= found.output_flags & processing;
        }
        if tcsetattr(&self.file, SetArg::TCSANOW, &raw).is_ok() {
            self.original = found;
            self.is_taken = true;
        }
    }

    /// Gives the settings back, and discards what was not read: it may be a reply of the terminal that the program has
    /// provoked, which the next reader, a shell, would take for a command. In the background both are another
    /// program's by now.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.is_taken) && self.foreground() == Foreground::Own {
            let _ = tcflush(&self.file, FlushArg::TCIFLUSH);
            let _ = tcsetattr(&self.file, SetArg::TCSANOW, &self.original);
        }
    }

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(into)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }
}

impl AsFd for LauncherTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for LauncherTerminal {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The device number of the controlling terminal. The file `/dev/tty` has another one.
fn device() -> io::Result<u64> {
    let stat = Reading::up_to(4096).read_text(Path::new("/proc/self/stat"));
    let stat = stat.map_err(io::Error::other)?;
    device_in(&stat).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Reads `PID (NAME) STATE PPID PGRP SESSION TTY …` (`proc_pid_stat(5)`). A name may contain anything.
fn device_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let number: i32 = fields
        .split_whitespace()
        .nth(TERMINAL_FIELD)?
        .parse()
        .ok()?;
    let number = u64::from(number.cast_unsigned());
    // Bits 31 to 20 and 7 to 0 are the minor number, and 19 to 8 the major one.
    let (major, minor) = (
        (number >> 8) & 0xfff,
        (number & 0xff) | ((number >> 12) & 0xf_ff00),
    );
    (number != 0).then(|| makedev(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q6_the_controlling_terminal_is_known_by_its_number() {
        for (stat, wanted) in [
            ("7 (a) S 1 7 7 34816 7 0", Some(makedev(136, 0))),
            ("7 (a) b) (S 1) S 1 7 7 34817 7 0", Some(makedev(136, 1))),
            ("7 (a) S 1 7 7 1025 7 0", Some(makedev(4, 1))),
            ("7 (a) S 1 7 7 1083393 7 0", Some(makedev(136, 0x101))),
            ("7 (a) S 1 7 7 0 -1 0", None),
            ("7 (a) S", None),
            ("", None),
        ] {
            assert_eq!(device_in(stat), wanted, "{stat}");
        }
    }
}
