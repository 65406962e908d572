//! Runs scenarios over programs, and takes the median of the rounds.
//!
//! A scenario measures its programs in turn, round after round (A B C A B C), so that figures that are compared
//! were taken seconds apart. A measurement that other programs of the machine disturbed is repeated.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;

use crate::lab::Lab;
use crate::load::{Done, Length};
use crate::machine;
use crate::process;
use crate::programs::{Doors, Program, Side, Started};
use crate::scenario::{Measure, Scenario, Unit};

/// A program still closes connections for a moment after a load, and that is part of its work.
const SETTLE_TIME: Duration = Duration::from_millis(250);
/// The part of the machine that other programs may use during a measurement.
pub(crate) const MAX_FOREIGN: f64 = 0.15;
/// Measurements in all, until one is undisturbed.
pub(crate) const MAX_TRIES: usize = 3;
pub(crate) const GIB: f64 = 1_073_741_824.0;

/// Connections that are held to measure the memory of each, and fewer before.
const HELD_CONNECTIONS: usize = 2_000;
const WARM_UP_CONNECTIONS: usize = 64;
/// The name of a field that only audit events have.
const DECISION: &str = "network.policy.decision";

/// How a comparison is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) length: Length,
}

/// One measurement, or the median of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// In the unit of the measure: µs, s, KiB, ms.
    pub(crate) cost: f64,
    /// Units (or GiB) in a second, and latencies in µs, of a load.
    pub(crate) rate: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Units of all loads, and the decisions in the log.
    pub(crate) units: u64,
    pub(crate) logged: Option<u64>,
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
    /// Other programs used more of the machine than permitted.
    pub(crate) disturbed: bool,
}

/// A row of the comparison.
pub(crate) struct Row<'a> {
    pub(crate) scenario: &'a Scenario,
    /// The programs that took part, with their figures or the reason that there are none.
    pub(crate) cells: Vec<(&'a Program, Result<Figures, String>)>,
}

/// The programs that run, by their place in the list.
type Live = HashMap<usize, Started>;

/// Runs one scenario over the programs that it admits.
pub(crate) fn row<'a>(
    lab: &Lab,
    programs: &'a [Program],
    scenario: &'a Scenario,
    plan: Plan,
) -> Row<'a> {
    let admitted: Vec<(usize, &Program)> = programs
        .iter()
        .enumerate()
        .filter(|(_, program)| scenario.admits(program.works, program.side))
        .collect();
    let mut live = Live::new();
    let mut taken: Vec<Vec<Figures>> = vec![Vec::new(); admitted.len()];
    let mut failed: Vec<Option<String>> = vec![None; admitted.len()];
    for _ in 0..plan.rounds {
        for (at, (number, program)) in admitted.iter().enumerate() {
            if failed[at].is_some() {
                continue;
            }
            let measured = measure(lab, *number, program, scenario, plan.length, &mut live);
            let shown = measured.as_ref().map_or_else(
                |error| format!("{error:#}"),
                |figures| format!("{:.2}", figures.cost),
            );
            progress(&format!("{} {}: {shown}", scenario.name, program.name));
            match measured {
                Ok(figures) => taken[at].push(figures),
                Err(error) => failed[at] = Some(format!("{error:#}")),
            }
        }
    }
    let cells = admitted
        .iter()
        .zip(taken)
        .zip(failed)
        .map(|(((_, program), taken), failed)| {
            let figures = median(&taken).ok_or_else(|| failed.unwrap_or_default());
            (*program, figures)
        });
    Row {
        scenario,
        cells: cells.collect(),
    }
}

#[expect(clippy::print_stderr, reason = "the progress of a run of minutes")]
pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}

fn measure(
    lab: &Lab,
    number: usize,
    program: &Program,
    scenario: &Scenario,
    length: Length,
    live: &mut Live,
) -> anyhow::Result<Figures> {
    match scenario.measure {
        Measure::Cpu(unit, load) => {
            let started = match live.entry(number) {
                Entry::Occupied(started) => started.into_mut(),
                Entry::Vacant(place) => place.insert(program.start(lab)?),
            };
            let lines = decisions(program, started)?;
            let mut figures = undisturbed(lab, started, unit, length, load)?;
            anyhow::ensure!(started.running.is_alive(), "it ended under the load");
            figures.logged = decisions(program, started)?
                .zip(lines)
                .map(|(after, before)| after - before);
            Ok(figures)
        }
        Measure::Memory(hold) => {
            let started = program.start(lab)?;
            // The first connections make what all of them share.
            drop(hold(WARM_UP_CONNECTIONS, lab, started.doors)?);
            sleep(SETTLE_TIME);
            let before = memory(&started)?;
            let connections = hold(HELD_CONNECTIONS, lab, started.doors)?;
            sleep(SETTLE_TIME);
            let cost = (memory(&started)? - before) / machine::float(connections.count);
            Ok(Figures {
                cost,
                ..Figures::default()
            })
        }
        Measure::Start => Ok(Figures {
            cost: program.start(lab)?.running.start.as_secs_f64() * 1e3,
            ..Figures::default()
        }),
        Measure::AtRest => {
            let started = program.start(lab)?;
            sleep(Duration::from_millis(500));
            Ok(Figures {
                cost: memory(&started)?,
                ..Figures::default()
            })
        }
    }
}

