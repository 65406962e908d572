//! The cursor of a list whose rows come and go: it stays at its row, not at its place.

/// The row under the cursor, by its id.
#[derive(Debug, Default)]
pub(super) struct Selection(Option<String>);

impl Selection {
    /// The place of the row; `None` if no row is selected.
    pub(super) fn place<'a>(&self, mut ids: impl Iterator<Item = &'a str>) -> Option<usize> {
        let selected = self.0.as_deref()?;
        ids.position(|id| id == selected)
    }

    /// Selects the first row, unless one is selected.
    pub(super) fn begin<'a>(&mut self, mut ids: impl Iterator<Item = &'a str>) {
        if self.0.is_none() {
            self.0 = ids.next().map(str::to_owned);
        }
    }

    /// Selects the row that is this many rows below, or the nearest one there is.
    pub(super) fn move_by<'a>(&mut self, ids: impl Iterator<Item = &'a str>, rows: isize) {
        let ids: Vec<&str> = ids.collect();
        let last = ids.len().saturating_sub(1);
        let place = match self.place(ids.iter().copied()) {
            Some(place) => place.saturating_add_signed(rows).min(last),
            None => 0,
        };
        self.0 = ids.get(place).map(|id| (*id).to_owned());
    }

    /// Selects no row if the selected one is gone. Returns whether it is.
    pub(super) fn forget_missing<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> bool {
        let is_gone = self.0.is_some() && self.place(ids).is_none();
        if is_gone {
            self.0 = None;
        }
        is_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_the_cursor_stays_at_its_row_and_never_moves_to_another_by_itself() {
        let mut selection = Selection::default();
        let place = |selection: &Selection, ids: &[&str]| selection.place(ids.iter().copied());
        selection.begin(["a", "b", "c"].into_iter());
        selection.move_by(["a", "b", "c"].into_iter(), 1);
        assert_eq!(place(&selection, &["new", "a", "b"]), Some(2));
        assert!(!selection.forget_missing(["b"].into_iter()));
        assert!(selection.forget_missing(["a", "c"].into_iter()));
        assert_eq!(place(&selection, &["a", "c"]), None);
        assert!(!selection.forget_missing(["a"].into_iter()), "said once");
        selection.move_by(["a", "c"].into_iter(), 1);
        assert_eq!(place(&selection, &["a", "c"]), Some(0));
        selection.move_by(["a", "c"].into_iter(), isize::MAX);
        assert_eq!(place(&selection, &["a", "c"]), Some(1));
        selection.move_by(["a", "c"].into_iter(), isize::MIN);
        assert_eq!(place(&selection, &["a", "c"]), Some(0));
        selection.move_by([].into_iter(), 1);
        assert_eq!(place(&selection, &["a"]), None);
    }
}
