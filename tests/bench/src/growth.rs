//! How the cost of this proxy grows: with connections, with patterns, with clients; and what one greedy client
//! does to the others.

use std::time::Duration;

use crate::compare::{self, Figures};
use crate::dial::{HOST, Route};
use crate::lab::Lab;
use crate::load::requests::{self, Request};
use crate::load::{self, Length};
use crate::machine;
use crate::programs::{Proxy, Setup};
use crate::report::{Table, print};
use crate::scenario::{self, Unit};
use crate::watched;

const LENGTH: Length = Length {
    warm_up: Duration::from_millis(300),
    measured: Duration::from_millis(1500),
    interval: None,
};
const CONNECTIONS: [usize; 3] = [100, 1_000, 10_000];
const PATTERNS: [usize; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
const CLIENTS: [usize; 4] = [1, 4, 16, 64];
/// Tunnels that are not opened, so that descriptors are left for requests.
const SPARE: usize = 250;
/// Connections that carry requests where connections are not what grows.
const ACTIVE: usize = 64;

/// A table of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Growth {
    /// With idle tunnels
    Idle,
    /// With connections that all carry requests
    Active,
    /// With patterns on the allow list
    Patterns,
    /// With client addresses
    Clients,
    /// Small requests beside a download, on one core and on all
    Skew,
    /// With the metrics scraped and the page open
    Watched,
}

impl Growth {
    pub(crate) const ALL: [Self; 6] = [
        Self::Idle,
        Self::Active,
        Self::Patterns,
        Self::Clients,
        Self::Skew,
        Self::Watched,
    ];

    /// Measures, and prints the table.
    pub(crate) fn run(self, proxy: &Proxy) -> anyhow::Result<()> {
        let lab = Lab::new()?;
        let (title, table) = match self {
            Self::Idle => ("Idle tunnels", idle(proxy, &lab)),
            Self::Active => ("Active connections", active(proxy, &lab)),
            Self::Patterns => ("Patterns on the allow list", patterns(proxy, &lab)),
            Self::Clients => ("Client addresses with traffic", clients(proxy, &lab)),
            Self::Skew => ("Small requests beside a download", skew(proxy, &lab)),
            Self::Watched => ("Seen from outside", watched::table(proxy, &lab)),
        };
        print(&format!("{title}\n\n{}\n", table?))?;
        Ok(())
    }
}

fn idle(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "idle tunnels",
        "KiB each",
        "CPU µs a second, idle",
        "CPU µs per request beside them",
        "p99 µs",
    ]);
    // A tunnel takes two descriptors of the proxy, besides those that it needs for itself.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = limit
        .and_then(|limit| usize::try_from(limit / 2).ok())
        .unwrap_or(usize::MAX);
    for count in CONNECTIONS.map(|count| count.min(limit.saturating_sub(SPARE))) {
        let started = proxy.start(lab, Setup::default())?;
        drop(scenario::hold_tunnels(100, lab, started.doors)?);
        let before = started.running.memory();
        let held = scenario::hold_tunnels(count, lab, started.doors)?;
        // Memory is measured once the work of opening is over. Nothing signals its end.
        std::thread::sleep(Duration::from_millis(500));
        let each = started
            .running
            .memory()
            .map(|held| (held - before.unwrap_or_default()) / float(count));
        let cpu = started.running.cpu();
        // The time over which the CPU of idle tunnels is measured.
        std::thread::sleep(Duration::from_secs(2));
        let idle = started.running.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / 2.0;
        let beside =
            compare::under_load(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                scenario::get(ACTIVE, 2, doors, lab, length)
            })?;
        drop(held);
        let each = each.map_or_else(|| "–".to_owned(), |each| format!("{each:.1}"));
        let mut row = vec![count.to_string(), each, format!("{idle:.0}")];
        row.extend(cost_and_p99(&beside));
        table.add(row);
    }
    Ok(table)
}

fn active(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "connections with requests",
        "CPU µs per request",
        "p99 µs",
        "p99 µs / connections",
        "failed",
    ]);
    for count in CONNECTIONS {
        let started = proxy.start(lab, Setup::default())?;
        // Each connection must get its turns, also in the warm-up in which all connect.
        let length = Length {
            warm_up: LENGTH.warm_up + Duration::from_millis(u64::try_from(count)? / 4),
            measured: LENGTH.measured + Duration::from_millis(u64::try_from(count)? / 10),
            interval: None,
        };
        let figures =
            compare::under_load(lab, &started, Unit::One, length, |lab, doors, length| {
                scenario::get(count, 2, doors, lab, length)
            })?;
        let mut row = vec![count.to_string()];
        row.extend(cost_and_p99(&figures));
        // The clients wait for each other: more of them wait longer, however cheap a request is.
        row.push(format!(
            "{:.1}",
            figures.p99.unwrap_or_default() / float(count)
        ));
        row.push(figures.failures.to_string());
        table.add(row);
    }
    Ok(table)
}

