//! The cost of the jail of `proxyctl run`: the same client inside and outside, the start of a program, and the
//! memory of a session.
//!
//! - `client`: the program that is run in each place, with its load.
//! - `places`: the commands that start a program in each place.
//! - `sessions`: sessions that are open and silent.
//! - `tables`: the results of the loads.
//!
//! A load runs in each place in turn, round after round. Each time a new session is opened for it.

mod broker;
mod client;
mod places;
mod sessions;
mod tables;

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use client::Client;
pub(crate) use client::{ClientLoad, serve};
use places::Place;

use crate::compare::{self, Figures, Plan};
use crate::lab::Lab;
use crate::machine;
use crate::process;
use crate::programs::{Proxy, Setup, Started};
use crate::report::{self, Table, print};
use crate::scenario::Unit;

/// How long the control socket may take to accept after the doors do.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// The most sessions that are open at once.
const MAX_SESSIONS: u32 = 1024;

/// The programs, and how they are measured.
pub(crate) struct Jail {
    pub(crate) proxy: Proxy,
    /// The program `proxyctl`.
    pub(crate) proxyctl: PathBuf,
    /// The program `codex`, to compare with.
    pub(crate) codex: Option<PathBuf>,
    pub(crate) plan: Plan,
    /// How often a program is started in each place.
    pub(crate) starts: usize,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Loads, inside and outside
    Loads,
    /// The start of a program
    Starts,
    /// The memory of a session
    Memory,
    /// Intercepted requests with a credential and without one
    Broker,
}

/// One load in one place, or the median of several.
struct Measured {
    /// Those of the proxy.
    figures: Figures,
    /// CPU time of the client and its jail for each unit, in the same unit.
    client: f64,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::Loads, Self::Starts, Self::Memory, Self::Broker];
}

impl Jail {
    /// Measures these parts and prints their tables.
    pub(crate) fn run(&self, parts: &[Part], loads: &[ClientLoad]) -> anyhow::Result<()> {
        ensure!(
            self.proxyctl.exists(),
            "{} does not exist; build it: cargo build --release -p proxyctl",
            self.proxyctl.display()
        );
        print(&report::head(&self.proxy.programs()?, &[]))?;
        if let Some(codex) = &self.codex {
            let version = machine::version(&codex.to_string_lossy(), "--version");
            print(&format!("codex {}\n\n", version.unwrap_or_default()))?;
        }
        let lab = Lab::new()?;
        for part in parts {
            let setup = Setup {
                sessions: Some(MAX_SESSIONS),
                ..Setup::default()
            };
            let started = self.proxy.start(&lab, setup)?;
            wait_for_control_socket(&started)?;
            let text = match part {
                Part::Loads => self.loads(&lab, &started, loads)?,
                Part::Starts => self.starts(&lab, &started)?,
                Part::Memory => sessions::table(&started)?,
                Part::Broker => broker::table(&self.proxy, &lab, self.plan)?,
            };
            print(&text)?;
        }
        Ok(())
    }

    fn loads(&self, lab: &Lab, started: &Started, loads: &[ClientLoad]) -> anyhow::Result<String> {
        let places = places::of_loads(self, lab, started)?;
        let mut rows = Vec::new();
        let mut notes = String::new();
        for load in loads {
            let mut taken: Vec<Vec<Measured>> = places.iter().map(|_| Vec::new()).collect();
            let mut failed = vec![false; places.len()];
            for _ in 0..self.plan.rounds {
                for (at, place) in places.iter().enumerate() {
                    if failed[at] || !load.runs_in(place.kind) {
                        continue;
                    }
                    match self.undisturbed(lab, started, place, *load) {
                        Ok(measured) => {
                            let rate = measured.figures.rate.unwrap_or_default();
                            compare::progress(&format!("{load} {}: {rate:.2}", place.name));
                            taken[at].push(measured);
                        }
                        Err(error) => {
                            failed[at] = true;
                            let _ = writeln!(notes, "{load} {}: {error:#}", place.name);
                        }
                    }
                }
            }
            let cells: Vec<_> = taken.iter().map(|taken| Measured::median(taken)).collect();
            for (place, cell) in places.iter().zip(&cells) {
                let Some(Measured { figures, .. }) = cell else {
                    continue;
                };
                if let Some(failure) = &figures.failure {
                    let failures = figures.failures;
                    let _ = writeln!(notes, "{load} {}: {failures} failed: {failure}", place.name);
                }
            }
            rows.push(tables::Row { load: *load, cells });
        }
        Ok(tables::all(&places, &rows) + &notes + "\n")
    }

