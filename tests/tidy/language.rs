//! Plain language: forms that a reader must decode do not come back.

use crate::sources::{Source, texts};

/// Words that mean something else in the field, or nothing outside of this project.
const WORDS: &[&str] = &[
    "whoever", "whomever", "somebody", "unsaid", "errand", "errands", "askers", "flaw", "flaws",
    "foreseen",
];

/// Phrases, with a word's end on both sides.
const PHRASES: &[&str] = &[
    "is none",
    "that is no",
    "has to be",
    "have to be",
    "is to be",
    "are to be",
    "is not to be",
    "are not to be",
    "so that nobody",
    "so that no one",
    "for who",
    "as far as",
    "nobody else",
    "everybody else",
];

/// Parts of the names of constants. These have `MAX_*`, `MIN_*`, `*_TIMEOUT` and `*_INTERVAL`.
const CONSTANTS: &[&str] = &["MOST_", "LONGEST_", "_PATIENCE"];

/// The table of `CONTRIBUTING.md` shows some of the forms, and this file lists them.
const EXEMPT: &[&str] = &[
    "CONTRIBUTING.md",
    "Cargo.lock",
    "LICENSE",
    "tests/tidy/language.rs",
];

/// The forms in a line.
fn banned(line: &str) -> Vec<&'static str> {
    let lower = line.to_lowercase();
    let words = lower.split(|character: char| !character.is_alphanumeric());
    let has_word = |wanted: &str| words.clone().any(|word| word == wanted);
    let mut found: Vec<&'static str> = WORDS
        .iter()
        .copied()
        .filter(|wanted| has_word(wanted))
        .collect();
    // These two contain a banned phrase and are not banned: the first is code.
    let prose = line.replace("is None", "").to_lowercase();
    let prose = prose.replace("that is no longer", "");
    found.extend(PHRASES.iter().filter(|phrase| has_phrase(&prose, phrase)));
    let names = line.split(|character: char| !character.is_alphanumeric() && character != '_');
    found.extend(CONSTANTS.iter().filter(|part| {
        names.clone().any(|name| {
            name == name.to_uppercase()
                && if part.starts_with('_') {
                    name.contains(*part)
                } else {
                    name.starts_with(*part) || name.contains(&format!("_{part}"))
                }
        })
    }));
    // A comment that begins with a clause as its subject.
    let comment = line.trim_start();
    let starts = |mark: &str| comment.starts_with(&format!("{mark} What "));
    if ["//", "///", "//!"].into_iter().any(starts) && !comment.ends_with('?') {
        found.push("What …");
    }
    found
}

fn has_phrase(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        let ends = |next: Option<char>| !next.is_some_and(char::is_alphanumeric);
        ends(before) && ends(after)
    })
}

fn places(sources: impl Iterator<Item = Source>) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            for form in banned(line) {
                places.push(format!("{}:{}: {form}: {line}", source.path, number + 1));
            }
        }
    }
    places
}

#[test]
fn no_text_has_a_form_that_a_reader_must_decode() {
    let is_exempt = |source: &Source| EXEMPT.contains(&source.path.as_str());
    let sources = texts().into_iter().filter(|source| !is_exempt(source));
    let places = places(sources);
    assert!(
        places.is_empty(),
        "{} places; CONTRIBUTING.md, Language, says what to write instead:\n{}",
        places.len(),
        places.join("\n")
    );
}

#[test]
fn the_forms_are_found() {
    for (line, form) in [
        ("The host is none.", "is none"),
        ("/// Whoever asks waits.", "whoever"),
        ("a request that is no request", "that is no"),
        ("const MOST_WAITING: usize = 4;", "MOST_"),
        ("const DIAL_PATIENCE: Duration = X;", "_PATIENCE"),
        ("    // What a reload changes.", "What …"),
    ] {
        assert_eq!(banned(line), [form], "{line}");
    }
    for line in [
        "ALMOST_FULL",
        "the file that is not there",
        "// What happens then?",
        "a history is nonempty",
        "let most_recent = 4;",
    ] {
        assert!(banned(line).is_empty(), "{line}");
    }
}
