//! The effect of updates and keys on the state.

use std::time::Duration;

use codex_network_control::message::{DecisionEntry, Question};
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::watch::keys;

fn press(model: &mut Model, code: KeyCode) -> Effect {
    let command = keys::command(KeyEvent::from(code), model.key_mode());
    model.act(command.expect("a key with a command"))
}

fn typed(model: &mut Model, text: &str) {
    for character in text.chars() {
        press(model, KeyCode::Char(character));
    }
}

fn question(id: &str, state: &str) -> Question {
    Question {
        id: id.to_owned(),
        state: state.to_owned(),
        host: format!("{id}.test"),
        ..Question::default()
    }
}

fn questions(model: &mut Model, changed: &[(&str, &str)], may_answer: bool) {
    let changed = changed.iter().map(|(id, state)| question(id, state));
    let found = Approvals {
        approvals: changed.collect(),
        may_answer,
        ..Approvals::default()
    };
    model.apply(Update::Questions(found), Instant::now());
}

fn decided(model: &mut Model, host: &str) {
    let found = Decisions {
        decisions: vec![DecisionEntry {
            host: host.to_owned(),
            decision: "deny".to_owned(),
            protocol: "http".to_owned(),
            ..DecisionEntry::default()
        }],
        refused: 1,
        ..Decisions::default()
    };
    model.apply(Update::Decisions(found), Instant::now());
}

fn approved(id: &str, scope: Scope) -> Effect {
    Effect::Call(Request::Approve(Approval {
        id: id.to_owned(),
        scope,
        any_port: false,
    }))
}

#[test]
fn w4_keys_answer_the_question_under_the_cursor() {
    let mut model = Model::default();
    questions(&mut model, &[("a", "pending"), ("b", "pending")], true);
    press(&mut model, KeyCode::Tab);
    assert_eq!(
        press(&mut model, KeyCode::Char('a')),
        approved("a", Scope::Default)
    );
    press(&mut model, KeyCode::Down);
    assert_eq!(
        press(&mut model, KeyCode::Char('o')),
        approved("b", Scope::Once)
    );
    let denied = Effect::Call(Request::Deny(QuestionId { id: "b".to_owned() }));
    assert_eq!(press(&mut model, KeyCode::Char('r')), denied);
}

#[test]
fn w4_a_question_that_was_not_chosen_gets_no_answer() {
    let mut model = Model::default();
    assert_eq!(press(&mut model, KeyCode::Char('a')), Effect::None);
    questions(&mut model, &[("a", "pending"), ("b", "pending")], true);
    // The cursor is among the decisions.
    assert_eq!(press(&mut model, KeyCode::Char('a')), Effect::None);
    assert!(model.message.is_some());
    press(&mut model, KeyCode::Tab);
    // Another administrator answers it while the finger is on its way.
    questions(&mut model, &[("a", "denied")], true);
    for key in ['a', 'o', 'r'] {
        assert_eq!(press(&mut model, KeyCode::Char(key)), Effect::None);
    }
    press(&mut model, KeyCode::Down);
    assert_eq!(
        press(&mut model, KeyCode::Char('a')),
        approved("b", Scope::Default)
    );
}

#[test]
fn w4_who_may_not_answer_is_told_so() {
    let mut model = Model::default();
    questions(&mut model, &[("a", "pending")], false);
    press(&mut model, KeyCode::Tab);
    assert_eq!(press(&mut model, KeyCode::Char('a')), Effect::None);
    let message = model.message.expect("a message");
    assert_eq!(message, "this user may not answer questions");
}

#[test]
fn w4_closed_questions_leave_the_list() {
    let mut model = Model::default();
    let open = [
        ("a", "pending"),
        ("b", "pending"),
        ("c", "pending"),
        ("d", "pending"),
    ];
    questions(&mut model, &open, true);
    let closed = [
        ("a", "granted"),
        ("b", "denied"),
        ("c", "expired"),
        ("d", "abandoned"),
    ];
    questions(&mut model, &closed[..3], true);
    assert_eq!(model.questions.len(), 1);
    press(&mut model, KeyCode::Tab);
    assert_eq!(model.focus, Pane::Questions);
    questions(&mut model, &closed[3..], true);
    assert_eq!(model.focus, Pane::Decisions, "the list is gone");
}

#[test]
fn w4_the_questions_of_a_lost_proxy_cannot_be_answered() {
    let mut model = Model::default();
    questions(&mut model, &[("a", "pending")], true);
    press(&mut model, KeyCode::Tab);
    model.apply(Update::Lost(0, "gone".to_owned()), Instant::now());
    assert_eq!(press(&mut model, KeyCode::Char('a')), Effect::None);
    decided(&mut model, "a.test");
    assert_eq!(press(&mut model, KeyCode::Enter), Effect::None);
    assert!(model.page.is_some(), "the record can be read");
    let connected = Update::Connected(Access::Observe, "1".to_owned());
    model.apply(connected, Instant::now());
    assert!(model.proxy.lost.is_none());
}

#[test]
fn w4_an_explanation_shows_the_row_and_its_own_answer_only() {
    let mut model = Model::default();
    decided(&mut model, "a.test");
    decided(&mut model, "b.test");
    press(&mut model, KeyCode::Down);
    let Effect::Call(Request::Explain(first, query)) = press(&mut model, KeyCode::Enter) else {
        panic!("no call")
    };
    assert_eq!(query.url, "http://a.test/");
    press(&mut model, KeyCode::Char('q'));
    press(&mut model, KeyCode::Up);
    press(&mut model, KeyCode::Enter);
    let late = Update::Explained(first, Err("about a.test".to_owned()));
    model.apply(late, Instant::now());
    let page = model.page.expect("a page");
    assert_eq!(page.title, "b.test");
    assert!(!page.lines.contains(&"about a.test".to_owned()));
}

#[test]
fn w4_a_filter_works_while_it_is_written_and_escape_leaves_it() {
    let mut model = Model::default();
    decided(&mut model, "a.test");
    decided(&mut model, "b.test");
    typed(&mut model, "/b.tq");
    press(&mut model, KeyCode::Backspace);
    assert_eq!(model.decisions.shown().len(), 1);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.key_mode(), KeyMode::Lists);
    assert_eq!(model.decisions.shown().len(), 1, "it stays");
    press(&mut model, KeyCode::Esc);
    assert_eq!(model.decisions.shown().len(), 2);
}

#[test]
fn w4_enter_on_a_session_shows_its_decisions() {
    let mut model = Model::default();
    let sessions = vec![SessionEntry {
        id: "3f9a".to_owned(),
        ..SessionEntry::default()
    }];
    model.apply(Update::Look(sessions, None), Instant::now());
    press(&mut model, KeyCode::BackTab);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.focus, Pane::Decisions);
    assert_eq!(model.decisions.filter().text(), "3f9a");
}

#[test]
fn w4_nothing_is_drawn_when_nothing_has_changed() {
    let (mut model, start) = (Model::default(), Instant::now());
    let status = |uptime| {
        Some(Box::new(Status {
            uptime,
            ..Status::default()
        }))
    };
    model.apply(Update::Look(Vec::new(), status(1)), start);
    assert!(model.take_change());
    for second in 2..100 {
        let now = start + Duration::from_secs(second);
        model.apply(Update::Look(Vec::new(), status(second)), now);
        model.apply(Update::Decisions(Decisions::default()), now);
        model.apply(Update::Questions(Approvals::default()), now);
        assert!(!model.take_change(), "second {second}");
    }
    decided(&mut model, "a.test");
    assert!(model.take_change());
    press(&mut model, KeyCode::Down);
    assert!(model.take_change());
}
