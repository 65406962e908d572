//! The newest decisions, within a bound, and the cursor among them.
//!
//! The list runs while the cursor is at the top. Below the top it stands still, so that the row under the cursor does
//! not change by itself; new decisions are kept behind it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::filter::{Filter, Verdicts};
use super::rows::DecisionRow;

/// Most decisions that are kept.
pub(super) const MAX_KEPT: usize = 2000;

/// The decisions.
#[derive(Debug, Default)]
pub(super) struct DecisionList {
    /// The newest first.
    kept: VecDeque<Rc<DecisionRow>>,
    /// The rows that are shown while the list stands still.
    still: Option<Vec<Rc<DecisionRow>>>,
    /// How many arrived since then.
    arrived: u64,
    filter: Filter,
    verdicts: Verdicts,
    /// The place among the shown rows.
    cursor: usize,
}

impl DecisionList {
    pub(super) fn add(&mut self, row: DecisionRow) {
        self.kept.push_front(Rc::new(row));
        self.kept.truncate(MAX_KEPT);
        if self.still.is_some() {
            self.arrived += 1;
        }
    }

    /// The rows that pass the filter, the newest first.
    pub(super) fn shown(&self) -> Vec<&Rc<DecisionRow>> {
        let passes =
            |row: &&Rc<DecisionRow>| self.verdicts.include(row.verdict) && self.filter.matches(row);
        match &self.still {
            Some(still) => still.iter().filter(passes).collect(),
            None => self.kept.iter().filter(passes).collect(),
        }
    }

    /// The row under the cursor.
    pub(super) fn selected(&self) -> Option<Rc<DecisionRow>> {
        self.shown().get(self.cursor).map(|row| Rc::clone(row))
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn verdicts(&self) -> Verdicts {
        self.verdicts
    }

    /// How many decisions arrived since the list stands still; `None` while it runs.
    pub(super) fn arrived(&self) -> Option<u64> {
        self.still.is_some().then_some(self.arrived)
    }

    /// Moves the cursor by this many rows. Below the top, the list stands still.
    pub(super) fn move_by(&mut self, rows: isize) {
        let last = self.shown().len().saturating_sub(1);
        let cursor = self.cursor.saturating_add_signed(rows).min(last);
        if cursor > 0 {
            self.stop();
        }
        self.cursor = cursor;
    }

    /// Lets the list run, or stand still.
    pub(super) fn toggle(&mut self) {
        if self.still.is_some() {
            self.run();
        } else {
            self.stop();
        }
    }

    /// Lets the list run, with the cursor at the top.
    pub(super) fn run(&mut self) {
        self.still = None;
        self.arrived = 0;
        self.cursor = 0;
    }

    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.run();
    }

    pub(super) fn next_verdicts(&mut self) {
        self.verdicts = self.verdicts.next();
        self.run();
    }

    fn stop(&mut self) {
        if self.still.is_none() {
            self.still = Some(self.kept.iter().cloned().collect());
            self.arrived = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::DecisionEntry;

    use super::*;

    fn row(host: &str) -> DecisionRow {
        DecisionRow::of(&DecisionEntry {
            host: host.to_owned(),
            decision: "deny".to_owned(),
            ..DecisionEntry::default()
        })
    }

    fn hosts(list: &DecisionList) -> Vec<&str> {
        let shown = list.shown().into_iter();
        shown.map(|row| row.destination.as_str()).collect()
    }

    #[test]
    fn w4_only_the_newest_decisions_are_kept() {
        let mut list = DecisionList::default();
        for number in 0..MAX_KEPT + 10 {
            list.add(row(&number.to_string()));
        }
        assert_eq!(list.shown().len(), MAX_KEPT);
        assert_eq!(hosts(&list)[0], (MAX_KEPT + 9).to_string());
    }

    #[test]
    fn w4_the_row_under_the_cursor_stays_while_decisions_arrive() {
        let mut list = DecisionList::default();
        for host in ["a", "b", "c"] {
            list.add(row(host));
        }
        list.move_by(1);
        for _ in 0..MAX_KEPT {
            list.add(row("new"));
        }
        assert_eq!(list.selected().expect("a row").destination, "b");
        assert_eq!(list.arrived(), Some(MAX_KEPT as u64));
        list.run();
        assert_eq!(list.selected().expect("a row").destination, "new");
        assert_eq!(list.arrived(), None);
    }

    #[test]
    fn w4_the_cursor_stays_within_the_rows_that_pass_the_filter() {
        let mut list = DecisionList::default();
        list.move_by(5);
        assert_eq!((list.cursor(), list.selected().is_some()), (0, false));
        for host in ["a1", "b", "a2", "a3"] {
            list.add(row(host));
        }
        list.move_by(3);
        list.set_filter(Filter::of("a"));
        assert_eq!((hosts(&list), list.cursor()), (vec!["a3", "a2", "a1"], 0));
        list.move_by(isize::MAX);
        assert_eq!(list.selected().expect("a row").destination, "a1");
        list.move_by(isize::MIN);
        assert_eq!(list.cursor(), 0);
        list.next_verdicts();
        list.next_verdicts();
        assert!(list.shown().is_empty(), "none was allowed");
    }
}
