//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use crate::compare::{self, Plan};
use crate::growth::Growth;
use crate::jail::{self, ClientLoad, Jail, Part};
use crate::lab::Lab;
use crate::load::Length;
use crate::machine;
use crate::origin::Ports;
use crate::programs::{self, Proxy};
use crate::relay::{self, Forward};
use crate::report;
use crate::{origin, scenario};

/// Compares codex-network-proxy with other proxies on this machine
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios over this proxy and its peers, and print the ratios
    Peers(Peers),
    /// Show how the cost of this proxy grows
    Growth {
        /// The tables; all if none is given
        tables: Vec<Growth>,
        /// The program codex-network-proxy [default: beside this program]
        #[arg(long, value_name = "FILE")]
        proxy: Option<PathBuf>,
    },
    /// Show the cost of a jail: the same client inside and outside, the start of a program, memory
    Jail(JailArguments),
    /// List the scenarios
    List,
    /// Serve as the origin until standard input ends
    #[command(hide = true)]
    Origin { folder: PathBuf },
    /// Run a load of `jail` with the proxies of the environment
    #[command(hide = true)]
    Client {
        load: ClientLoad,
        /// The ports of the origin
        #[arg(value_parser = ports)]
        ports: Ports,
        /// In milliseconds
        warm_up: u64,
        /// In milliseconds
        measured: u64,
    },
    /// Forward ports with splice
    #[command(hide = true)]
    Relay {
        #[arg(value_parser = Forward::read)]
        forwards: Vec<Forward>,
    },
}

#[derive(Debug, clap::Args)]
struct Peers {
    /// The scenarios; all if none is given
    scenarios: Vec<String>,
    /// The program codex-network-proxy [default: beside this program]
    #[arg(long, value_name = "FILE")]
    proxy: Option<PathBuf>,
    /// Only these peers, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of codex-network-proxy, measured beside the first one
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// How often each program is measured; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a load lasts, besides a warm-up of a fifth
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Units a second of all clients together, instead of as many as the program takes. Latencies count from
    /// the time at which a unit was due
    #[arg(long, value_name = "UNITS")]
    rate: Option<NonZeroU32>,
}

#[derive(Debug, clap::Args)]
struct JailArguments {
    /// The parts; all if none is given
    parts: Vec<Part>,
    /// Only these loads, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    loads: Vec<ClientLoad>,
    /// The program codex-network-proxy [default: beside this program]
    #[arg(long, value_name = "FILE")]
    proxy: Option<PathBuf>,
    /// The program proxyctl [default: beside this program]
    #[arg(long, value_name = "FILE")]
    proxyctl: Option<PathBuf>,
    /// The program codex, to compare with its sandbox [default: the one in PATH, if there is one]
    #[arg(long, value_name = "FILE")]
    codex: Option<PathBuf>,
    /// How often a load is measured in each place; the tables show medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a load lasts, besides a warm-up of a fifth
    #[arg(long, value_name = "SECONDS", default_value_t = 0.6)]
    seconds: f64,
    /// How often a program is started in each place
    #[arg(long, default_value_t = 30)]
    starts: usize,
}

/// Reads the command line and does what it says.
///
/// # Errors
///
/// The lab or our proxy does not start, or a scenario does not exist.
pub fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Peers(peers) => peers.run(),
        Command::Growth { tables, proxy } => {
            raise_limit();
            let proxy = Proxy::new(proxy)?;
            let tables = or_all(tables, &Growth::ALL);
            report::print(&report::head(&proxy.programs()?, &[]))?;
            tables.into_iter().try_for_each(|table| table.run(&proxy))
        }
        Command::List => {
            let mut table = report::Table::new(["scenario", "what it measures"]);
            for scenario in scenario::ALL {
                table.add(vec![scenario.name.to_owned(), scenario.title.to_owned()]);
            }
            Ok(report::print(&table.to_string())?)
        }
        Command::Origin { folder } => {
            raise_limit();
            origin::serve(&folder)
        }
        Command::Jail(arguments) => arguments.run(),
        Command::Client {
            load,
            ports,
            warm_up,
            measured,
        } => {
            let length = Length {
                warm_up: Duration::from_millis(warm_up),
                measured: Duration::from_millis(measured),
                interval: None,
            };
            jail::serve(load, &ports, length)
        }
        Command::Relay { forwards } => relay::serve(&forwards),
    }
}

/// Every connection of a load takes a descriptor here and one in the origin.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // With a lower limit, the largest loads fail and say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Reads the ports of the origin.
fn ports(text: &str) -> Result<Ports, String> {
    Ports::read(text).ok_or_else(|| format!("{text:?} are not the ports of an origin"))
}

/// The plan of these rounds, each with a warm-up of a fifth.
fn plan(rounds: usize, seconds: f64, interval: Option<Duration>) -> anyhow::Result<Plan> {
    let measured = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    Ok(Plan {
        rounds,
        length: Length {
            warm_up: measured / 5,
            measured,
            interval,
        },
    })
}

/// The values that were given, or all.
fn or_all<T: Copy>(given: Vec<T>, all: &[T]) -> Vec<T> {
    if given.is_empty() {
        all.to_vec()
    } else {
        given
    }
}

impl JailArguments {
    fn run(self) -> anyhow::Result<()> {
        raise_limit();
        let beside = |name| anyhow::Ok(std::env::current_exe()?.with_file_name(name));
        let jail = Jail {
            proxy: Proxy::new(self.proxy)?,
            proxyctl: match self.proxyctl {
                Some(path) => std::fs::canonicalize(path).context("--proxyctl")?,
                None => beside("proxyctl")?,
            },
            codex: match self.codex {
                Some(path) => Some(std::fs::canonicalize(path).context("--codex")?),
                None => machine::path_of("codex"),
            },
            plan: plan(self.rounds, self.seconds, None)?,
            starts: self.starts,
        };
        let loads = or_all(self.loads, &ClientLoad::ALL);
        jail.run(&or_all(self.parts, &Part::ALL), &loads)
    }
}

impl Peers {
    fn run(&self) -> anyhow::Result<()> {
        raise_limit();
        let proxy = Proxy::new(self.proxy.clone())?;
        let (mut programs, missing) = programs::all(&proxy)?;
        if let Some(path) = &self.beside {
            let other = Proxy::new(Some(path.clone()))?;
            programs.extend(other.programs_beside()?);
        }
        if !self.only.is_empty() {
            programs.retain(|program| {
                program.side != programs::Side::Peer
                    || program.name == programs::BESIDE
                    || self.only.iter().any(|name| name == program.name)
            });
        }
        let mut scenarios: Vec<_> = scenario::ALL.iter().collect();
        for name in &self.scenarios {
            let is_known = scenarios.iter().any(|scenario| scenario.name == name);
            ensure!(is_known, "no scenario {name:?}; `bench list` shows them");
        }
        if !self.scenarios.is_empty() {
            scenarios.retain(|scenario| self.scenarios.iter().any(|name| name == scenario.name));
        }
        let interval = self.rate.map(|rate| Duration::from_secs(1) / rate.get());
        let plan = plan(self.rounds, self.seconds, interval)?;
        let lab = Lab::new()?;
        let rows: Vec<_> = scenarios
            .iter()
            .map(|scenario| compare::row(&lab, &programs, scenario, plan))
            .collect();
        let details: String = rows.iter().map(report::details).collect();
        let head = report::head(&programs, &missing);
        report::print(&format!("{head}{}\n{details}", report::ratios(&rows)))?;
        Ok(())
    }
}
