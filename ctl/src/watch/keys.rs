//! The keys, as in less(1), top(1) and htop(1).

use codex_network_control::message::Scope;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The rows of a page key.
const PAGE: isize = 10;

/// A command of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Suspend,
    Help,
    Close,
    NextPane,
    PreviousPane,
    /// By this many rows. The least number is the top, the greatest the end.
    Move(isize),
    Enter,
    Pause,
    NextVerdicts,
    BeginFilter,
    Type(char),
    Erase,
    Approve(Scope),
    Reject,
}

/// The meaning of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyMode {
    /// They are commands.
    Lists,
    /// They are commands of a page over the lists.
    Page,
    /// They are the text of a filter.
    Filter,
}

/// The command of a key; `None` for a key without one.
pub(super) fn command(key: KeyEvent, mode: KeyMode) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Command::Quit),
            KeyCode::Char('z') => Some(Command::Suspend),
            KeyCode::Char('f') if mode != KeyMode::Filter => Some(Command::Move(PAGE)),
            KeyCode::Char('b') if mode != KeyMode::Filter => Some(Command::Move(-PAGE)),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    if let Some(movement) = movement(key.code) {
        return Some(movement);
    }
    match (mode, key.code) {
        (_, KeyCode::Enter) => Some(Command::Enter),
        (_, KeyCode::Esc) | (KeyMode::Page, KeyCode::Char('q')) => Some(Command::Close),
        (KeyMode::Filter, code) => typed(code),
        (KeyMode::Page, code) => letter(code),
        (KeyMode::Lists, code) => letter(code).or_else(|| command_of_lists(code)),
    }
}

fn typed(code: KeyCode) -> Option<Command> {
    match code {
        KeyCode::Char(character) => Some(Command::Type(character)),
        KeyCode::Backspace => Some(Command::Erase),
        _ => None,
    }
}

/// The letters that mean the same on a page and in the lists.
fn letter(code: KeyCode) -> Option<Command> {
    match code {
        KeyCode::Char('j') => Some(Command::Move(1)),
        KeyCode::Char('k') => Some(Command::Move(-1)),
        KeyCode::Char('g') => Some(Command::Move(isize::MIN)),
        KeyCode::Char('G') => Some(Command::Move(isize::MAX)),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Command::Help),
        _ => None,
    }
}

fn command_of_lists(code: KeyCode) -> Option<Command> {
    match code {
        KeyCode::Char('q') => Some(Command::Quit),
        KeyCode::Tab => Some(Command::NextPane),
        KeyCode::BackTab => Some(Command::PreviousPane),
        KeyCode::Char('/') => Some(Command::BeginFilter),
        KeyCode::Char('v') => Some(Command::NextVerdicts),
        KeyCode::Char(' ' | 'p') => Some(Command::Pause),
        KeyCode::Char('a') => Some(Command::Approve(Scope::Default)),
        KeyCode::Char('o') => Some(Command::Approve(Scope::Once)),
        KeyCode::Char('r') => Some(Command::Reject),
        _ => None,
    }
}

fn movement(code: KeyCode) -> Option<Command> {
    Some(Command::Move(match code {
        KeyCode::Down => 1,
        KeyCode::Up => -1,
        KeyCode::PageDown => PAGE,
        KeyCode::PageUp => -PAGE,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(code: KeyCode, mode: KeyMode) -> Option<Command> {
        command(KeyEvent::from(code), mode)
    }

    #[test]
    fn w4_in_the_filter_letters_are_text_and_answer_nothing() {
        for letter in "aorqv/? pjkgGh".chars() {
            let code = KeyCode::Char(letter);
            assert_eq!(pressed(code, KeyMode::Filter), Some(Command::Type(letter)));
            let answers = |command| matches!(command, Some(Command::Approve(_) | Command::Reject));
            assert!(!answers(pressed(code, KeyMode::Page)), "{letter}");
        }
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [KeyMode::Lists, KeyMode::Page, KeyMode::Filter] {
            assert_eq!(command(control, mode), Some(Command::Quit));
        }
    }

    #[test]
    fn w4_an_answer_is_a_plain_key() {
        let approve = Some(Command::Approve(Scope::Default));
        assert_eq!(pressed(KeyCode::Char('a'), KeyMode::Lists), approve);
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            for letter in ['a', 'o', 'r'] {
                let key = KeyEvent::new(KeyCode::Char(letter), modifiers);
                assert_eq!(command(key, KeyMode::Lists), None);
            }
        }
        for letter in ['A', 'O', 'R', 'y', '\n'] {
            assert_eq!(pressed(KeyCode::Char(letter), KeyMode::Lists), None);
        }
    }

    #[test]
    fn w4_q_leaves_a_page_and_then_the_program() {
        let q = KeyCode::Char('q');
        assert_eq!(pressed(q, KeyMode::Page), Some(Command::Close));
        assert_eq!(pressed(q, KeyMode::Lists), Some(Command::Quit));
        assert_eq!(pressed(KeyCode::Esc, KeyMode::Lists), Some(Command::Close));
    }
}
