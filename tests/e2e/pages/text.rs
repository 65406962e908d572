//! Reads the pages of the project: blocks of code, tables and lists of terms. A page is Markdown, or roff if
//! its name ends in the number of a manual section.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_markdown(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "md")
}

/// The paths of all pages, relative to the root of the tree.
pub(super) fn pages() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "packaging", "packaging/man"] {
        collect(folder, &mut found);
    }
    for folder in std::fs::read_dir(root().join("packaging"))
        .expect("a folder of the tree")
        .flatten()
        .filter(|entry| entry.path().join("README.md").exists())
    {
        let folder = folder.file_name().into_string().expect("a name of ours");
        found.push(format!("packaging/{folder}/README.md"));
    }
    found.sort_unstable();
    found
}

fn collect(folder: &str, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder of the tree");
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let is_manual = Path::new(&name).extension().is_some_and(
            |extension| matches!(extension.as_encoded_bytes(), [digit] if digit.is_ascii_digit()),
        );
        if is_markdown(&name) || is_manual {
            found.push(
                format!("{folder}/{name}")
                    .trim_start_matches('/')
                    .to_owned(),
            );
        }
    }
}

/// The blocks of one language on a page.
pub(super) fn blocks(name: &str, language: &str) -> Vec<String> {
    all_blocks(name)
        .into_iter()
        .filter(|(named, _)| named == language)
        .map(|(_, block)| block)
        .collect()
}

/// All blocks of a page, each with its language.
pub(super) fn all_blocks(name: &str) -> Vec<(String, String)> {
    if is_markdown(name) {
        markdown_blocks(&page(name))
    } else {
        roff_blocks(name, &page(name))
    }
}

fn markdown_blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// The lines between `.EX` and `.EE`. The comment before `.EX` names the language.
fn roff_blocks(name: &str, text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    let mut before = "";
    for line in text.lines() {
        match (line, &mut open) {
            (".EX", None) => {
                let language = before.strip_prefix(".\\\" ");
                let language = language.unwrap_or_else(|| panic!("{name}: no language before .EX"));
                open = Some((language.to_owned(), String::new()));
            }
            (".EE", Some(_)) => blocks.extend(open.take()),
            (line, Some((_, block))) => {
                block.push_str(&plain(line));
                block.push('\n');
            }
            (_, None) => {}
        }
        before = line;
    }
    blocks
}

/// Replaces the escapes in a line of roff by their characters.
fn plain(line: &str) -> String {
    [
        ("\\-", "-"),
        ("\\&", ""),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(ga", "`"),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\e", "\\"),
    ]
    .iter()
    .fold(line.to_owned(), |line, (escape, character)| {
        line.replace(escape, character)
    })
}

/// The list of terms in a section of a manual page (`.SH` or `.SS`): each term with its text. What the page
/// prints in bold is in backquotes.
pub(super) fn terms(name: &str, section: &str) -> Vec<(String, String)> {
    let text = page(name);
    let heads = [format!("\n.SH {section}\n"), format!("\n.SS {section}\n")];
    let (_, body) = heads
        .iter()
        .find_map(|head| text.split_once(head.as_str()))
        .unwrap_or_else(|| panic!("{name} has no section {section}"));
    let body = body.split("\n.S").next().unwrap_or_default();
    let mut terms: Vec<(String, String)> = Vec::new();
    let mut is_term = false;
    let mut inside = false;
    for line in body.lines() {
        match line {
            ".TP" => (is_term, inside) = (true, true),
            ".PP" => inside = false,
            line if is_term => {
                terms.push((in_backquotes(line), String::new()));
                is_term = false;
            }
            line if inside => {
                let (_, text) = terms.last_mut().expect("a term before its text");
                text.push_str(&in_backquotes(line));
                text.push('\n');
            }
            _ => {}
        }
    }
    terms
}

fn in_backquotes(line: &str) -> String {
    let line = match line.strip_prefix(".B ") {
        Some(bold) => format!("\\fB{bold}\\fR"),
        None => line.to_owned(),
    };
    plain(&line.replace("\\fB", "`").replace("\\fR", "`"))
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

/// The parts in backquotes.
pub(super) fn code(text: &str) -> Vec<String> {
    text.split('`')
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
fn output_matches_what_a_page_shows() {
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

#[test]
fn a_block_of_roff_is_read_as_it_is_printed() {
    let text = ".PP\n.\\\" console\n.EX\n$ curl \\-s \\(aqa\\en\\(aq\n\\&...\n.EE\ntext\n";
    let blocks = roff_blocks("page.7", text);
    assert_eq!(
        blocks,
        [("console".to_owned(), "$ curl -s 'a\\n'\n...\n".to_owned())]
    );
}
