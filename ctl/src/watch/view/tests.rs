//! The screen in several sizes, as a terminal would show it.

use std::time::Instant;

use codex_network_control::Access;
use codex_network_control::message::{
    Approvals, Counters, DecisionEntry, Decisions, Explained, Question, SessionEntry, Status,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::Modifier;

use super::*;
use crate::watch::keys;
use crate::watch::model::{Effect, Request, Update};

/// Compares a screen with the file of the test. Two packages compile this file, so the name has no module.
macro_rules! is_as_before {
    ($screen:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($screen);
        });
    };
}

const EVENING: i64 = 1_700_000_000;

fn decision(number: i64, verdict: &str, host: &str, reason: &str) -> DecisionEntry {
    DecisionEntry {
        timestamp: EVENING + number,
        decision: verdict.to_owned(),
        reason: reason.to_owned(),
        source: "baseline_policy".to_owned(),
        protocol: "http-connect".to_owned(),
        host: host.to_owned(),
        port: Some(443),
        method: Some("CONNECT".to_owned()),
        client: Some("127.0.0.1:45678".to_owned()),
        session: Some("3f9a0c1d2e4b5a69".to_owned()),
        user: Some("alice".to_owned()),
        command: Some("cargo".to_owned()),
        rule: (verdict == "allow").then(|| "*.crates.io (config.toml:4)".to_owned()),
        ..DecisionEntry::default()
    }
}

fn session(id: &str, command: &str) -> SessionEntry {
    SessionEntry {
        id: id.to_owned(),
        user: Some("alice".to_owned()),
        command: command.to_owned(),
        since: EVENING,
        allowed: 1234,
        refused: 5,
        bytes_up: 1 << 20,
        bytes_down: 1 << 30,
        ..SessionEntry::default()
    }
}

fn question(id: &str, host: &str) -> Question {
    Question {
        id: id.to_owned(),
        state: "pending".to_owned(),
        session: Some("3f9a0c1d2e4b5a69".to_owned()),
        user: Some("alice".to_owned()),
        command: Some("cargo".to_owned()),
        host: host.to_owned(),
        port: 443,
        protocol: "http-connect".to_owned(),
        expires: EVENING + 600,
        waiting: 1,
        ..Question::default()
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        enabled: true,
        mode: "full".to_owned(),
        counters: Counters {
            connections: 12,
            ..Counters::default()
        },
        ..Status::default()
    }
}

/// A proxy that is in use.
fn model() -> Model {
    let (mut model, now) = (Model::default(), Instant::now());
    model.apply(
        Update::Connected(Access::Administer, "0.1.0".to_owned()),
        now,
    );
    let questions = Approvals {
        approvals: vec![
            question("5f0e12ab", "new.example.com"),
            question("77aa00c1", "xn--pple-43d.test"),
        ],
        enabled: true,
        may_answer: true,
        ..Approvals::default()
    };
    model.apply(Update::Questions(questions), now);
    let sessions = || {
        vec![
            session("3f9a0c1d2e4b5a69", "cargo"),
            session("81b2c3d4e5f60718", "npm"),
        ]
    };
    model.apply(Update::Look(sessions(), Some(Box::new(status()))), now);
    let mut decisions: Vec<_> = (0..40)
        .map(|number| decision(number, "allow", "static.crates.io", "allow"))
        .collect();
    decisions.push(decision(40, "deny", "telemetry.example.net", "denied"));
    decisions.push(decision(41, "ask", "new.example.com", "not_allowed"));
    let long = format!("www.bank.test.{}.evil.test", "a".repeat(60));
    decisions.push(decision(42, "deny", &long, "not_allowed"));
    decisions.push(decision(
        43,
        "deny",
        "a\u{1b}[31m\u{202e}b.test",
        "invalid_host",
    ));
    let decisions = Decisions {
        decisions,
        allowed: 40,
        refused: 3,
        asked: 1,
        lost: 7,
        ..Decisions::default()
    };
    model.apply(Update::Decisions(decisions), now);
    let later = now + std::time::Duration::from_secs(1);
    model.apply(Update::Look(sessions(), Some(Box::new(status()))), later);
    model
}

fn press(model: &mut Model, code: KeyCode) -> Effect {
    let command = keys::command(KeyEvent::from(code), model.key_mode());
    model.act(command.expect("a key with a command"))
}

