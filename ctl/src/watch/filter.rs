//! Which decisions are shown: words, and a verdict.

use super::rows::{DecisionRow, Verdict};

/// The longest filter, in characters.
const MAX_LENGTH: usize = 100;

/// The words of a filter. A row has all of them, and none of those that begin with `!`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    text: String,
    wanted: Vec<String>,
    unwanted: Vec<String>,
}

/// The verdicts that are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdicts {
    #[default]
    All,
    Refused,
    Allowed,
}

impl Filter {
    pub(super) fn of(text: &str) -> Self {
        let text: String = text.trim().chars().take(MAX_LENGTH).collect();
        let lower = text.to_lowercase();
        let (unwanted, wanted): (Vec<&str>, Vec<&str>) = lower
            .split_whitespace()
            .partition(|word| word.starts_with('!'));
        let unwanted = unwanted.into_iter().map(|word| &word[1..]);
        Self {
            wanted: wanted.into_iter().map(str::to_owned).collect(),
            unwanted: unwanted
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            text,
        }
    }

    /// The filter as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, row: &DecisionRow) -> bool {
        let has = |word: &String| row.searched.contains(word.as_str());
        self.wanted.iter().all(has) && !self.unwanted.iter().any(has)
    }
}

impl Verdicts {
    pub(super) fn include(self, verdict: Verdict) -> bool {
        match self {
            Self::All => true,
            Self::Refused => verdict != Verdict::Allow,
            Self::Allowed => verdict == Verdict::Allow,
        }
    }

    /// The next choice of the key.
    pub(super) fn next(self) -> Self {
        match self {
            Self::All => Self::Refused,
            Self::Refused => Self::Allowed,
            Self::Allowed => Self::All,
        }
    }

    /// The remark beside the list; empty where there is nothing to say.
    pub(super) fn remark(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Refused => "only refused",
            Self::Allowed => "only allowed",
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::DecisionEntry;

    use super::*;

    #[test]
    fn w4_a_row_has_all_words_of_the_filter_and_none_after_an_exclamation_mark() {
        let row = DecisionRow::of(&DecisionEntry {
            host: "api.example.com".to_owned(),
            port: Some(443),
            decision: "deny".to_owned(),
            reason: "not_allowed".to_owned(),
            command: Some("Curl".to_owned()),
            ..DecisionEntry::default()
        });
        for (text, wanted) in [
            ("", true),
            ("  ", true),
            ("EXAMPLE curl", true),
            ("example wget", false),
            (":443 deny", true),
            ("!wget", true),
            ("example !not_allowed", false),
            ("!", true),
        ] {
            assert_eq!(Filter::of(text).matches(&row), wanted, "{text:?}");
        }
        assert_eq!(
            Filter::of(&"ä".repeat(5000)).text().chars().count(),
            MAX_LENGTH
        );
    }

    #[test]
    fn w4_a_question_counts_as_refused_until_it_is_answered() {
        let shown = |verdicts: Verdicts| {
            [Verdict::Allow, Verdict::Deny, Verdict::Ask].map(|verdict| verdicts.include(verdict))
        };
        assert_eq!(shown(Verdicts::All), [true, true, true]);
        assert_eq!(shown(Verdicts::All.next()), [false, true, true]);
        assert_eq!(shown(Verdicts::All.next().next()), [true, false, false]);
        assert_eq!(Verdicts::All.next().next().next(), Verdicts::All);
    }
}
