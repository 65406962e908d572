//! Everything that the screen shows, and how updates of the proxy and commands of the user change it.
//!
//! It neither draws nor waits, and reads no clock: times are passed in.

use std::rc::Rc;
use std::time::Instant;

use codex_network_control::Access;
use codex_network_control::message::{
    Approval, Approvals, Decisions, ExplainQuery, Explained, QuestionId, Scope, SessionEntry,
    Status,
};

use super::decision_list::DecisionList;
use super::filter::Filter;
use super::keys::{Command, KeyMode};
use super::page::Page;
use super::rates::{Counts, Rates};
use super::rows::{DecisionRow, QuestionRow, SessionRow, clock, shown};
use super::selection::Selection;

/// News of the proxy.
#[derive(Debug)]
pub(super) enum Update {
    /// A connection, with the caller's access and the version of the proxy.
    Connected(Access, String),
    /// The connection is lost since this time, in seconds since 1970.
    Lost(i64, String),
    Decisions(Decisions),
    Questions(Approvals),
    /// Once a second: the sessions, and the state of the proxy if the caller may see it.
    Look(Vec<SessionEntry>, Option<Box<Status>>),
    /// The answer to [`Request::Explain`] of this number, or why it failed.
    Explained(u64, Result<Box<Explained>, String>),
    /// The result of an answer to a question, as a sentence.
    Answered(String),
}

/// A call that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// With a number for its answer.
    Explain(u64, ExplainQuery),
    Approve(Approval),
    Deny(QuestionId),
}

/// The effect of a command outside the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    Suspend,
    Call(Request),
}

/// A list of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    Questions,
    Sessions,
    #[default]
    Decisions,
}

/// The facts about the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) version: String,
    pub(super) access: Access,
    /// `None` for a caller who may not see it.
    pub(super) mode: Option<String>,
    pub(super) is_enabled: bool,
    pub(super) connections: usize,
    /// Since when it does not answer, and why.
    pub(super) lost: Option<(String, String)>,
}

/// The lines of the screen around the text of a page.
pub(super) const PAGE_FRAME: u16 = 5;

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) proxy: Proxy,
    pub(super) rates: Rates,
    pub(super) decisions: DecisionList,
    pub(super) questions: Vec<QuestionRow>,
    pub(super) sessions: Vec<SessionRow>,
    pub(super) question: Selection,
    pub(super) session: Selection,
    pub(super) focus: Pane,
    /// Whether the caller may answer questions.
    pub(super) may_answer: bool,
    /// The filter that is being written.
    pub(super) typed: Option<String>,
    /// The page over the lists.
    pub(super) page: Option<Page>,
    /// The result of the last command.
    pub(super) message: Option<String>,
    /// The columns and lines of the screen.
    size: (u16, u16),
    shown_rates: Counts,
    /// How many explanations were asked for.
    calls: u64,
    is_changed: bool,
}

impl Model {
    /// Whether the screen must be drawn since the last call.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// The screen must be drawn.
    pub(super) fn changed(&mut self) {
        self.is_changed = true;
    }

    /// The screen has this many columns and lines.
    pub(super) fn resized(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.changed();
    }

    /// The rates that are shown.
    pub(super) fn shown_rates(&self) -> Counts {
        self.shown_rates
    }

    /// The meaning of the keys.
    pub(super) fn key_mode(&self) -> KeyMode {
        if self.typed.is_some() {
            KeyMode::Filter
        } else if self.page.is_some() {
            KeyMode::Page
        } else {
            KeyMode::Lists
        }
    }

    /// Takes an update.
    pub(super) fn apply(&mut self, update: Update, now: Instant) {
        match update {
            Update::Connected(access, version) => {
                self.rates.begin_anew();
                self.proxy = Proxy {
                    version: shown(&version),
                    access,
                    ..Proxy::default()
                };
                self.changed();
            }
            Update::Lost(since, why) => {
                // The questions of a worker end with it, and nothing can be answered.
                self.set_questions(Vec::new());
                self.set_sessions(Vec::new());
                self.proxy.lost = Some((clock(since), shown(&why)));
                self.rates.begin_anew();
                self.shown_rates = self.rates.per_second();
                self.changed();
            }
            Update::Decisions(decisions) => {
                self.rates.add(&decisions);
                for entry in &decisions.decisions {
                    self.decisions.add(DecisionRow::of(entry));
                }
                self.is_changed |= !decisions.decisions.is_empty();
            }
            Update::Questions(found) => self.questions_changed(&found),
            Update::Look(sessions, status) => self.look(&sessions, status.as_deref(), now),
            Update::Explained(call, Ok(explained)) => {
                self.explained(call, Page::policy_now(&explained));
            }
            Update::Explained(call, Err(why)) => self.explained(call, vec![shown(&why)]),
            Update::Answered(sentence) => {
                self.message = Some(shown(&sentence));
                self.changed();
            }
        }
    }

