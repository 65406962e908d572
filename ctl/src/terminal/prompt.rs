//! A question on the launcher's terminal, and the line that answers it.
//!
//! The answer is a word and the number that the question shows. The program cannot know the number: so neither an
//! answer that was typed before, nor one to an imitated question is an answer. Replies and events of the terminal itself
//! (`ECMA-48`) are skipped whole: no byte of one counts. This file decides, and touches no terminal.

use std::hash::{BuildHasher as _, RandomState};

use super::sequences::{Part, RESET, Skipper};

/// The longest line.
const MAX_LINE: usize = 40;

/// A question for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedQuestion {
    /// Its id.
    pub(crate) id: String,
    /// A sentence, in which everything that a client chose is escaped.
    pub(crate) text: String,
    /// A sentence that says that it stays open, and how to answer it then.
    pub(crate) later: String,
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
    skipper: Skipper,
    /// Whether the line has a byte that no answer has. It goes on to its end.
    is_spoiled: bool,
}

impl Prompt {
    pub(super) fn new(question: AskedQuestion) -> Self {
        Self {
            question,
            number: number(),
            line: String::new(),
            skipper: Skipper::default(),
            is_spoiled: false,
        }
    }

    pub(super) fn question(&self) -> &AskedQuestion {
        &self.question
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
        match self.skipper.take(key) {
            Part::Key => {}
            Part::Skipped => return Effect::None,
            Part::Broken => self.is_spoiled = true,
        }
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
            later: "it stays open".to_owned(),
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
    fn q6_sequences_of_the_terminal_are_skipped_and_no_byte_of_them_is_an_answer() {
        for (sequence, name) in [
            (&b"\x1b[24;80R"[..], "the place of the cursor"),
            (b"\x1b[?62;22c", "the kind of terminal"),
            (b"\x1b[0n", "its health"),
            (b"\x1b[I\x1b[O", "the focus"),
            (b"\x1b[A\x1bOA\x1b[1;5A\x1b[3~", "keys without a character"),
            (b"\x1bs", "a letter with Alt"),
            (b"\x1b[[A", "a function key of the Linux console"),
            (b"\x1b[115;5u", "a key of the Kitty protocol"),
            (b"\x1b[<0;10;20M\x1b[<0;10;20m", "a click"),
            (b"\x1b[M s4\x1b[M\xe9\xff~", "a click of the oldest form"),
            (b"\x1b]11;rgb:0000/0000/0000\x1b\\", "a colour"),
            (b"\x1b]ls 417\x07", "a title"),
            (b"\x1bP1$rs 417\x1b\\", "a setting"),
            (b"\x1bPs\x1b417\x1b\\", "ESC in a string"),
            (b"\x1b_Gi=31;OK\x1b\\", "the result of an image"),
            (b"\x1b[200~\x1b[201~", "marks around pasted text"),
        ] {
            for place in 0..=5 {
                let (before, after) = b"s 417".split_at(place);
                let keys = [before, sequence, after, b"\r"].concat();
                let (effect, echo) = typed(&keys);
                assert_eq!(effect, Effect::Chosen(Choice::Session), "{name} at {place}");
                assert_eq!(echo, "s 417\r\n", "{name} at {place}");
            }
            let alone = [sequence, b"\r"].concat();
            assert_eq!(typed(&alone).0, Effect::None, "{name} alone");
        }
    }

    #[test]
    fn q6_a_sequence_without_an_end_hides_neither_the_end_of_the_line_nor_an_interruption() {
        for begin in [
            &b"\x1b"[..],
            b"\x1b ",
            b"\x1b[",
            b"\x1b[24;80",
            b"\x1b[M",
            b"\x1b[Ms",
            b"\x1b[[",
            b"\x1bO",
            b"\x1b]",
            b"\x1b]11;s 417",
            b"\x1bP\x1b",
            b"\x1b\x1b",
        ] {
            let shown = String::from_utf8_lossy(begin);
            for key in [0x03, 0x1c, 0x1a] {
                let interrupted = [begin, &[key]].concat();
                assert_eq!(typed(&interrupted).0, Effect::Interrupted(key), "{shown:?}");
            }
            // Not even of a line that is complete before it.
            for rest in [&b"\r"[..], b"\n"] {
                for line in [
                    [begin, rest].concat(),
                    [&b"s 417"[..], begin, rest].concat(),
                ] {
                    let (effect, echo) = typed(&line);
                    assert_eq!(effect, Effect::None, "{shown:?}");
                    assert!(echo.contains("this is not an answer"), "{shown:?}");
                }
            }
            let cleared = [begin, b"\x15s 417\r"].concat();
            assert_eq!(
                typed(&cleared).0,
                Effect::Chosen(Choice::Session),
                "{shown:?}"
            );
        }
        // The longest one ends by itself, and its line is no answer.
        let long = [&b"\x1b]"[..], &[b'x'; 2000], b"\x07s 417"].concat();
        let (effect, echo) = typed(&long);
        assert_eq!((effect, echo.as_str()), (Effect::None, ""));
        assert_eq!(typed(&[&long[..], b"\r"].concat()).0, Effect::None);
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
        let (reset, shown) = text.split_once("\r\n").expect("lines");
        // The begin of a sequence or string, before everything.
        assert!(reset.starts_with("\x18\x1b\\"), "{text:?}");
        let ends_mode = |kind: &str, mode: &str, end: char| {
            let sequences = reset.split("\x1b[");
            let parameters = sequences.filter_map(|text| text.split_once(end));
            let mut modes = parameters.filter_map(|(text, _)| text.strip_prefix(kind));
            modes.any(|modes| modes.split(';').any(|ended| ended == mode))
        };
        // A locked keyboard, insert mode, two line ends of Enter.
        for mode in ["2", "4", "20"] {
            assert!(ends_mode("", mode, 'l'), "{mode}");
        }
        // Keys of applications, margins, reports of the mouse and the focus, marks around pasted text, delayed output,
        // keys as Windows has them.
        for mode in [
            "1", "69", "9", "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1015", "1016",
            "2004", "2026", "9001",
        ] {
            assert!(ends_mode("?", mode, 'l'), "{mode}");
        }
        for mode in ["7", "25"] {
            assert!(ends_mode("?", mode, 'h'), "{mode}");
        }
        for (ended, name) in [
            ("\x1b<", "VT52"),
            ("\x1b[4i", "output to a printer"),
            ("\x0f\x1b(B", "another character set"),
            ("\x1b[0m", "attributes"),
            ("\x1b]8;;\x1b\\", "a link"),
            ("\x1b]104\x1b\\", "other colours"),
            ("\x1b]110\x1b\\", "another colour of text"),
            ("\x1b]111\x1b\\", "another background"),
            ("\x1b]112\x1b\\", "another colour of the cursor"),
            ("\x1b[12h", "an echo by the terminal"),
            ("\x1b7\x1b[?69l\x1b[r\x1b8", "margins"),
            ("\x1b[=0;1u", "the Kitty protocol"),
            ("\x1b[>4;0m", "modifyOtherKeys"),
            ("\x1b>", "the keypad of applications"),
        ] {
            assert!(reset.contains(ended), "{name}");
        }
        assert!(shown.starts_with("proxyctl: \"agent\" wants a.test:443 (https)\r\n"));
        assert!(shown.ends_with("type a letter and 417, such as r 417: "));
    }
}