fn patterns(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "patterns",
        "ms from start to ready",
        "MiB at rest",
        "bytes each",
        "CPU µs per request",
        "CPU µs per refusal",
    ]);
    let mut bare = None;
    for patterns in PATTERNS {
        let setup = Setup {
            patterns,
            ..Setup::default()
        };
        let started = proxy.start(lab, setup)?;
        // A start gives memory back shortly after it is ready, and does not signal it.
        std::thread::sleep(Duration::from_secs(1));
        let memory = started.running.memory();
        let least = *bare.get_or_insert(memory);
        let request =
            compare::under_load(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                scenario::get(ACTIVE, 2, doors, lab, length)
            })?;
        let refusal = compare::under_load(lab, &started, Unit::One, LENGTH, |_, doors, length| {
            let door = doors.http()?;
            // Below a name that the list has at every size.
            let request = Request::get("a.b.host-5.example.net", 80, "/", 403);
            Ok(load::run(ACTIVE, length, |client, tally| {
                requests::repeat(door, request.clone(), address(client), tally)
            })?)
        })?;
        let each = memory.zip(least).filter(|_| patterns >= 100_000);
        table.add(vec![
            patterns.to_string(),
            format!("{:.1}", started.running.start.as_secs_f64() * 1e3),
            memory.map_or_else(|| "–".to_owned(), |kib| format!("{:.1}", kib / 1024.0)),
            each.map_or_else(
                || "–".to_owned(),
                |(kib, least)| format!("{:.0}", (kib - least) * 1024.0 / float(patterns)),
            ),
            format!("{:.1}", request.cost),
            format!("{:.1}", refusal.cost),
        ]);
    }
    Ok(table)
}

fn clients(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "client addresses",
        "CPU µs per request",
        "p99 µs",
        "CPU µs per tunnel",
        "p99 µs",
    ]);
    let started = proxy.start(lab, Setup::default())?;
    for count in CLIENTS {
        let request =
            compare::under_load(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                let request = Request::get(HOST, lab.ports().http, "/2", 200);
                let door = doors.http()?;
                Ok(load::run(ACTIVE, length, |client, tally| {
                    requests::repeat(door, request.clone(), address(client % count), tally)
                })?)
            })?;
        let tunnel =
            compare::under_load(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                let route = Route::Connect(doors.http()?);
                let echoes: std::rc::Rc<[u16]> = lab.ports().echoes.clone().into();
                Ok(load::run(ACTIVE, length, |client, tally| {
                    load::tunnels::repeat(route, echoes.clone(), address(client % count), tally)
                })?)
            })?;
        let mut row = vec![count.to_string()];
        row.extend(cost_and_p99(&request));
        row.extend(cost_and_p99(&tunnel));
        table.add(row);
    }
    Ok(table)
}

fn skew(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "cores of the proxy",
        "download",
        "requests a second",
        "p50 µs",
        "p99 µs",
        "GiB/s down",
    ]);
    for cores in [1, 2] {
        let started = machine::on_cores(cores, || proxy.start(lab, Setup::default()))?;
        for downloads in [0, 1] {
            let mut download = 0.0;
            let figures =
                compare::under_load(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                    let (done, bytes) =
                        scenario::get_beside_downloads(downloads, None, doors, lab, length)?;
                    download = bytes / length.measured.as_secs_f64();
                    Ok(done)
                })?;
            table.add(vec![
                cores.to_string(),
                if downloads == 0 { "no" } else { "yes" }.to_owned(),
                format!("{:.0}", figures.rate.unwrap_or_default()),
                format!("{:.0}", figures.p50.unwrap_or_default()),
                format!("{:.0}", figures.p99.unwrap_or_default()),
                format!("{download:.2}"),
            ]);
        }
    }
    Ok(table)
}

/// The address of a client: as many as there are numbers.
fn address(client: usize) -> u8 {
    u8::try_from(client).unwrap_or(u8::MAX - 1)
}

fn cost_and_p99(figures: &Figures) -> [String; 2] {
    let mark = if figures.disturbed { " ~" } else { "" };
    [
        format!("{:.1}{mark}", figures.cost),
        format!("{:.0}", figures.p99.unwrap_or_default()),
    ]
}

/// A number of things, to calculate with.
fn float(number: usize) -> f64 {
    machine::float(u64::try_from(number).unwrap_or(u64::MAX))
}
