//! The operator's page (`packaging/OPERATING.md`) and the sources agree: every event of the log with its
//! level and fields, every note and problem of `doctor`, and the texts that alerts look for.
//!
//! `...` stands for a part that varies. An event's text may be cut on the page; it then ends in `...`.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{root, rust};

/// An event of the log: its level and its text.
type Event = (String, String);

fn page() -> String {
    std::fs::read_to_string(root().join("packaging/OPERATING.md")).expect("the operator's page")
}

/// The rows of all tables of the page with this header, cell by cell.
fn rows(header: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in page().lines() {
        if line == header {
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("| ---") {
            let cells = line.replace("\\|", "\0");
            let cells = cells.trim_matches('|').split('|');
            rows.push(
                cells
                    .map(|cell| cell.replace('\0', "|").trim().to_owned())
                    .collect(),
            );
        }
    }
    assert!(!rows.is_empty(), "{header}");
    rows
}

fn code(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// The arguments of a call whose text begins behind its parenthesis, split at its own commas.
fn arguments(text: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let (mut depth, mut in_text) = (0, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if in_text => {
                let last = arguments.last_mut().expect("one");
                last.push(c);
                last.extend(characters.next());
                continue;
            }
            '"' => in_text = !in_text,
            ')' if !in_text && depth == 0 => break,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' | ']' | '}' if !in_text => depth -= 1,
            ',' if !in_text && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().expect("one").push(c);
    }
    arguments
        .into_iter()
        .map(|one| one.trim().to_owned())
        .collect()
}

/// The texts in a piece of source, with `...` for what is filled in.
fn texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut characters = source.chars();
    while let Some(c) = characters.next() {
        if c != '"' {
            continue;
        }
        let (mut text, mut is_filled) = (String::new(), false);
        while let Some(c) = characters.next() {
            match c {
                '"' => break,
                '\\' => match characters.next() {
                    Some('\n') => {
                        let rest = characters.as_str();
                        characters = rest.trim_start().chars();
                    }
                    Some(escaped) if !is_filled => text.push(escaped),
                    _ => {}
                },
                '{' if characters.as_str().starts_with('{') => {
                    characters.next();
                    text.push('{');
                }
                '{' => is_filled = true,
                '}' if is_filled => {
                    is_filled = false;
                    text.push_str("...");
                }
                c if !is_filled => text.push(c),
                _ => {}
            }
        }
        found.push(text);
    }
    found
}

/// Whether a text has words of its own.
fn says_something(text: &str) -> bool {
    text.replace("...", "").chars().any(char::is_alphabetic)
}

/// The events that the shipped sources log at `info` and above, with their fields.
fn events() -> BTreeMap<Event, BTreeSet<String>> {
    let mut events = BTreeMap::<Event, BTreeSet<String>>::new();
    for source in rust() {
        let is_shipped =
            source.path.starts_with("crates/") || source.path.starts_with("daemon/src");
        if source.is_test() || !is_shipped {
            continue;
        }
        for level in ["info", "warn", "error"] {
            let start = format!("tracing::{level}!(");
            for call in source.product().split(&start).skip(1) {
                let arguments = arguments(call);
                let Some(at) = arguments.iter().position(|one| one.starts_with('"')) else {
                    panic!("{}: an event without a text: {arguments:?}", source.path);
                };
                let text = texts(&arguments[at]).remove(0);
                if !says_something(&text) {
                    continue;
                }
                let fields = arguments[..at]
                    .iter()
                    .filter(|one| !one.starts_with("target:") && !one.starts_with("parent:"));
                let fields = fields.map(|one| {
                    let name = one.split('=').next().unwrap_or_default();
                    name.trim().trim_start_matches(['%', '?']).to_owned()
                });
                let known = events.entry((level.to_owned(), text)).or_default();
                known.extend(fields);
            }
        }
    }
    assert!(events.len() > 80, "{} events", events.len());
    events
}

/// Whether the page's text stands for an event's.
fn stands_for(shown: &str, text: &str) -> bool {
    let beginning = shown.strip_suffix("...");
    shown == text || beginning.is_some_and(|beginning| text.starts_with(beginning))
}

