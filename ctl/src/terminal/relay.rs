//! Moves bytes between the launcher's terminal and the program's, and shows questions in between.
//!
//! While a question is open, nothing is read from the program's terminal: its output waits in the kernel, and the
//! program waits when that is full. What was typed before belongs to the program. What is typed then belongs to the
//! question.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, tcsetattr};
use rustix::termios::tcsetwinsize;

use super::launcher::{Foreground, LauncherTerminal};
use super::prompt::{AskedQuestion, Choice, Effect, Prompt, remark};
use super::questions::{GivenAnswer, News, QuestionDesk, Questions, sides};
use crate::jail::TerminalRelay;

/// How many bytes wait in each direction.
const MAX_WAITING: usize = 16 << 10;
/// Bytes of one read.
const PART: usize = 4096;
/// Interval of checks whether this process has come into the foreground: no signal tells. In milliseconds.
const FOREGROUND_INTERVAL: u16 = 300;

/// How long the result of an answer may take after the end of the program. In milliseconds.
const RESULT_TIMEOUT: u16 = 2000;

/// The relay of one program.
#[derive(Debug)]
pub(crate) struct Relay {
    launcher: LauncherTerminal,
    /// The other side of the program's terminal, until one of the two terminals is gone.
    program: Option<File>,
    /// For the program.
    typed: VecDeque<u8>,
    /// For the launcher's terminal.
    shown: VecDeque<u8>,
    questions: Questions,
    waiting: VecDeque<AskedQuestion>,
    asking: Asking,
}

/// The question on the terminal.
#[derive(Debug)]
enum Asking {
    Nothing,
    /// It waits for the user.
    User(Prompt),
    /// The answer to this question is on its way to the proxy.
    Proxy(String),
}

impl Relay {
    /// A relay that has no program yet, and the other side of its questions.
    ///
    /// # Errors
    ///
    /// This process has too many descriptors.
    pub(crate) fn new(launcher: LauncherTerminal) -> io::Result<(Self, QuestionDesk)> {
        let (desk, questions) = sides()?;
        let relay = Self {
            launcher,
            program: None,
            typed: VecDeque::new(),
            shown: VecDeque::new(),
            questions,
            waiting: VecDeque::new(),
            asking: Asking::Nothing,
        };
        Ok((relay, desk))
    }

    /// The device number of the launcher's terminal.
    pub(crate) fn device(&self) -> u64 {
        self.launcher.device()
    }

