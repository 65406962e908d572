//! `proxyctl patterns`.
//!
//! Beside a pattern stands the comment of its line, if this user may read the file: `allow` and permanent answers say
//! there who added the entry, when and why.

use std::collections::HashMap;
use std::path::Path;

use codex_network_control::Client;
use codex_network_control::message::{Patterns, Rule};
use codex_network_files::Reading;

use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Tone, Wrap, printable_line};

/// A pattern, where it is written, and the comment there.
pub(super) const COLUMNS: [Column; 3] = [column(18), column(14), column(16)];
/// Largest file whose comments are shown.
const MAX_FILE_BYTES: u64 = 16 << 20;

const fn column(least: usize) -> Column {
    Column {
        heading: "",
        usual: 0,
        wrap: Wrap::ToWidth(least),
        dispensable: 0,
    }
}

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let patterns = client.patterns().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&patterns)?);
    }
    let mut files = Files::default();
    list(output, &mut files, "allow", &patterns.allowed)?;
    list(output, &mut files, "deny", &patterns.denied)
}

/// The entries that have a comment, as rows: the list and the pattern, the place, and the comment.
pub(super) fn commented(patterns: &Patterns) -> Vec<[String; 3]> {
    let mut files = Files::default();
    let allowed = patterns.allowed.iter().map(|rule| ("allow", rule));
    let denied = patterns.denied.iter().map(|rule| ("deny", rule));
    let row = |(list, rule): (&str, &Rule)| {
        let comment = printable_line(files.comment(rule)?);
        let place = printable_line(&rule.place().unwrap_or_default());
        Some([
            format!("{list} {}", printable_line(&rule.pattern)),
            place,
            comment,
        ])
    };
    allowed.chain(denied).filter_map(row).collect()
}

/// The files of the configuration that this user may read, by name.
#[derive(Debug, Default)]
struct Files(HashMap<String, String>);

impl Files {
    /// The comment behind an entry, on its line.
    fn comment(&mut self, rule: &Rule) -> Option<&str> {
        let line = usize::try_from(rule.line?).ok()?.checked_sub(1)?;
        let name = rule.file.as_ref()?;
        let file = self.0.entry(name.clone()).or_insert_with(|| {
            // A relative name is one in the directory of the proxy.
            let path = Some(Path::new(name)).filter(|path| path.is_absolute());
            let read = path.and_then(|path| Reading::up_to(MAX_FILE_BYTES).read_text(path).ok());
            read.unwrap_or_default()
        });
        comment_in(file.lines().nth(line)?)
    }
}

/// The comment of a line of TOML, without its `#`.
fn comment_in(line: &str) -> Option<&str> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (Some('"'), '\\') if !is_escaped => {
                is_escaped = true;
                continue;
            }
            (Some(open), _) if open == character && !is_escaped => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '#') => return Some(line[at + 1..].trim()).filter(|text| !text.is_empty()),
            _ => {}
        }
        is_escaped = false;
    }
    None
}

fn list(output: &Output, files: &mut Files, name: &str, rules: &[Rule]) -> Result<(), Failure> {
    let heading = output.paint(Tone::Heading, name);
    if rules.is_empty() {
        let nothing = match name {
            "allow" => "nothing, so everything is refused",
            _ => "nothing",
        };
        return Ok(output.line(&format!("{heading} {nothing}"))?);
    }
    output.line(&heading)?;
    let rows: Vec<_> = rules
        .iter()
        .map(|rule| {
            let place = rule.place().unwrap_or_default();
            let comment = files.comment(rule).unwrap_or_default();
            [
                printable_line(&rule.pattern),
                printable_line(&place),
                printable_line(comment),
            ]
        })
        .collect();
    Ok(output.plain_table("  ", &COLUMNS, &rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_the_comment_of_a_line_is_found_behind_its_values() {
        for (line, wanted) in [
            (
                "    \"a.test\", # 2026-11-30 root: why",
                Some("2026-11-30 root: why"),
            ),
            ("\"a#b\" = \"allow\" # x # y", Some("x # y")),
            (r##"'it\' = "a\"#" # z"##, Some("z")),
            ("    \"a.test\",", None),
            ("\"a.test\" #", None),
            ("# all", Some("all")),
        ] {
            assert_eq!(comment_in(line), wanted, "{line}");
        }
    }
}
