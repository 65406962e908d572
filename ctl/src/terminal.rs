//! The launcher's terminal while a program has one of its own: bytes go between the two, and questions come between
//! (SPEC Q6, `run --ask`).
//!
//! The program never has the launcher's terminal. While a question is open, nothing that the program writes is shown,
//! and nothing that is typed reaches it.
//!
//! - `launcher`: the launcher's terminal, and its settings.
//! - `relay`: moves bytes, and shows questions.
//! - `prompt`: one question: its text, and the line that answers it.
//! - `sequences`: what a question ends on the terminal, and what is no key.
//! - `questions`: the queue between the relay and the calls to the proxy.

mod launcher;
mod prompt;
mod questions;
mod relay;
mod sequences;

pub(crate) use launcher::LauncherTerminal;
pub(crate) use prompt::{AskedQuestion, Choice};
pub(crate) use questions::{GivenAnswer, News, QuestionDesk};
pub(crate) use relay::Relay;