fn screen(model: &Model, columns: u16, lines: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a screen");
    let draw = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        draw(model, Colours::Named, area, frame.buffer_mut());
    };
    terminal.draw(draw).expect("a drawing");
    terminal.backend().clone()
}

#[test]
fn w4_the_screen_of_80_columns_and_24_lines() {
    is_as_before!(screen(&model(), 80, 24));
}

#[test]
fn w4_the_screen_of_120_columns_and_40_lines() {
    is_as_before!(screen(&model(), 120, 40));
}

#[test]
fn w4_the_screen_of_200_columns_and_60_lines() {
    is_as_before!(screen(&model(), 200, 60));
}

#[test]
fn w4_the_explanation_of_a_question_covers_the_lists() {
    let mut model = model();
    press(&mut model, KeyCode::Tab);
    press(&mut model, KeyCode::Down);
    let Effect::Call(Request::Explain(call, query)) = press(&mut model, KeyCode::Enter) else {
        panic!("no call")
    };
    assert_eq!(query.url, "https://xn--pple-43d.test:443/");
    let explained = Explained {
        decision: "deny".to_owned(),
        reason: "not_allowed".to_owned(),
        source: "baseline_policy".to_owned(),
        because: "no entry of the allow list covers xn--pple-43d.test".to_owned(),
        remedy: "To allow it, add \"xn--pple-43d.test\" to allowed_domains and reload; the entry may also stand in \
                 a profile"
            .to_owned(),
        ..Explained::default()
    };
    model.apply(
        Update::Explained(call, Ok(Box::new(explained))),
        Instant::now(),
    );
    is_as_before!(screen(&model, 80, 24));
}

#[test]
fn w4_a_lost_proxy_is_named_with_the_time() {
    let mut model = model();
    model.apply(
        Update::Lost(EVENING, "it is stopping".to_owned()),
        Instant::now(),
    );
    is_as_before!(screen(&model, 80, 12));
}

#[test]
fn w4_the_help_fits_on_the_usual_screen() {
    let mut model = model();
    press(&mut model, KeyCode::Char('?'));
    is_as_before!(screen(&model, 80, 24));
}

#[test]
fn w4_every_size_is_drawn_without_a_panic() {
    let mut model = model();
    for page in [false, true] {
        if page {
            press(&mut model, KeyCode::Enter);
            press(&mut model, KeyCode::End);
        }
        for columns in [1, 2, 39, 40, 41, 80, 500] {
            for lines in [1, 2, 9, 10, 11, 15, 24, 100] {
                screen(&model, columns, lines);
            }
        }
    }
}

#[test]
fn w4_nothing_on_the_screen_acts_on_the_terminal() {
    let screen = screen(&model(), 200, 60);
    let cells = screen.buffer().content().iter();
    let text: String = cells.map(ratatui::buffer::Cell::symbol).collect();
    assert!(text.contains("a\\u{1b}[31m\\u{202e}b.test:443"), "{text}");
    assert!(!text.contains(|character: char| character.is_control() || character == '\u{202e}'));
}

#[test]
fn w4_without_colours_the_screen_says_the_same() {
    let model = model();
    let area = Rect::new(0, 0, 80, 24);
    let drawn = |colours| {
        let mut buffer = Buffer::empty(area);
        draw(&model, colours, area, &mut buffer);
        buffer
    };
    let (named, none) = (drawn(Colours::Named), drawn(Colours::None));
    let symbols = |buffer: &Buffer| -> Vec<String> {
        let cells = buffer.content().iter();
        cells.map(|cell| cell.symbol().to_owned()).collect()
    };
    assert_eq!(symbols(&named), symbols(&none));
    let is_coloured = |buffer: &Buffer| {
        let mut cells = buffer.content().iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(is_coloured(&named));
    assert!(!is_coloured(&none));
    // The cursor is visible nevertheless.
    let mut cells = none.content().iter().skip(3 * 80);
    assert!(cells.any(|cell| cell.modifier.contains(Modifier::REVERSED)));
    // Black or white text would vanish on one of the grounds, and so would text that is faint.
    let cells = named.content().iter();
    for cell in cells {
        assert!(matches!(
            cell.fg,
            Color::Reset | Color::Red | Color::Green | Color::Magenta
        ));
        assert_eq!(cell.bg, Color::Reset);
        assert!(!cell.modifier.contains(Modifier::DIM));
    }
}
