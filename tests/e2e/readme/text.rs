//! Reads the README: its blocks, and the cells of its tables. Other pages have blocks too.

const README: &str = "README.md";

fn page(name: &str) -> String {
    let path = format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn readme() -> String {
    page(README)
}

/// The blocks of one language.
pub(super) fn blocks(language: &str) -> Vec<String> {
    blocks_of(README, language)
}

/// The same of another page.
pub(super) fn blocks_of(name: &str, language: &str) -> Vec<String> {
    let text = page(name);
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(named), None) => open = Some((named == language, String::new())),
            (Some(_), Some(_)) => {
                let (wanted, block) = open.take().expect("just matched");
                blocks.extend(wanted.then_some(block));
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(!blocks.is_empty(), "{name} has no {language} block");
    blocks
}

/// The commands of a `console` block, each with the lines that it shows.
pub(super) fn commands(block: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), Vec::new()));
        } else {
            let (_, shown) = commands.last_mut().expect("a command before its output");
            shown.push(line.to_owned());
        }
    }
    commands
}

/// The rows of the tables whose header begins like this, cell by cell.
pub(super) fn rows(header: &str) -> Vec<Vec<String>> {
    let text = readme();
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(header) {
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("| ---") {
            // A bar inside a cell is written `\|`.
            let cells = line.replace("\\|", "\u{0}");
            let cells = cells.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.replace('\u{0}', "|")).collect());
        }
    }
    rows
}

/// The parts in backquotes.
pub(super) fn code(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether lines match; a line `...` stands for any number of lines.
pub(super) fn lines_match(shown: &[String], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..]))
        }
        (Some((first, shown)), Some((line, said))) => {
            line_matches(first, line) && lines_match(shown, said)
        }
        _ => false,
    }
}

/// Whether a line matches; `...` stands for any text.
fn line_matches(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once("...") else {
        return shown == line;
    };
    let Some(line) = line.strip_prefix(start) else {
        return false;
    };
    (0..=line.len())
        .filter(|at| line.is_char_boundary(*at))
        .any(|at| line_matches(rest, &line[at..]))
}

#[test]
fn output_is_compared_as_the_readme_says() {
    let matches = |shown: &str, said: &str| {
        let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
        lines_match(&shown, &said.lines().collect::<Vec<_>>())
    };
    for (shown, said) in [
        ("a\nb", "a\nb"),
        ("a...c", "abc"),
        ("a...c", "ac"),
        ("...b...", "abc"),
        ("...\nb\n...", "a\nb\nc"),
        ("...\nb", "b"),
        ("...", ""),
    ] {
        assert!(matches(shown, said), "{shown:?} is {said:?}");
    }
    for (shown, said) in [
        ("a", ""),
        ("", "a"),
        ("a", "ab"),
        ("a...c", "abcd"),
        ("a...bb", "ab"),
        ("...\nb", "b\nc"),
    ] {
        assert!(!matches(shown, said), "{shown:?} is not {said:?}");
    }
}