    /// Connects the program's terminal, which gets the settings and the size of the launcher's.
    ///
    /// # Errors
    ///
    /// The terminal cannot be used.
    pub(crate) fn connect(&mut self, program: OwnedFd) -> io::Result<()> {
        let flags = OFlag::from_bits_truncate(fcntl(&program, FcntlArg::F_GETFL)?);
        fcntl(&program, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        tcsetattr(&program, SetArg::TCSANOW, self.launcher.settings())?;
        self.program = Some(File::from(program));
        self.resized();
        Ok(())
    }

    fn is_asking(&self) -> bool {
        !matches!(self.asking, Asking::Nothing)
    }

    /// Reads what was typed. It belongs to the question that is open, or to the program.
    fn read_keys(&mut self) {
        let mut part = [0; PART];
        while self.launcher.is_taken() && self.typed.len() < MAX_WAITING {
            match self.launcher.read(&mut part) {
                Ok(0) => return self.hang_up(),
                Ok(length) => self.type_keys(&part[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Another process group has the terminal, or it is gone.
                Err(_) => return self.look_who_has_it(),
            }
        }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        for (place, key) in keys.iter().enumerate() {
            let Asking::User(prompt) = &mut self.asking else {
                self.typed.extend(&keys[place..]);
                return;
            };
            let mut echo = String::new();
            let effect = prompt.press(*key, &mut echo);
            self.shown.extend(echo.as_bytes());
            match effect {
                Effect::None => {}
                Effect::Interrupted(key) => {
                    self.leave();
                    self.typed.push_back(key);
                }
                Effect::Chosen(Choice::Leave) => self.leave(),
                Effect::Chosen(choice) => {
                    let id = prompt.id().to_owned();
                    self.asking = Asking::Proxy(id.clone());
                    self.questions.give(GivenAnswer { id, choice });
                }
            }
        }
    }

    /// Closes the question on the terminal without an answer.
    fn leave(&mut self) {
        self.asking = Asking::Nothing;
        self.say("the question stays open");
    }

    fn say(&mut self, text: &str) {
        self.shown.extend(remark(text).as_bytes());
    }

    fn read_news(&mut self) {
        while let Some(news) = self.questions.next() {
            match news {
                News::Asked(question) => self.waiting.push_back(question),
                News::Closed { id, said } => {
                    self.waiting.retain(|question| question.id != id);
                    let is_shown = match &self.asking {
                        Asking::Nothing => false,
                        Asking::User(prompt) => prompt.id() == id,
                        Asking::Proxy(asked) => *asked == id,
                    };
                    if is_shown {
                        self.asking = Asking::Nothing;
                        self.say(&said);
                    }
                }
            }
        }
    }

    /// Shows the next question. What was typed before goes to the program.
    fn ask(&mut self) {
        if self.is_asking() || !self.launcher.is_taken() {
            return;
        }
        if let Some(question) = self.waiting.pop_front() {
            self.read_keys();
            let prompt = Prompt::new(question);
            self.shown.extend(prompt.text().as_bytes());
            self.asking = Asking::User(prompt);
        }
    }

    fn read_output(&mut self) {
        let mut part = [0; PART];
        while !self.is_asking() && self.shown.len() < MAX_WAITING {
            let Some(program) = &mut self.program else {
                return;
            };
            match program.read(&mut part) {
                Ok(length @ 1..) => self.shown.extend(&part[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The last process with the terminal has ended.
                Ok(0) | Err(_) => self.program = None,
            }
        }
    }

    fn write_all(&mut self) {
        if let Some(program) = &mut self.program
            && flush(&mut self.typed, |bytes| program.write(bytes)).is_err()
        {
            self.program = None;
        }
        let launcher = &self.launcher;
        if flush(&mut self.shown, |bytes| launcher.write(bytes)).is_err() {
            self.hang_up();
        }
    }

    fn look_who_has_it(&mut self) {
        match self.launcher.foreground() {
            Foreground::Own if !self.launcher.is_taken() => {
                self.launcher.take();
                self.resized();
                // Others may have written over it.
                if let Asking::User(prompt) = &self.asking {
                    self.shown.extend(prompt.text().as_bytes());
                }
            }
            Foreground::Own => {}
            Foreground::Other => self.launcher.give_back(),
            Foreground::Gone => self.hang_up(),
        }
    }

    /// The launcher's terminal is gone, and so the program's goes too.
    fn hang_up(&mut self) {
        self.program = None;
        self.shown.clear();
        self.typed.clear();
        self.asking = Asking::Nothing;
        self.waiting.clear();
        self.launcher.give_back();
    }
}

impl TerminalRelay for Relay {
    fn watched(&self) -> Vec<PollFd<'_>> {
        let mut watched = vec![PollFd::new(self.questions.as_fd(), PollFlags::POLLIN)];
        let mut add = |descriptor, reads: bool, writes: bool| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, reads);
            events.set(PollFlags::POLLOUT, writes);
            // The end of a terminal is reported even if nothing else is.
            if !events.is_empty() {
                watched.push(PollFd::new(descriptor, events));
            }
        };
        if let Some(program) = &self.program {
            let reads = self.launcher.is_taken() && self.typed.len() < MAX_WAITING;
            add(self.launcher.as_fd(), reads, !self.shown.is_empty());
            let reads = !self.is_asking() && self.shown.len() < MAX_WAITING;
            add(program.as_fd(), reads, !self.typed.is_empty());
        }
        watched
    }

    fn timeout(&self) -> PollTimeout {
        if self.launcher.is_taken() || self.program.is_none() {
            PollTimeout::NONE
        } else {
            FOREGROUND_INTERVAL.into()
        }
    }

    fn serve(&mut self) {
        if self.program.is_none() {
            // Its questions need no reader, but a queue that is not read would wake this process again and again.
            while self.questions.next().is_some() {}
            return;
        }
        self.look_who_has_it();
        self.read_keys();
        self.read_news();
        self.ask();
        self.read_output();
        self.write_all();
    }

    fn resized(&mut self) {
        if let (Some(program), Ok(size)) = (&self.program, self.launcher.size()) {
            // The kernel tells the programs of this terminal, if the size is another one.
            let _ = tcsetwinsize(program, size);
        }
    }

    fn release(&mut self) {
        self.read_output();
        self.write_all();
        self.launcher.give_back();
    }

    fn take(&mut self) {
        if self.program.is_some() {
            self.look_who_has_it();
        }
    }

    fn finish(&mut self) {
        if matches!(self.asking, Asking::User(_)) {
            self.asking = Asking::Nothing;
            self.say("the program has ended");
        }
        // The program may end because of an answer, before the result of that is here.
        while matches!(self.asking, Asking::Proxy(_)) {
            let mut news = [PollFd::new(self.questions.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut news, PollTimeout::from(RESULT_TIMEOUT)), Ok(1..)) {
                self.asking = Asking::Nothing;
            }
            self.read_news();
        }
        self.waiting.clear();
        self.typed.clear();
        loop {
            // Nothing in the jail is left, so all of the output is there: only the launcher's terminal makes it wait.
            self.read_output();
            if self.shown.is_empty() {
                break;
            }
            self.write_all();
            if self.shown.is_empty() {
                continue;
            }
            let mut waiting = [PollFd::new(self.launcher.as_fd(), PollFlags::POLLOUT)];
            let polled = poll(&mut waiting, PollTimeout::NONE);
            if !matches!(polled, Ok(_) | Err(nix::Error::EINTR)) {
                break;
            }
        }
        self.launcher.give_back();
    }
}

/// Writes as much as can be written.
fn flush(
    bytes: &mut VecDeque<u8>,
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes.as_slices().0) {
            Ok(length) => drop(bytes.drain(..length)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
