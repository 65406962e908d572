//! `proxyctl run --ask`: asks on the launcher's terminal about hosts that are merely not allowed (SPEC Q6).
//!
//! The program may write to the same terminal, and must not answer. It has no way to put input there (SPEC J6), but
//! what it writes can make a terminal send something. So each question has a word that only the screen shows: an answer
//! counts only behind this word, and a wrong line changes it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::thread;

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{
    Approval, ApprovalsQuery, MAX_WAIT, Question, QuestionId, Scope,
};
use tokio::sync::mpsc;

use crate::commands::approvals::{destination, granted_sentence};
use crate::failure::Failure;
use crate::output::{printable_line, quoted};

const TERMINAL: &str = "/dev/tty";
/// The letters of a word: none that is easily taken for another one.
const LETTERS: &[u8; 16] = b"bcdfghjkmnprstvz";
const WORD_LENGTH: usize = 4;
/// The longest line that is read.
const MAX_LINE: u64 = 256;

/// The launcher's terminal.
#[derive(Debug)]
pub(super) struct Terminal(File);

/// A question on the screen.
#[derive(Debug)]
struct Shown {
    question: Question,
    word: String,
}

/// The meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Allow(Scope),
    Reject,
}

impl Terminal {
    /// Opens the terminal.
    pub(super) fn open() -> Result<Self, Failure> {
        let opened = File::options().read(true).write(true).open(TERMINAL);
        opened.map(Self).map_err(|error| {
            Failure::NoSession(format!(
                "--ask needs a terminal, and {TERMINAL} cannot be opened: {error}"
            ))
        })
    }

