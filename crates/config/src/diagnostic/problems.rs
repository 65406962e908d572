//! Collects the findings of one load, and puts them in order.

use super::{Diagnostic, Diagnostics, Severity};
use crate::text::{TextSpan, Texts};

/// Errors that are listed in full; the others are counted.
const MAX_LISTED: usize = 100;

/// Collects findings while a configuration is checked. Its memory is bounded, however many there
/// are.
#[derive(Debug)]
pub(crate) struct Problems<'t> {
    pub(crate) texts: &'t Texts,
    excerpts: Excerpts,
    errors: FindingList,
    warnings: FindingList,
    notes: FindingList,
}

/// Whether findings show the line of the file that they are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excerpts {
    Shown,
    /// The line may hold a secret.
    LeftOut,
}

#[derive(Debug, Default)]
struct FindingList {
    /// Each with its place, to sort by; `None` sorts first.
    listed: Vec<(Option<TextSpan>, Diagnostic)>,
    unlisted: usize,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(texts: &'t Texts) -> Self {
        Self {
            texts,
            excerpts: Excerpts::Shown,
            errors: FindingList::default(),
            warnings: FindingList::default(),
            notes: FindingList::default(),
        }
    }

    /// Checks a part of the text that may hold a secret. Findings in it do not show the line (SPEC
    /// B4).
    pub(crate) fn without_excerpts<T>(&mut self, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.excerpts, Excerpts::LeftOut);
        let checked = check(self);
        self.excerpts = before;
        checked
    }

    /// Adds a problem that makes the configuration unusable. `help` may be empty.
    pub(crate) fn error(&mut self, place: TextSpan, message: &str, help: &str) {
        self.add(Severity::Error, place, message, help);
    }

    /// Adds a warning about a setting that does not do what it seems to say.
    pub(crate) fn warning(&mut self, place: TextSpan, message: &str, help: &str) {
        self.add(Severity::Warning, place, message, help);
    }

    /// Adds a note about a setting that has a newer form.
    pub(crate) fn note(&mut self, place: TextSpan, message: &str, help: &str) {
        self.add(Severity::Note, place, message, help);
    }

    fn add(&mut self, severity: Severity, place: TextSpan, message: &str, help: &str) {
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Note => &mut self.notes,
        };
        if list.listed.len() >= MAX_LISTED {
            list.unlisted += 1;
            return;
        }
        let mut finding = Diagnostic::at(severity, self.texts, place, message, help);
        if self.excerpts == Excerpts::LeftOut {
            finding.excerpt = None;
        }
        list.listed.push((Some(place), finding));
    }

    /// Adds an error about a whole source, or about no source.
    pub(crate) fn error_about(&mut self, found: Diagnostic) {
        self.errors.listed.push((None, found));
    }

    /// Adds a warning that something is left out for the first error of `tried`, which is the attempt
    /// to read it. Returns whether there was an error. Other findings of the attempt are dropped.
    pub(crate) fn warn_if_failed(&mut self, tried: Problems<'_>, left_out: &str) -> bool {
        let first = tried
            .errors
            .listed
            .into_iter()
            .min_by_key(|(place, _)| *place);
        let failed = first.is_some();
        if let Some((place, error)) = first
            && self.warnings.listed.len() < MAX_LISTED
        {
            self.warnings
                .listed
                .push((place, error.into_warning(left_out)));
        }
        failed
    }

    /// The errors, if there are any.
    pub(crate) fn check(&mut self) -> Result<(), Diagnostics> {
        if self.errors.listed.is_empty() {
            return Ok(());
        }
        let unlisted = self.errors.unlisted;
        let mut all = std::mem::take(&mut self.errors.listed);
        all.append(&mut self.warnings.listed);
        Err(Diagnostics {
            listed: sorted(all),
            unlisted,
        })
    }

    /// The warnings and the notes of a configuration that can be used.
    pub(crate) fn into_warnings_and_notes(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (sorted(self.warnings.listed), sorted(self.notes.listed))
    }
}

/// Sorts problems by the order of the layers, and then by their position in the text.
fn sorted(mut found: Vec<(Option<TextSpan>, Diagnostic)>) -> Vec<Diagnostic> {
    found.sort_by_key(|(place, _)| *place);
    found
        .into_iter()
        .map(|(_, diagnostic)| diagnostic)
        .collect()
}
