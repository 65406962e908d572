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
    queue: VecDeque<Queued>,
    asking: Asking,
}

/// A question that is not yet on the terminal.
#[derive(Debug)]
struct Queued {
    question: AskedQuestion,
    /// Whether a request waits for the answer.
    is_awaited: bool,
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
            queue: VecDeque::new(),
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

    /// Whether keys are read. Those for a question always are: a program that reads none could not make it wait.
    fn has_room_for_keys(&self) -> bool {
        matches!(self.asking, Asking::User(_)) || self.typed.len() < MAX_WAITING
    }

    /// Reads what was typed. It belongs to the question that is open, or to the program.
    fn read_keys(&mut self) {
        let mut part = [0; PART];
        while self.launcher.is_taken() && self.has_room_for_keys() {
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
                    self.leave("");
                    self.typed.push_back(key);
                }
                Effect::Chosen(Choice::Leave) => self.leave(""),
                Effect::Chosen(choice) => {
                    let id = prompt.question().id.clone();
                    self.asking = Asking::Proxy(id.clone());
                    self.questions.give(GivenAnswer { id, choice });
                }
            }
        }
    }

    /// Closes the question on the terminal without an answer.
    fn leave(&mut self, why: &str) {
        if let Asking::User(prompt) = std::mem::replace(&mut self.asking, Asking::Nothing) {
            self.say(&format!("{why}{}", prompt.question().later));
        }
    }

    fn say(&mut self, text: &str) {
        self.shown.extend(remark(text).as_bytes());
    }

    fn read_news(&mut self) {
        while let Some(news) = self.questions.next() {
            match news {
                News::Asked(question) => {
                    self.queue
                        .retain(|queued| queued.question.id != question.id);
                    self.queue.push_back(Queued {
                        question,
                        is_awaited: true,
                    });
                }
                News::Unawaited(id) => {
                    for queued in &mut self.queue {
                        queued.is_awaited &= queued.question.id != id;
                    }
                    if matches!(&self.asking, Asking::User(prompt) if prompt.question().id == id) {
                        self.leave("no request waits any more; ");
                    }
                }
                News::Closed { id, said } => {
                    self.queue.retain(|queued| queued.question.id != id);
                    let is_shown = match &self.asking {
                        Asking::Nothing => false,
                        Asking::User(prompt) => prompt.question().id == id,
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

    /// Shows the next question. What was typed before goes to the program. A question that no request waits for is
    /// only mentioned: nothing waits for its answer, so the program does not either.
    fn ask(&mut self) {
        while !self.is_asking() && self.launcher.is_taken() && self.shown.len() < MAX_WAITING {
            let Some(Queued {
                question,
                is_awaited,
            }) = self.queue.pop_front()
            else {
                return;
            };
            if is_awaited {
                self.read_keys();
                let prompt = Prompt::new(question);
                self.shown.extend(prompt.text().as_bytes());
                self.asking = Asking::User(prompt);
            } else {
                self.say(&format!("{}; {}", question.text, question.later));
            }
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
        self.queue.clear();
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
            let reads = self.launcher.is_taken() && self.has_room_for_keys();
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
        self.queue.clear();
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

#[cfg(test)]
mod tests {
    use nix::pty::openpty;

    use super::*;

    fn question(id: &str) -> AskedQuestion {
        AskedQuestion {
            id: id.to_owned(),
            text: format!("wants {id}"),
            later: format!("approve {id}"),
        }
    }

    #[test]
    fn q6_a_question_is_shown_while_a_request_waits_for_it_and_else_mentioned() {
        let terminal = openpty(None, None).expect("a terminal");
        let launcher = LauncherTerminal::of(File::from(terminal.slave));
        let (mut relay, desk) = Relay::new(launcher).expect("descriptors");
        let asked = |id| News::Asked(question(id));
        let unawaited = |id: &str| News::Unawaited(id.to_owned());
        let closed = |id: &str| News::Closed {
            id: id.to_owned(),
            said: format!("closed {id}"),
        };
        for (news, texts, asks) in [
            (
                vec![asked("a"), asked("b"), asked("c")],
                &["wants a\r"][..],
                true,
            ),
            (vec![unawaited("b"), unawaited("d")], &[], true),
            // The first is over, the second needs no answer now, and the third is next.
            (
                vec![closed("a")],
                &["closed a\r", "wants b; approve b\r", "wants c\r"],
                true,
            ),
            (
                vec![unawaited("c")],
                &["no request waits any more; approve c\r"],
                false,
            ),
            // A request waits again, and is gone before it is seen.
            (
                vec![asked("c"), unawaited("c"), asked("c")],
                &["wants c\r"],
                true,
            ),
            (vec![closed("c")], &["closed c\r"], false),
            (vec![asked("e"), closed("e")], &[], false),
        ] {
            let name = format!("{news:?}");
            for change in news {
                desk.tell(change);
            }
            relay.read_news();
            relay.ask();
            let shown = String::from_utf8(relay.shown.drain(..).collect()).expect("text");
            let lines = shown.split("proxyctl: ").skip(1);
            let mut lines = lines.filter(|line| !line.starts_with("allow it"));
            for text in texts {
                let line = lines.next().unwrap_or_default();
                assert!(line.starts_with(text), "{name}: {line:?}, not {text:?}");
            }
            let is_invited = texts
                .iter()
                .any(|text| text.starts_with("wants") && !text.contains(';'));
            assert_eq!(lines.next().is_some(), is_invited, "{name}");
            assert_eq!(relay.is_asking(), asks, "{name}");
        }
    }

    #[test]
    fn q6_the_result_of_an_answer_is_shown_if_its_request_has_left_meanwhile() {
        let terminal = openpty(None, None).expect("a terminal");
        let launcher = LauncherTerminal::of(File::from(terminal.slave));
        let (mut relay, desk) = Relay::new(launcher).expect("descriptors");
        relay.asking = Asking::Proxy("a".to_owned());
        desk.tell(News::Unawaited("a".to_owned()));
        relay.read_news();
        assert!(relay.is_asking() && relay.shown.is_empty());
        desk.tell(News::Closed {
            id: "a".to_owned(),
            said: "approved a".to_owned(),
        });
        relay.read_news();
        let shown = String::from_utf8(relay.shown.into()).expect("text");
        assert!(shown.ends_with("proxyctl: approved a\r\n"), "{shown:?}");
    }
}