    /// The lines that are typed, read by another thread.
    fn lines(&self) -> io::Result<mpsc::Receiver<String>> {
        let keyboard = self.0.try_clone()?;
        let (sender, lines) = mpsc::channel(1);
        thread::spawn(move || {
            let mut keyboard = BufReader::new(keyboard);
            loop {
                let mut line = Vec::new();
                match keyboard
                    .by_ref()
                    .take(MAX_LINE)
                    .read_until(b'\n', &mut line)
                {
                    Ok(1..) => {}
                    // A background job may not read, and a closed terminal has nothing to read.
                    Ok(0) | Err(_) => return,
                }
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(lines)
    }

    fn say(&mut self, text: &str) {
        // Without a screen there is no answer either.
        let _ = writeln!(self.0, "proxyctl: {text}");
    }
}

/// Fails unless this caller's answers count.
pub(super) async fn check(client: &Client) -> Result<(), Failure> {
    let found = client.approvals(ApprovalsQuery::default()).await?;
    if !found.enabled {
        return Err(Failure::NoSession(
            "--ask: the proxy asks no questions; set `enabled = true` in its [daemon.approvals], or use --private"
                .to_owned(),
        ));
    }
    if !found.may_answer {
        return Err(Failure::NoSession(
            "--ask: this user may not answer questions of the proxy; its administrator can set `own = true` in \
             [daemon.approvals], or use --private"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Asks the questions of this session, one after the other, until the connection ends.
pub(super) async fn answer(client: &Client, session: &str, mut terminal: Terminal) {
    let mut waiting: VecDeque<Question> = VecDeque::new();
    let mut shown: Option<Shown> = None;
    let mut since = 0;
    let Ok(mut lines) = terminal.lines() else {
        terminal.say("questions cannot be asked: this process has too many descriptors");
        return;
    };
    loop {
        if shown.is_none()
            && let Some(question) = waiting.pop_front()
        {
            let Ok(word) = word() else {
                terminal.say("questions cannot be asked: there is no random number");
                return;
            };
            terminal.say(&prompt(&question, &word));
            shown = Some(Shown { question, word });
        }
        let query = ApprovalsQuery {
            since,
            wait: MAX_WAIT.as_secs(),
            session: Some(session.to_owned()),
        };
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else {
                    terminal.say("the terminal cannot be read, so nothing more is asked");
                    return;
                };
                if let Some(on_screen) = shown.take() {
                    shown = reply(client, &mut terminal, on_screen, &line).await;
                }
            }
            found = client.approvals(query) => {
                let found = match found {
                    Ok(found) => found,
                    Err(CallError::TimedOut) => continue,
                    Err(_) => return,
                };
                since = found.next;
                for question in found.approvals {
                    if question.session.as_deref() != Some(session) {
                        continue;
                    }
                    waiting.retain(|other| other.id != question.id);
                    let is_shown = |on_screen: &Shown| on_screen.question.id == question.id;
                    if question.state == "pending" {
                        if !shown.as_ref().is_some_and(is_shown) {
                            waiting.push_back(question);
                        }
                    } else if shown.take_if(|on_screen| is_shown(on_screen)).is_some() {
                        let state = printable_line(&question.state);
                        terminal.say(&format!("no longer open: {state}"));
                    }
                }
                if found.ending {
                    return;
                }
            }
        }
    }
}

/// Gives the answer of a line. Returns the question if it is still to be answered.
async fn reply(
    client: &Client,
    terminal: &mut Terminal,
    shown: Shown,
    line: &str,
) -> Option<Shown> {
    let id = shown.question.id.clone();
    let Some(choice) = choice(line, &shown.word) else {
        let word = word().ok()?;
        terminal.say(&format!(
            "that is no answer. {}",
            prompt(&shown.question, &word)
        ));
        return Some(Shown { word, ..shown });
    };
    let given = match choice {
        Choice::Allow(scope) => {
            let approval = Approval {
                id,
                scope,
                any_port: false,
            };
            let granted = client.approve(approval).await;
            granted.map(|granted| granted_sentence(&granted.grant))
        }
        Choice::Reject => {
            let denied = client.deny(QuestionId { id }).await;
            denied.map(|_| "denied, until the session ends".to_owned())
        }
    };
    match given {
        Ok(said) => terminal.say(&said),
        Err(error) => terminal.say(&format!("the answer does not count: {error}")),
    }
    None
}

fn prompt(question: &Question, word: &str) -> String {
    let command = question.command.as_deref().map(quoted);
    let command = command.unwrap_or_else(|| "the program".to_owned());
    let to = destination(&question.host, Some(question.port));
    let protocol = printable_line(&question.protocol);
    format!(
        "{command} asks for {to} ({protocol}).\n\
         proxyctl: Type \"{word} allow\" (until it ends), \"{word} once\" or \"{word} reject\"; without an answer it is \
         refused for now:"
    )
}

/// Reads an answer: the word, and then the choice or its first letter.
fn choice(line: &str, word: &str) -> Option<Choice> {
    let line = line.strip_suffix('\n')?;
    let chosen = line.strip_prefix(word)?.strip_prefix(' ')?;
    match chosen.trim_end() {
        "allow" | "a" => Some(Choice::Allow(Scope::Session)),
        "once" | "o" => Some(Choice::Allow(Scope::Once)),
        "reject" | "r" => Some(Choice::Reject),
        _ => None,
    }
}

/// A word that the program cannot guess.
fn word() -> io::Result<String> {
    let mut bytes = [0; WORD_LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    Ok(letters.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q6_an_answer_counts_only_behind_the_word_of_its_question() {
        for (line, wanted) in [
            ("bcdf allow\n", Some(Choice::Allow(Scope::Session))),
            ("bcdf a\n", Some(Choice::Allow(Scope::Session))),
            ("bcdf once \n", Some(Choice::Allow(Scope::Once))),
            ("bcdf r\n", Some(Choice::Reject)),
            ("bcdf reject", None),
            ("allow\n", None),
            ("y\n", None),
            ("bcdg allow\n", None),
            (" bcdf allow\n", None),
            ("\u{1b}[0nbcdf allow\n", None),
            ("bcdfallow\n", None),
            ("bcdf allow once\n", None),
            ("bcdf\n", None),
        ] {
            assert_eq!(choice(line, "bcdf"), wanted, "{line:?}");
        }
        let words: std::collections::HashSet<_> = (0..20).filter_map(|_| word().ok()).collect();
        assert!(words.len() > 10, "{words:?}");
        assert!(words.iter().all(|word| word.len() == WORD_LENGTH));
    }

    #[test]
    fn q6_a_prompt_shows_the_host_in_canonical_form_and_the_command_in_quotes() {
        let question = Question {
            host: "xn--pple-43d.test".to_owned(),
            port: 443,
            protocol: "https".to_owned(),
            command: Some("x\u{1b}[2J\n".to_owned()),
            ..Question::default()
        };
        let shown = prompt(&question, "bcdf");
        let wanted =
            "\"x\\u{1b}[2J\\n\" asks for xn--pple-43d.test:443 (\"\u{430}pple.test\") (https).";
        assert!(shown.starts_with(wanted), "{shown}");
    }
}