    /// Repeats a load until other programs leave the machine alone, and then keeps the last result.
    fn undisturbed(
        &self,
        lab: &Lab,
        started: &Started,
        place: &Place,
        load: ClientLoad,
    ) -> anyhow::Result<Measured> {
        let mut measured = self.measure(lab, started, place, load)?;
        for _ in 1..compare::MAX_TRIES {
            if !measured.figures.disturbed {
                break;
            }
            measured = self.measure(lab, started, place, load)?;
        }
        Ok(measured)
    }

    fn measure(
        &self,
        lab: &Lab,
        started: &Started,
        place: &Place,
        load: ClientLoad,
    ) -> anyhow::Result<Measured> {
        let length = self.plan.length;
        let mut client = Client::start(place, load, lab.ports(), length)?;
        let before = process::cpu(client.id());
        let mut after = before;
        let figures = compare::under_load(lab, started, load.unit(), length, |_, _, _| {
            let done = client.run()?;
            after = process::cpu(client.id());
            Ok(done)
        })?;
        client.end()?;
        // Its time includes the warm-up, and the units do not.
        let whole = (length.warm_up + length.measured).as_secs_f64();
        let units = machine::float(figures.units) * whole / length.measured.as_secs_f64();
        let cpu = after.saturating_sub(before).as_secs_f64();
        let client = match load.unit() {
            Unit::One => cpu * 1e6 / units,
            Unit::Byte => cpu * compare::GIB / units,
        };
        Ok(Measured { figures, client })
    }

    fn starts(&self, lab: &Lab, started: &Started) -> anyhow::Result<String> {
        let places = places::of_starts(self, lab, started)?;
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); places.len()];
        let this = i32::try_from(std::process::id())?;
        let (busy, ours, begun) = (machine::busy(), process::cpu(this), Instant::now());
        // The first round fills caches.
        for round in 0..=self.starts {
            for (place, taken) in places.iter().zip(&mut taken) {
                let mut command = place.command("true");
                command.stdin(Stdio::null()).stdout(Stdio::null());
                let since = Instant::now();
                let status = command.stderr(Stdio::null()).status();
                let time = since.elapsed();
                let status = status.with_context(|| format!("{} does not start", place.name))?;
                ensure!(
                    status.success(),
                    "{}: `true` ended with {status}",
                    place.name
                );
                if round > 0 {
                    taken.push(time.as_secs_f64() * 1e3);
                }
            }
        }
        let foreign = machine::busy()
            .saturating_sub(busy)
            .saturating_sub(process::cpu(this).saturating_sub(ours));
        let share = foreign.as_secs_f64() / begun.elapsed().as_secs_f64() / machine::cores();
        let mark = if share > compare::MAX_FOREIGN {
            " ~"
        } else {
            ""
        };
        let mut table = Table::new(["start of `true`", "median ms", "90 % ms", "shortest ms"]);
        for (place, times) in places.iter().zip(&mut taken) {
            times.sort_by(f64::total_cmp);
            let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100);
            let shown =
                |percent| at(percent).map_or(String::new(), |time| format!("{time:.1}{mark}"));
            table.add(vec![place.name.to_owned(), shown(50), shown(90), shown(0)]);
        }
        Ok(format!(
            "Start of a program, {} times each\n\n{table}\n",
            self.starts
        ))
    }
}

/// The proxy serves its doors before its control socket.
fn wait_for_control_socket(started: &Started) -> anyhow::Result<()> {
    let socket = started.folder().join("control.sock");
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        ensure!(
            begun.elapsed() < SOCKET_TIMEOUT,
            "{} does not accept",
            socket.display()
        );
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
