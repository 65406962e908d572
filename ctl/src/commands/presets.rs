//! `proxyctl presets`: what the names of `run --preset` stand for on this machine.

use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Wrap, printable_line};
use crate::presets;

const fn columns(headings: [&'static str; 2]) -> [Column; 2] {
    let [first, second] = headings;
    [column(first, 16), column(second, 24)]
}

const fn column(heading: &'static str, least: usize) -> Column {
    Column {
        heading,
        usual: 0,
        wrap: Wrap::ToWidth(least),
        dispensable: 0,
    }
}

pub(super) fn run(output: &Output, name: Option<&str>) -> Result<(), Failure> {
    match name {
        Some(name) => show(output, name),
        None => list(output),
    }
}

fn list(output: &Output) -> Result<(), Failure> {
    let names = presets::names();
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&names)?);
    }
    let rows: Vec<[String; 2]> = names
        .into_iter()
        .map(|name| [name.name.to_owned(), name.about])
        .collect();
    Ok(output.table(&columns(["preset", "hosts"]), &rows)?)
}

fn show(output: &Output, name: &str) -> Result<(), Failure> {
    let preset = presets::expand(name).map_err(Failure::Failed)?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&preset)?);
    }
    let rows: Vec<[String; 2]> = preset
        .patterns
        .iter()
        .map(|found| [found.pattern.clone(), printable_line(&found.source)])
        .collect();
    Ok(output.table(&columns(["host", "source"]), &rows)?)
}