#[test]
fn r4_the_operators_page_has_every_event_of_the_log_with_its_fields() {
    let events = events();
    let mut unseen: BTreeSet<&Event> = events.keys().collect();
    // All at once, since one change often adds several events.
    let mut problems = Vec::new();
    for row in rows("| level | event | fields | what to do |") {
        assert_eq!(row.len(), 4, "{row:?}");
        let (level, shown) = (&row[0], code(&row[1]));
        let of_row = |event: &&Event| event.0 == *level && stands_for(&shown, &event.1);
        let matching: Vec<&Event> = events.keys().filter(of_row).collect();
        // A shorter row must not hide an event that has a row of its own.
        let exact = matching.iter().filter(|event| event.1 == shown);
        let exact: Vec<&Event> = exact.copied().collect();
        let matching = if exact.is_empty() { matching } else { exact };
        if matching.is_empty() {
            problems.push(format!(
                "no event has the level {level} and the text: {shown}"
            ));
        }
        let known: BTreeSet<&str> = matching
            .iter()
            .flat_map(|event| &events[*event])
            .map(String::as_str)
            .collect();
        let listed: BTreeSet<&str> = row[2]
            .split(", ")
            .filter(|field| !field.is_empty())
            .collect();
        if known != listed && row[2] != "the refusal as JSON" {
            problems.push(format!(
                "the fields are {known:?} and not {listed:?}: {shown}"
            ));
        }
        for event in matching {
            unseen.remove(event);
        }
    }
    let lacking = unseen.iter().map(|event| {
        format!(
            "lacks | {} | `{}` | {} |",
            event.0,
            event.1,
            fields(&events[*event])
        )
    });
    problems.extend(lacking);
    assert!(
        problems.is_empty(),
        "packaging/OPERATING.md:\n{}",
        problems.join("\n")
    );
}

fn fields(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

/// The checks of `doctor`, from the definition of the command line.
fn checks() -> Vec<String> {
    let sources = rust();
    let arguments = sources.iter().find(|one| one.path == "ctl/src/args.rs");
    let text = arguments.expect("the command line").product();
    let (_, checks) = text.split_once("enum Check {").expect("the checks");
    let checks = checks.split('}').next().unwrap_or_default().lines();
    let names = checks.filter_map(|line| line.trim().strip_suffix(','));
    names.map(str::to_lowercase).collect()
}

/// The sources of a check of `doctor`.
fn sources_of(check: &str) -> String {
    let own = format!("ctl/src/doctor/{check}");
    let sources = rust();
    let of_check = sources.iter().filter(|source| {
        !source.is_test()
            && (source.path == format!("{own}.rs") || source.path.starts_with(&format!("{own}/")))
    });
    of_check.map(|source| source.product().to_owned()).collect()
}

#[test]
fn k1_the_operators_page_has_every_note_and_problem_of_doctor() {
    let checks = checks();
    let checks: Vec<&str> = checks.iter().map(String::as_str).collect();
    let rows = rows("| check | verdict | finding | what it means, and what to do |");
    for row in &rows {
        let (check, finding) = (&row[0], code(&row[2]));
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(
            checks.contains(&check.as_str()),
            "there is no check {check}"
        );
        let known = texts(&sources_of(check));
        assert!(
            known.contains(&finding),
            "doctor {check} does not say: {finding}"
        );
    }
    let mut seen = 0;
    for check in checks.iter().copied() {
        let source = sources_of(check);
        assert!(!source.is_empty(), "doctor {check} is nowhere");
        for verdict in ["note", "problem"] {
            for call in source.split(&format!("Finding::{verdict}(")).skip(1) {
                let found = arguments(call).remove(0);
                // A finding that is made elsewhere is found by its row.
                let Some(finding) = texts(&found).into_iter().find(|text| says_something(text))
                else {
                    continue;
                };
                seen += 1;
                let is_it = |row: &&Vec<String>| {
                    row[0] == check && row[1] == verdict && code(&row[2]) == finding
                };
                let is_there = rows.iter().any(|row| is_it(&row));
                assert!(
                    is_there,
                    "packaging/OPERATING.md lacks | {check} | {verdict} | `{finding}` |"
                );
            }
        }
    }
    assert!(seen > 50, "{seen} findings");
}

#[test]
fn r4_every_alert_looks_for_a_text_that_is_logged() {
    let events = events();
    let mut seen = 0;
    for row in rows("| alert | query or command |") {
        let command = code(&row[1]);
        let Some((_, rest)) = command.split_once(" -g ") else {
            continue;
        };
        let quote = rest.chars().next().expect("a text");
        let wanted = rest[1..].split(quote).next().expect("a text");
        for text in wanted.split('|') {
            seen += 1;
            let is_logged = events.keys().any(|event| event.1.contains(text));
            assert!(is_logged, "no event says: {text}");
        }
    }
    assert!(seen >= 7, "{seen} texts");
}

#[test]
fn r5_the_page_has_every_field_of_a_flow() {
    let source = std::fs::read_to_string(root().join("crates/engine/src/audit/flow.rs"));
    let source = source.expect("the source of flow events");
    let fields = source.lines().filter_map(|line| {
        let (name, _) = line.trim().split_once(" = $flow")?;
        name.starts_with("network.").then_some(name)
    });
    let fields: Vec<_> = fields.chain(["network.flow.duration_ms"]).collect();
    let listed = rows("| field of a flow | value |");
    let listed: Vec<_> = listed.iter().map(|row| code(&row[0])).collect();
    let (sorted, mut known) = (
        listed.iter().cloned().collect::<BTreeSet<_>>(),
        BTreeSet::new(),
    );
    known.extend(fields.into_iter().map(str::to_owned));
    assert_eq!((sorted.len(), sorted), (listed.len(), known));
}
