//! The values of credentials that the launcher does not give, as they were read from their sources (SPEC
//! B13).
//!
//! The process that reads the configuration reads the sources too. Nothing here reads or shows a value.

use std::sync::Arc;

use super::CredentialSource;
use crate::secret::Secret;

/// Sources, each with the result of reading it.
#[derive(Clone, Debug, Default)]
pub struct CredentialReadings(Arc<[CredentialReading]>);

/// One source and the result of reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialReading {
    /// Where the value comes from.
    pub source: CredentialSource,
    /// The last value; `None` if the source could never be read.
    pub value: Option<Secret>,
    /// When the value was read, in seconds since 1970 (UTC); 0 without one.
    pub read_at: i64,
    /// Why the last reading failed, as the rest of a sentence about the credential. It contains no part of a
    /// value.
    pub failure: Option<Arc<str>>,
    /// How many readings have failed.
    pub failures: u64,
}

impl CredentialReadings {
    /// The readings. Of several for one source, the first one counts.
    pub fn new(readings: Vec<CredentialReading>) -> Self {
        Self(readings.into())
    }

    /// The reading of this source.
    pub fn of(&self, source: &CredentialSource) -> Option<&CredentialReading> {
        self.0.iter().find(|reading| reading.source == *source)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &CredentialReading> {
        self.0.iter()
    }

    /// These readings after a later one of one of the sources. A reading that failed leaves the value as it
    /// is. A reading of another source changes nothing.
    #[must_use]
    pub fn renewed(&self, later: &CredentialReading) -> Self {
        let renewed = self.0.iter().map(|reading| {
            if reading.source != later.source {
                return reading.clone();
            }
            let keeps = later.value.is_none();
            CredentialReading {
                source: reading.source.clone(),
                value: later.value.clone().or_else(|| reading.value.clone()),
                read_at: if keeps {
                    reading.read_at
                } else {
                    later.read_at
                },
                failure: later.failure.clone(),
                failures: reading.failures.saturating_add(later.failures),
            }
        });
        Self(renewed.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn reading(path: &str, value: Option<&str>) -> CredentialReading {
        CredentialReading {
            source: CredentialSource::File(PathBuf::from(path)),
            value: value.map(|value| Secret::new(value.as_bytes().to_vec())),
            read_at: if value.is_some() { 7 } else { 0 },
            failure: value.is_none().then(|| Arc::from("is gone")),
            failures: u64::from(value.is_none()),
        }
    }

    #[test]
    fn b13_a_reading_that_fails_leaves_the_value_and_is_counted() {
        let first = CredentialReadings::new(vec![reading("/a", Some("one")), reading("/b", None)]);
        let failed = first.renewed(&reading("/a", None));
        let failed = failed.renewed(&reading("/a", None));
        let a = failed.of(&first.0[0].source).expect("a reading");
        assert_eq!(a.value, first.0[0].value);
        assert_eq!((a.read_at, a.failures), (7, 2));
        assert_eq!(a.failure.as_deref(), Some("is gone"));
        let renewed = failed.renewed(&reading("/a", Some("two")));
        let a = renewed.of(&first.0[0].source).expect("a reading");
        assert_eq!(a.value, reading("/a", Some("two")).value);
        assert_eq!((&a.failure, a.failures), (&None, 2));
        let other = first.renewed(&reading("/c", Some("three")));
        assert_eq!(other.iter().count(), 2);
    }
}
