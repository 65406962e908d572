//! Tables in Markdown: the ratios of all scenarios, and the figures of each.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use crate::compare::{Figures, Row};
use crate::machine;
use crate::programs::{AUDITED, Missing, OURS, Program, Side};
use crate::scenario::{Measure, Unit};

/// Prints text to standard output. A reader that has left ends the program.
///
/// # Errors
///
/// Standard output does not take it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// The lines above the tables: date, machine, command, versions.
pub(crate) fn head(programs: &[Program], missing: &[Missing]) -> String {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut text = format!(
        "{}; {}; `bench {}`\n\n",
        machine::date(),
        machine::description(),
        command.join(" ")
    );
    let mut versions: Vec<String> = Vec::new();
    for program in programs
        .iter()
        .filter(|program| program.side != Side::Audited)
    {
        let version = format!("{} {}", program.name, program.version);
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let _ = writeln!(text, "Versions: {}.", versions.join(", "));
    if !missing.is_empty() {
        let missing: Vec<String> = missing
            .iter()
            .map(|Missing { name, package }| format!("{name} (Debian package {package})"))
            .collect();
        let _ = writeln!(text, "Not installed, and left out: {}.", missing.join(", "));
    }
    text + "\n"
}

/// A table of all rows: the cost of this proxy, and of the others as a ratio to it.
pub(crate) fn ratios(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (program, _) in rows.iter().flat_map(|row| &row.cells) {
        if program.side != Side::Ours && !names.contains(&program.name) {
            names.push(program.name);
        }
    }
    // The audit stands beside the proxy without it.
    names.sort_by_key(|name| *name != AUDITED);
    let mut table = Table::new(["", OURS].into_iter().chain(names.iter().copied()));
    for row in rows {
        let ours = ours(row);
        let mut cells = vec![row.scenario.title.to_owned()];
        cells.push(ours.map_or_else(dash, |figures| cost(row, figures)));
        for name in &names {
            let of = row.cells.iter().find(|(program, _)| program.name == *name);
            let ratio = of.and_then(|(_, figures)| Some(ratio(figures.as_ref().ok()?, ours?)));
            cells.push(ratio.unwrap_or_else(dash));
        }
        table.add(cells);
    }
    table.to_string()
}

/// All figures of one row.
pub(crate) fn details(row: &Row) -> String {
    let mut text = format!("{} (`{}`)\n\n", row.scenario.title, row.scenario.name);
    let ours = ours(row);
    let mut table = Table::new([
        "",
        "cost",
        "ratio",
        "in a second",
        "p50 µs",
        "p99 µs",
        "failed",
    ]);
    let mut notes = String::new();
    for (program, figures) in &row.cells {
        match figures {
            Ok(figures) => {
                table.add(vec![
                    program.name.to_owned(),
                    cost(row, figures),
                    ours.map_or_else(dash, |ours| ratio(figures, ours)),
                    number(figures.rate),
                    number(figures.p50),
                    number(figures.p99),
                    figures.failures.to_string(),
                ]);
                if let Some(logged) = figures.logged {
                    let _ = writeln!(
                        notes,
                        "{}: {logged} decisions in the log, {} units",
                        program.name, figures.units
                    );
                }
                if let Some(failure) = &figures.failure {
                    let _ = writeln!(notes, "{}: {failure}", program.name);
                }
            }
            Err(error) => {
                let _ = writeln!(notes, "{}: {error}", program.name);
            }
        }
    }
    text += &table.to_string();
    text + &notes + "\n"
}

/// The figures of this proxy in a row.
fn ours<'a>(row: &'a Row) -> Option<&'a Figures> {
    let ours = row
        .cells
        .iter()
        .find(|(program, _)| program.side == Side::Ours);
    ours?.1.as_ref().ok()
}

fn cost(row: &Row, figures: &Figures) -> String {
    let (digits, unit) = match row.scenario.measure {
        Measure::Cpu(Unit::One, _) => (1, "µs"),
        Measure::Cpu(Unit::Byte, _) => (3, "s"),
        Measure::Memory(_) => (1, "KiB"),
        Measure::AtRest => (0, "KiB"),
        Measure::Start => (1, "ms"),
    };
    format!("{:.digits$} {unit}{}", figures.cost, mark(figures))
}

fn ratio(figures: &Figures, ours: &Figures) -> String {
    let ratio = figures.cost / ours.cost;
    let digits = if ratio < 10.0 { 2 } else { 0 };
    format!("{ratio:.digits$}{}", mark(figures))
}

/// Marks a figure that other programs disturbed.
fn mark(figures: &Figures) -> &'static str {
    if figures.disturbed { " ~" } else { "" }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| {
        format!("{value:.*}", if value < 10.0 { 2 } else { 0 })
    })
}

fn dash() -> String {
    String::from("–")
}

/// A table in Markdown, with columns of equal width.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            rows: vec![head.into_iter().map(str::to_owned).collect()],
        }
    }

    pub(crate) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                write!(formatter, "| {cell:0$} ", width(column))?;
            }
            formatter.write_str("|\n")?;
            if number == 0 {
                for column in 0..row.len() {
                    let right = if column == 0 { "-" } else { ":" };
                    write!(
                        formatter,
                        "| {:-<1$}{right} ",
                        "",
                        width(column).saturating_sub(1)
                    )?;
                }
                formatter.write_str("|\n")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let mut table = Table::new(["", "cost"]);
        table.add(vec!["http-64".to_owned(), "1 µs".to_owned()]);
        let mut wanted = String::new();
        writeln!(wanted, "|         | cost |").expect("a string takes text");
        writeln!(wanted, "| ------- | ---: |").expect("a string takes text");
        writeln!(wanted, "| http-64 | 1 µs |").expect("a string takes text");
        assert_eq!(table.to_string(), wanted);
    }
}
