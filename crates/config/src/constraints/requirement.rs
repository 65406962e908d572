//! One requirement: what it permits, and the line that it is on.

use std::fmt::Display;

use crate::catalogue::Key;
use crate::diagnostic::{Problems, quoted};
use crate::dialect::RawSetting;
use crate::managed;
use crate::text::TextSpan;

/// The permitted value, and the line that says so.
#[derive(Debug)]
pub(super) struct Requirement<T> {
    pub(super) permitted: T,
    /// The requirement in TOML, for messages.
    written: String,
    pub(super) at: TextSpan,
}

impl<T> Requirement<T> {
    pub(super) fn new(permitted: T, written: impl Into<String>, at: TextSpan) -> Self {
        Self {
            permitted,
            written: written.into(),
            at,
        }
    }

    pub(super) fn of(setting: RawSetting<'_>, permitted: T) -> Self {
        Self::new(permitted, setting.name, setting.at)
    }

    /// Reports a value that the requirement does not permit (SPEC C6), at the place of the value.
    pub(super) fn refuse(
        &self,
        key: Key,
        requested: &dyn Display,
        permitted: &dyn Display,
        at: TextSpan,
        problems: &mut Problems<'_>,
    ) {
        self.report(key, (requested, permitted), "the key", at, problems);
    }

    /// Like [`refuse`](Self::refuse), for an element of a list.
    pub(super) fn refuse_element(
        &self,
        key: Key,
        requested: &dyn Display,
        permitted: &dyn Display,
        at: TextSpan,
        problems: &mut Problems<'_>,
    ) {
        self.report(key, (requested, permitted), "this one", at, problems);
    }

    fn report(
        &self,
        key: Key,
        (requested, permitted): (&dyn Display, &dyn Display),
        excess: &str,
        at: TextSpan,
        problems: &mut Problems<'_>,
    ) {
        let place = problems.texts.file_and_line(self.at);
        let message = managed::invalid(key.name(), &requested.to_string(), &permitted.to_string());
        let help = format!("{place} has `{}`; take {excess} out", self.written);
        problems.error(at, &message, &help);
    }

    /// Reports a requirement that leaves no permitted value beside this one.
    pub(super) fn contradicted_by(&self, other: RawSetting<'_>, problems: &mut Problems<'_>) {
        let place = problems.texts.file_and_line(self.at);
        let message = format!(
            "{} leaves no value, since {place} requires another",
            quoted(other.name)
        );
        problems.error(other.node.at, &message, "keep one of them");
    }
}
