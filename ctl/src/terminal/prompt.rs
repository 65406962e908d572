//! A question on the launcher's terminal, and the line that answers it.
//!
//! The answer is a word and the number that the question shows. The program cannot know the number: so neither an
//! answer that was typed before, nor one to an imitated question, nor a reply of the terminal itself (`ECMA-48`, DSR and
//! its like) is an answer. This file decides, and touches no terminal.

use std::hash::{BuildHasher as _, RandomState};

/// The longest line.
const MAX_LINE: usize = 40;

/// Ends what the program may have begun: a control sequence or string (CAN, ST), another character set, attributes,
/// insert mode, lines that are cut off, margins. The cursor stays.
const RESET: &str =
    "\x18\x1b\\\x0f\x1b(B\x1b[0m\x1b[4l\x1b[?7h\x1b[?25h\x1b7\x1b[?69l\x1b[r\x1b8\r\n";

/// A question for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedQuestion {
    /// Its id.
    pub(crate) id: String,
    /// A sentence, in which everything that a client chose is escaped.
    pub(crate) text: String,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// One connection.
    Once,
    /// Until the session ends.
    Session,
    /// For 15 minutes.
    QuarterHour,
    /// A denial.
    Reject,
    /// No answer. The question stays open.
    Leave,
}

impl Choice {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "o" | "once" => Self::Once,
            "s" | "session" => Self::Session,
            "m" | "minutes" => Self::QuarterHour,
            "r" | "reject" => Self::Reject,
            "l" | "leave" => Self::Leave,
            _ => return None,
        })
    }
}

/// The effect of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Chosen(Choice),
    /// A key that interrupts, stops or ends a program.
    Interrupted(u8),
}

/// A question on the terminal.
#[derive(Debug)]
pub(super) struct Prompt {
    question: AskedQuestion,
    number: u64,
    line: String,
    /// Whether the line has a byte that no answer has. It goes on to its end.
    is_spoiled: bool,
}