    /// Carries out a command.
    pub(super) fn act(&mut self, command: Command) -> Effect {
        self.changed();
        self.message = None;
        match command {
            Command::Quit => return Effect::Quit,
            Command::Suspend => return Effect::Suspend,
            Command::Help => self.page = Some(Page::help()),
            Command::Close => self.close(),
            Command::NextPane => self.turn_focus(1),
            Command::PreviousPane => self.turn_focus(-1),
            Command::Move(rows) => self.move_by(rows),
            Command::Enter => return self.enter(),
            Command::Pause => self.decisions.toggle(),
            Command::NextVerdicts => self.decisions.next_verdicts(),
            Command::BeginFilter => {
                self.typed = Some(self.decisions.filter().text().to_owned());
            }
            Command::Type(character) => {
                if let Some(typed) = &mut self.typed {
                    typed.push(character);
                    let filter = Filter::of(typed);
                    self.decisions.set_filter(filter);
                }
            }
            Command::Erase => {
                if let Some(typed) = &mut self.typed {
                    typed.pop();
                    let filter = Filter::of(typed);
                    self.decisions.set_filter(filter);
                }
            }
            Command::Approve(scope) => return self.approve(scope),
            Command::Reject => {
                if let Some(id) = self.answerable() {
                    return Effect::Call(Request::Deny(QuestionId { id }));
                }
            }
        }
        Effect::None
    }

    /// Whether a list is on the screen. Only the decisions always are.
    pub(super) fn has(&self, pane: Pane) -> bool {
        match pane {
            Pane::Questions => !self.questions.is_empty(),
            Pane::Sessions => !self.sessions.is_empty(),
            Pane::Decisions => true,
        }
    }

    /// The question under the cursor.
    pub(super) fn selected_question(&self) -> Option<&QuestionRow> {
        let place = self
            .question
            .place(self.questions.iter().map(|row| &*row.id))?;
        self.questions.get(place)
    }

    /// The session under the cursor.
    pub(super) fn selected_session(&self) -> Option<&SessionRow> {
        let place = self
            .session
            .place(self.sessions.iter().map(|row| &*row.id))?;
        self.sessions.get(place)
    }

    /// The decision under the cursor.
    pub(super) fn selected_decision(&self) -> Option<Rc<DecisionRow>> {
        self.decisions.selected()
    }

    fn questions_changed(&mut self, found: &Approvals) {
        let mut questions = self.questions.clone();
        for question in &found.approvals {
            let row = QuestionRow::of(question);
            let old = questions.iter().position(|other| other.id == row.id);
            match (question.state.as_str(), old) {
                ("pending", Some(old)) => questions[old] = row,
                ("pending", None) => questions.push(row),
                (_, Some(old)) => drop(questions.remove(old)),
                (_, None) => {}
            }
        }
        self.is_changed |= self.may_answer != found.may_answer;
        self.may_answer = found.may_answer;
        self.set_questions(questions);
    }

    fn set_questions(&mut self, questions: Vec<QuestionRow>) {
        self.is_changed |= self.questions != questions;
        self.questions = questions;
        // The key of an answer must not meet another question than the one that was read.
        let ids = || self.questions.iter().map(|row| &*row.id);
        if self.question.forget_missing(ids()) && self.focus == Pane::Questions {
            self.message =
                Some("that question is closed; choose another with the arrows".to_owned());
        }
        self.keep_focus();
    }

    fn set_sessions(&mut self, sessions: Vec<SessionRow>) {
        self.is_changed |= self.sessions != sessions;
        self.sessions = sessions;
        self.session
            .forget_missing(self.sessions.iter().map(|row| &*row.id));
        self.keep_focus();
    }

    fn look(&mut self, sessions: &[SessionEntry], status: Option<&Status>, now: Instant) {
        self.rates.sample(sessions, now);
        let rates = self.rates.per_second();
        self.is_changed |= rates != self.shown_rates;
        self.shown_rates = rates;
        self.set_sessions(sessions.iter().map(SessionRow::of).collect());
        if let Some(status) = status {
            let proxy = Proxy {
                version: shown(&status.version),
                access: self.proxy.access,
                mode: Some(shown(&status.mode)),
                is_enabled: status.enabled,
                connections: status.counters.connections,
                lost: None,
            };
            self.is_changed |= proxy != self.proxy;
            self.proxy = proxy;
        }
    }

