//! A terminal that a test drives, with `proxyctl` or a shell on its other side.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use e2e::wait::{TIMEOUT, poll};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll as poll_descriptors};
use nix::pty::{posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::User;
use parking_lot::Mutex;
use rustix::termios::Winsize;

use super::super::Installed;

/// The begin of the line that names the number of a question.
const INVITATION: &str = "proxyctl: type a letter and ";
/// A terminal without room for a key for so long is full: a reader makes some at once.
const FULL: Duration = Duration::from_millis(500);

pub(super) struct Terminal {
    pub(super) child: Child,
    keys: File,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    is_closed: Arc<AtomicBool>,
    before: Termios,
    /// The length of the text that was waited for.
    seen: Cell<usize>,
}

/// Leads the session of the terminal. A job in the background of a script ignores Ctrl-C, and its programs too.
fn leader() -> Command {
    let mut program = Command::new("env");
    program.args(["--default-signal=INT", "setsid", "--ctty"]);
    program
}

impl Terminal {
    /// Runs `proxyctl` with these arguments, which leads the session of the terminal.
    pub(super) fn start(installed: &Installed, arguments: &[&str]) -> Self {
        let mut program = leader();
        program
            .arg(installed.path().join("proxyctl"))
            .args(arguments);
        Self::run(installed, program)
    }

    /// The same as the user `nobody`. Needs root.
    pub(super) fn start_as_nobody(installed: &Installed, arguments: &[&str]) -> Self {
        let nobody = User::from_name("nobody").expect("a user database");
        let nobody = nobody.expect("every system has nobody");
        let mut program = leader();
        program
            .args(["setpriv", "--clear-groups", "--reuid"])
            .arg(nobody.uid.to_string())
            .arg("--regid")
            .arg(nobody.gid.to_string())
            .arg(installed.path().join("proxyctl"))
            .args(arguments);
        Self::run(installed, program)
    }

    /// Runs an interactive shell.
    pub(super) fn shell(installed: &Installed) -> Self {
        let mut program = leader();
        program.args(["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        Self::run(installed, program.env("PS1", "outside> "))
    }

    /// Runs a command line of a shell that has no jobs.
    pub(super) fn script(installed: &Installed, line: &str) -> Self {
        let mut program = leader();
        program.args(["sh", "-c", line]);
        Self::run(installed, program)
    }

    fn run(installed: &Installed, mut program: impl std::borrow::BorrowMut<Command>) -> Self {
        let program = program.borrow_mut();
        // No other program inherits it, so that the test can close it.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC);
        let master = master.expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master).expect("a terminal"))
            .expect("a terminal");
        let keys = File::from(OwnedFd::from(master));
        rustix::termios::tcsetwinsize(&keys, size(24, 80)).expect("a terminal");
        let before = tcgetattr(&keys).expect("a terminal");
        let copy = || slave.try_clone().expect("a descriptor");
        let child = program
            .env("TERM", "xterm")
            .env("XDG_RUNTIME_DIR", installed.path())
            .env("HOME", installed.path())
            .env_remove("CODEX_HOME")
            .current_dir("/")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("the program runs");
        // It holds copies of the terminal's descriptors.
        *program = Command::new("true");
        drop(slave);
        let mut screen = keys.try_clone().expect("a descriptor");
        let written = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&written);
        let is_closed = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&is_closed);
        let reader = thread::spawn(move || {
            let mut part = [0; 4096];
            while !stops.load(Ordering::Acquire) {
                let mut waiting = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
                // Not for ever: this descriptor keeps the terminal open.
                match poll_descriptors(&mut waiting, 20_u8) {
                    Ok(1..) => {}
                    _ => continue,
                }
                // Linux reports the end of the other side as an error.
                let Ok(length @ 1..) = screen.read(&mut part) else {
                    return;
                };
                shared.lock().extend_from_slice(&part[..length]);
            }
        });
        Self {
            child,
            keys,
            written,
            reader: Some(reader),
            is_closed,
            before,
            seen: Cell::new(0),
        }
    }

    /// Everything that was written so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock()).into_owned()
    }

    /// Waits for a text behind all that were waited for.
    #[track_caller]
    pub(super) fn shows(&self, text: &str) {
        let shown = poll(TIMEOUT, || {
            let all = self.text();
            let place = all.get(self.seen.get()..)?.find(text)?;
            Some(self.seen.get() + place + text.len())
        });
        let shown = shown.unwrap_or_else(|| {
            let all = self.text();
            panic!("{text:?} is not in {:?}", all.get(self.seen.get()..));
        });
        self.seen.set(shown);
    }

    /// Waits for a question, and returns its number.
    #[track_caller]
    pub(super) fn number(&self) -> u32 {
        // The last one: each line that is not an answer gets another.
        let found = poll(TIMEOUT, || {
            let all = self.text();
            let (_, rest) = all.rsplit_once(INVITATION)?;
            let (number, end) = rest.split_once(", such as r ")?;
            // Keys may be shown behind it by now. A line that has ended is that of an earlier question.
            (end.contains(": ") && !end.contains('\n')).then_some(())?;
            Some((all.len(), number.parse().ok()?))
        });
        let (seen, number) = found.unwrap_or_else(|| panic!("no question in {:?}", self.text()));
        self.seen.set(seen.max(self.seen.get()));
        number
    }

    #[track_caller]
    pub(super) fn types(&mut self, keys: &str) {
        assert!(
            self.has_room(TIMEOUT),
            "nothing reads it: {:?}",
            self.text()
        );
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Types the same key until the terminal takes no more, since nobody reads it.
    pub(super) fn types_until_full(&mut self, key: &str) {
        // One by one: with room for one, a longer text would wait.
        while self.has_room(FULL) {
            (&self.keys).write_all(key.as_bytes()).expect("a terminal");
        }
    }

    fn has_room(&self, within: Duration) -> bool {
        let mut waiting = [PollFd::new(self.keys.as_fd(), PollFlags::POLLOUT)];
        let within = PollTimeout::try_from(within).expect("a short time");
        matches!(poll_descriptors(&mut waiting, within), Ok(1..))
    }

    pub(super) fn resizes(&self, lines: u16, columns: u16) {
        rustix::termios::tcsetwinsize(&self.keys, size(lines, columns)).expect("a terminal");
    }

    pub(super) fn settings(&self) -> Termios {
        tcgetattr(&self.keys).expect("a terminal")
    }

    /// Waits for the end with this exit code, and checks that the terminal is as before.
    #[track_caller]
    pub(super) fn ends(mut self, code: i32) {
        let ended = poll(TIMEOUT, || self.child.try_wait().expect("our own child"));
        let ended = ended.unwrap_or_else(|| panic!("it goes on: {:?}", self.text()));
        assert_eq!(ended.code(), Some(code), "{:?}", self.text());
        assert_eq!(self.settings(), self.before);
    }

    /// Closes the terminal, as a window that is closed does. Returns the process.
    pub(super) fn closes(mut self) -> Child {
        self.is_closed.store(true, Ordering::Release);
        let reader = self.reader.take().expect("it was started");
        reader.join().expect("no panic");
        let null = File::open("/dev/null").expect("every system has it");
        drop(std::mem::replace(&mut self.keys, null));
        let child = Command::new("true").spawn().expect("a program");
        std::mem::replace(&mut self.child, child)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