impl Prompt {
    pub(super) fn new(question: AskedQuestion) -> Self {
        Self {
            question,
            number: number(),
            line: String::new(),
            is_spoiled: false,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.question.id
    }

    /// The question as it is shown.
    pub(super) fn text(&self) -> String {
        format!(
            "{RESET}proxyctl: {}\r\nproxyctl: allow it [o]nce, for the [s]ession, for 15 [m]inutes, [r]eject it or \
             [l]eave it open?\r\n{}",
            self.question.text,
            self.invitation()
        )
    }

    fn invitation(&self) -> String {
        let number = self.number;
        format!("proxyctl: type a letter and {number}, such as r {number}: ")
    }

    /// Takes a key. Adds to `echo` what the user sees of it.
    pub(super) fn press(&mut self, key: u8, echo: &mut String) -> Effect {
        match key {
            // Ctrl-C, Ctrl-\ and Ctrl-Z.
            0x03 | 0x1c | 0x1a => return Effect::Interrupted(key),
            b'\r' | b'\n' => return self.finish_line(echo),
            // Backspace.
            0x08 | 0x7f => {
                if !self.is_spoiled && self.line.pop().is_some() {
                    echo.push_str("\x08 \x08");
                }
            }
            // Ctrl-U.
            0x15 => {
                self.is_spoiled = false;
                echo.push_str(&"\x08 \x08".repeat(self.line.len()));
                self.line.clear();
            }
            b' '..=b'~' if !self.is_spoiled && self.line.len() < MAX_LINE => {
                self.line.push(char::from(key));
                echo.push(char::from(key));
            }
            _ => self.is_spoiled = true,
        }
        Effect::None
    }

    fn finish_line(&mut self, echo: &mut String) -> Effect {
        echo.push_str("\r\n");
        let line = std::mem::take(&mut self.line);
        let is_spoiled = std::mem::take(&mut self.is_spoiled);
        if let Some(choice) = self.parsed(&line).filter(|_| !is_spoiled) {
            return Effect::Chosen(choice);
        }
        // Another number, so that trying them all leads nowhere.
        self.number = number();
        if !line.trim().is_empty() || is_spoiled {
            echo.push_str("proxyctl: this is not an answer\r\n");
        }
        echo.push_str(&self.invitation());
        Effect::None
    }

    /// Exactly a word and the number.
    fn parsed(&self, line: &str) -> Option<Choice> {
        let (word, number) = line.trim_matches(' ').split_once(' ')?;
        let is_number = number.trim_start_matches(' ') == self.number.to_string();
        Choice::parse(word).filter(|_| is_number)
    }
}

/// A line for the terminal.
pub(super) fn remark(text: &str) -> String {
    format!("{RESET}proxyctl: {text}\r\n")
}

/// A number of three digits that the program cannot know. The standard library seeds its hasher from the system.
fn number() -> u64 {
    100 + RandomState::new().hash_one(0_u8) % 900
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Prompt {
        let question = AskedQuestion {
            id: "1".to_owned(),
            text: "\"agent\" wants a.test:443 (https)".to_owned(),
        };
        Prompt {
            number: 417,
            ..Prompt::new(question)
        }
    }

    /// The effect of the last key, and what was seen.
    fn typed(keys: &[u8]) -> (Effect, String) {
        let (mut prompt, mut echo) = (prompt(), String::new());
        let mut last = Effect::None;
        for key in keys {
            assert_eq!(last, Effect::None, "{keys:?}");
            last = prompt.press(*key, &mut echo);
        }
        (last, echo)
    }

    #[test]
    fn q6_an_answer_is_exactly_a_word_and_the_number_of_the_question() {
        for (keys, wanted) in [
            (&b"o 417\r"[..], Some(Choice::Once)),
            (b"once 417\n", Some(Choice::Once)),
            (b"s 417\r", Some(Choice::Session)),
            (b"session   417 \r", Some(Choice::Session)),
            (b"m 417\r", Some(Choice::QuarterHour)),
            (b"minutes 417\r", Some(Choice::QuarterHour)),
            (b"r 417\r", Some(Choice::Reject)),
            (b" leave 417\r", Some(Choice::Leave)),
            (b"x\x7fs 416\x087\r", Some(Choice::Session)),
            (b"nonsense\x15s 417\r", Some(Choice::Session)),
            (b"\x1b[24;80R\x15s 417\r", Some(Choice::Session)),
            (b"s\r", None),
            (b"417\r", None),
            (b"\r", None),
            (b"s 418\r", None),
            (b"s 0417\r", None),
            (b"s 417 x\r", None),
            (b"s417\r", None),
            (b"S 417\r", None),
            (b"yes 417\r", None),
            (b"s\t417\r", None),
            // Replies of the terminal, before, in and after an answer.
            (b"\x1b[24;80Rs 417\r", None),
            (b"s \x1b[?62;c417\r", None),
            (b"s 417\x1b[0n\r", None),
            (b"\xc3\xa4s 417\r", None),
            (b"s\0 417\r", None),
            (b"                                           s 417\r", None),
        ] {
            let (effect, echo) = typed(keys);
            let shown = String::from_utf8_lossy(keys);
            assert_eq!(
                effect,
                wanted.map_or(Effect::None, Effect::Chosen),
                "{shown:?}"
            );
            assert!(!echo.contains('\x1b'), "{shown:?}");
        }
    }

    #[test]
    fn q6_each_line_that_is_not_an_answer_gets_another_number() {
        let (mut prompt, mut echo) = (prompt(), String::new());
        let mut numbers = std::collections::HashSet::new();
        for _ in 0..20 {
            for key in b"x\r" {
                assert_eq!(prompt.press(*key, &mut echo), Effect::None);
            }
            numbers.insert(prompt.number);
            assert!(echo.ends_with(&prompt.invitation()));
        }
        assert!(numbers.len() > 10, "{numbers:?}");
        assert!(numbers.iter().all(|number| (100..1000).contains(number)));
    }

    #[test]
    fn q6_keys_that_interrupt_a_program_interrupt_a_question() {
        for key in [0x03, 0x1c, 0x1a] {
            assert_eq!(typed(&[b's', key]).0, Effect::Interrupted(key));
        }
    }

    #[test]
    fn q6_a_question_ends_what_the_program_has_begun_on_the_terminal() {
        let text = prompt().text();
        assert!(text.starts_with("\x18\x1b\\"), "{text:?}");
        assert!(text.contains("proxyctl: \"agent\" wants a.test:443 (https)\r\n"));
        assert!(text.ends_with("type a letter and 417, such as r 417: "));
    }
}