    fn explained(&mut self, call: u64, lines: Vec<String>) {
        if let Some(page) = &mut self.page {
            page.answered(call, lines);
            self.changed();
        }
    }

    /// Leaves the innermost thing that is open: the filter line, a page, a list that stands still, the filter.
    fn close(&mut self) {
        if self.typed.take().is_some() || self.page.take().is_some() {
            return;
        }
        if self.decisions.arrived().is_some() {
            self.decisions.run();
        } else {
            self.decisions.set_filter(Filter::default());
        }
    }

    /// The panes that are on the screen, from the top.
    fn panes(&self) -> Vec<Pane> {
        let all = [Pane::Questions, Pane::Sessions, Pane::Decisions];
        all.into_iter().filter(|pane| self.has(*pane)).collect()
    }

    fn turn_focus(&mut self, by: isize) {
        let panes = self.panes();
        let here = panes.iter().position(|pane| *pane == self.focus);
        let next = here.unwrap_or(0).cast_signed() + by;
        let next = next.rem_euclid(panes.len().cast_signed()).cast_unsigned();
        self.focus = panes[next];
        match self.focus {
            Pane::Questions => self
                .question
                .begin(self.questions.iter().map(|row| &*row.id)),
            Pane::Sessions => self.session.begin(self.sessions.iter().map(|row| &*row.id)),
            Pane::Decisions => {}
        }
    }

    fn keep_focus(&mut self) {
        if !self.has(self.focus) {
            self.focus = Pane::Decisions;
        }
    }

    fn move_by(&mut self, rows: isize) {
        if let Some(page) = &mut self.page {
            let (columns, lines) = self.size;
            page.scroll_by(rows, columns, usize::from(lines.saturating_sub(PAGE_FRAME)));
            return;
        }
        match self.focus {
            Pane::Questions => {
                let ids = self.questions.iter().map(|row| &*row.id);
                self.question.move_by(ids, rows);
            }
            Pane::Sessions => {
                let ids = self.sessions.iter().map(|row| &*row.id);
                self.session.move_by(ids, rows);
            }
            Pane::Decisions if rows == isize::MIN => self.decisions.run(),
            Pane::Decisions => self.decisions.move_by(rows),
        }
    }

    /// Ends the filter line, closes a page, shows the decisions of a session, or explains.
    fn enter(&mut self) -> Effect {
        if self.typed.take().is_some() || self.page.take().is_some() {
            return Effect::None;
        }
        self.calls += 1;
        let call = self.calls;
        let query = match self.focus {
            Pane::Sessions => {
                if let Some(id) = self.selected_session().map(|session| session.id.clone()) {
                    self.decisions.set_filter(Filter::of(&id));
                    self.focus = Pane::Decisions;
                }
                return Effect::None;
            }
            Pane::Questions => {
                let Some(question) = self.selected_question().cloned() else {
                    return self.choose_first();
                };
                self.page = Some(Page::of_question(&question, call));
                Some(question.explain)
            }
            Pane::Decisions => {
                let Some(decision) = self.selected_decision() else {
                    return Effect::None;
                };
                self.page = Some(Page::of_decision(&decision, call));
                decision.explain.clone()
            }
        };
        match query {
            Some(_) if self.proxy.lost.is_some() => {
                self.explained(call, vec!["the proxy does not answer".to_owned()]);
                Effect::None
            }
            Some(query) => Effect::Call(Request::Explain(call, query)),
            None => {
                self.explained(call, vec!["it is not a valid host".to_owned()]);
                Effect::None
            }
        }
    }

    fn approve(&mut self, scope: Scope) -> Effect {
        match self.answerable() {
            Some(id) => Effect::Call(Request::Approve(Approval {
                id,
                scope,
                any_port: false,
            })),
            None => Effect::None,
        }
    }

    /// The id of the question under the cursor, if an answer to it is meant and permitted.
    fn answerable(&mut self) -> Option<String> {
        if self.focus != Pane::Questions {
            let why = if self.questions.is_empty() {
                "there is no open question"
            } else {
                "choose a question first: Tab, then the arrows"
            };
            self.message = Some(why.to_owned());
            return None;
        }
        if !self.may_answer {
            self.message = Some("this user may not answer questions".to_owned());
            return None;
        }
        let id = self.selected_question().map(|question| question.id.clone());
        if id.is_none() {
            self.choose_first();
        }
        id
    }

    fn choose_first(&mut self) -> Effect {
        self.message = Some("choose a question first, with the arrows".to_owned());
        Effect::None
    }
}

#[cfg(test)]
mod tests;
