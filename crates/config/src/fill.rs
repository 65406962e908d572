//! Reads the simple keys: each value goes from its row's kind to its row's field.

use crate::catalogue::{self, Draft, KeyRow, ValueKind};
use crate::config_lines::ConfigLines;
use crate::constraints::Requirements;
use crate::diagnostic::Problems;
use crate::dialect::RawSettings;
use crate::entries;
use crate::read;

/// Fills in every simple key that is written or required. The others keep their defaults.
pub(crate) fn fill(
    draft: &mut Draft,
    raw: &RawSettings<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) {
    for row in catalogue::rows() {
        read_row(row, draft, raw, requirements, problems);
    }
}

fn read_row(
    row: &KeyRow,
    draft: &mut Draft,
    raw: &RawSettings<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> Option<()> {
    match row.kind {
        ValueKind::Flag(field) => {
            (field.set)(draft, requirements.flag(row.key, raw, problems)?);
        }
        ValueKind::Text(field) => {
            (field.set)(draft, requirements.text(row.key, raw, problems)?);
        }
        ValueKind::Integer(least, most, field) => {
            let number = read::integer(raw.get(row.key)?, least..=most, problems)?;
            (field.set)(draft, number);
        }
        ValueKind::Duration(zero, field) => {
            (field.set)(draft, read::duration(raw.get(row.key)?, zero, problems)?);
        }
        ValueKind::Word(words, field) => {
            let words: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
            (field.set)(draft, read::word(raw.get(row.key)?, &words, problems)?);
        }
        ValueKind::Path(field) => (field.set)(draft, read::path(raw.get(row.key)?, problems)?),
        ValueKind::Principals(field) => {
            (field.set)(draft, entries::principals(raw.get(row.key)?, problems));
        }
        ValueKind::Special { .. } | ValueKind::Nested(_) => {}
    }
    Some(())
}

/// The places of all keys that are written, under the names that `/config` has for their values.
pub(crate) fn lines(raw: &RawSettings<'_>, problems: &Problems<'_>) -> ConfigLines {
    let mut lines = ConfigLines::default();
    for row in catalogue::rows() {
        let Some(setting) = raw.get(row.key) else {
            continue;
        };
        for name in row.sets.unwrap_or(&[row.key.name()]) {
            lines.replace(name, problems.texts.config_line(setting.at));
        }
    }
    lines
}