/// The decisions in the log of a proxy with the audit on.
fn decisions(program: &Program, started: &Started) -> anyhow::Result<Option<u64>> {
    let is_audited = program.side == Side::Audited;
    is_audited.then(|| started.log_lines(DECISION)).transpose()
}

fn memory(started: &Started) -> anyhow::Result<f64> {
    let memory = started.running.memory();
    memory.context("only root may read its memory")
}

/// Repeats a load until other programs leave the machine alone, and then keeps the last result.
pub(crate) fn undisturbed(
    lab: &Lab,
    started: &Started,
    unit: Unit,
    length: Length,
    load: impl Fn(&Lab, Doors, Length) -> anyhow::Result<Done>,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..MAX_TRIES {
        let units = figures.units;
        figures = under_load(lab, started, unit, length, &load)?;
        figures.units += units;
        if !figures.disturbed {
            break;
        }
    }
    Ok(figures)
}

/// Puts a load on a program, and divides the CPU time of its processes after the warm-up by the units.
pub(crate) fn under_load(
    lab: &Lab,
    started: &Started,
    unit: Unit,
    length: Length,
    load: impl FnOnce(&Lab, Doors, Length) -> anyhow::Result<Done>,
) -> anyhow::Result<Figures> {
    // This process has started the programs and the origin, so its tree is all of them and the load.
    let this = i32::try_from(std::process::id())?;
    let (done, cpu, ours, busy) = std::thread::scope(|scope| {
        let warm = scope.spawn(|| {
            sleep(length.warm_up);
            (started.running.cpu(), process::cpu(this), machine::busy())
        });
        let done = load(lab, started.doors, length)?;
        let (cpu, ours, busy) = warm.join().ok().context("it only reads files")?;
        anyhow::Ok((done, cpu, ours, busy))
    })?;
    sleep(SETTLE_TIME);
    let cpu = started.running.cpu().saturating_sub(cpu);
    let ours = process::cpu(this).saturating_sub(ours);
    let foreign = machine::busy().saturating_sub(busy).saturating_sub(ours);
    if done.units == 0 {
        let failure = done.failure.unwrap_or_default();
        anyhow::bail!(
            "no unit of work succeeded: {failure}: {}",
            started.last_log_line()
        );
    }
    let units = machine::float(done.units);
    let (cost, rate) = match unit {
        Unit::One => (
            cpu.as_secs_f64() * 1e6 / units,
            units / length.measured.as_secs_f64(),
        ),
        Unit::Byte => (
            cpu.as_secs_f64() * GIB / units,
            units / GIB / length.measured.as_secs_f64(),
        ),
    };
    Ok(Figures {
        cost,
        rate: Some(rate),
        p50: done.percentile(50).map(f64::from),
        p99: done.percentile(99).map(f64::from),
        units: done.units,
        logged: None,
        failures: done.failures,
        failure: done.failure,
        disturbed: foreign.as_secs_f64()
            > MAX_FOREIGN * machine::cores() * (length.measured + SETTLE_TIME).as_secs_f64(),
    })
}

/// The median of each figure by itself.
pub(crate) fn median(all: &[Figures]) -> Option<Figures> {
    let middle = |of: &dyn Fn(&Figures) -> Option<f64>| {
        let mut values: Vec<f64> = all.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let upper = values.get(values.len() / 2)?;
        let lower = values.get((values.len() - 1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    };
    Some(Figures {
        cost: middle(&|figures| Some(figures.cost))?,
        rate: middle(&|figures| figures.rate),
        p50: middle(&|figures| figures.p50),
        p99: middle(&|figures| figures.p99),
        units: all.iter().map(|figures| figures.units).sum(),
        logged: all.iter().map(|figures| figures.logged).sum(),
        failures: all.iter().map(|figures| figures.failures).sum(),
        failure: all.iter().find_map(|figures| figures.failure.clone()),
        disturbed: all.iter().any(|figures| figures.disturbed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_own_median() {
        let figures = |cost, p99, failures| Figures {
            cost,
            p99: Some(p99),
            failures,
            ..Figures::default()
        };
        let median = median(&[
            figures(3.0, 10.0, 1),
            figures(1.0, 30.0, 0),
            figures(2.0, 20.0, 2),
        ]);
        let median = median.expect("three measurements");
        assert_eq!(
            (median.cost, median.p99, median.failures),
            (2.0, Some(20.0), 3)
        );
        assert!(super::median(&[]).is_none());
    }
}
