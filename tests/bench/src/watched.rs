//! The cost of being seen from outside: the audit, a scrape of the metrics in each second, open pages, and
//! a collector of the audit events.

mod collector;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::compare;
use crate::dial::{DENIED, HOST};
use crate::lab::Lab;
use crate::load::Length;
use crate::programs::{AdminApi, Audit, Doors, Proxy, Setup, Started};
use crate::report::Table;
use crate::scenario::{self, Unit};
use collector::Collector;

/// The same load for each row, so that what happens once a second is shared by as many requests.
const LENGTH: Length = Length {
    warm_up: Duration::from_millis(500),
    measured: Duration::from_secs(2),
    interval: Some(Duration::from_micros(100)),
};
const ROUNDS: usize = 15;
const CONNECTIONS: usize = 16;
const PAGES: usize = 100;
/// Decisions behind the scrapes that are timed.
const DECISIONS: u64 = 1_000_000;
const SCRAPES: usize = 201;

/// Who sees the proxy in a row of the table.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    audit: Audit,
    is_scraped: bool,
    pages: usize,
    has_collector: bool,
}

const NOBODY: Row = Row {
    name: "nobody",
    audit: Audit::Off,
    is_scraped: false,
    pages: 0,
    has_collector: false,
};
const AUDITED: Row = Row {
    name: "the audit",
    audit: Audit::On,
    ..NOBODY
};
const ROWS: [Row; 6] = [
    NOBODY,
    AUDITED,
    Row {
        name: "the audit, scrapes",
        is_scraped: true,
        ..AUDITED
    },
    Row {
        name: "the audit, scrapes, 100 pages",
        is_scraped: true,
        pages: PAGES,
        ..AUDITED
    },
    Row {
        name: "the audit, a collector",
        has_collector: true,
        ..AUDITED
    },
    Row {
        name: "all of them",
        is_scraped: true,
        pages: PAGES,
        has_collector: true,
        ..AUDITED
    },
];

/// Measures, and makes the table.
pub(crate) fn table(proxy: &Proxy, lab: &Lab) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "seen by",
        "CPU µs per request",
        "ratio to the audit alone",
        "p99 µs",
    ]);
    let mut figures = [const { Vec::new() }; ROWS.len()];
    for _ in 0..ROUNDS {
        for (figures, row) in figures.iter_mut().zip(ROWS) {
            let collector = row.has_collector.then(Collector::start).transpose()?;
            let started = start(proxy, lab, row.audit, collector.as_ref())?;
            let measured = while_watched(&started, row, || {
                compare::undisturbed(lab, &started, Unit::One, LENGTH, |lab, doors, length| {
                    scenario::get(CONNECTIONS, 2, doors, lab, length)
                })
            })?;
            ensure!(
                collector.is_none_or(|it| it.bytes() > 0),
                "the collector got nothing"
            );
            figures.push((measured.cost, measured.p99.unwrap_or_default()));
        }
    }
    let [_, audited, ..] = &figures;
    for (row, figures) in ROWS.iter().zip(&figures) {
        // Of the same round: the speed of the machine changes meanwhile.
        let ratios = figures
            .iter()
            .zip(audited)
            .map(|(it, audited)| it.0 / audited.0);
        table.add(vec![
            row.name.to_owned(),
            format!("{:.1}", median(figures.iter().map(|it| it.0))),
            format!("{:.3}", median(ratios)),
            format!("{:.0}", median(figures.iter().map(|it| it.1))),
        ]);
    }
    for decisions in [0, DECISIONS] {
        let (made, took) = scrape_after(proxy, lab, decisions)?;
        table.add(vec![
            format!("one scrape after {made} decisions"),
            format!("{:.0} µs until its end", took.as_secs_f64() * 1e6),
        ]);
    }
    Ok(table)
}

fn start(
    proxy: &Proxy,
    lab: &Lab,
    audit: Audit,
    collector: Option<&Collector>,
) -> anyhow::Result<Started> {
    let setup = Setup {
        audit,
        admin: AdminApi::On,
        collector: collector.map(|it| it.port),
        ..Setup::default()
    };
    proxy.start(lab, setup)
}

/// Runs this while a scraper asks once a second and pages are open.
fn while_watched<T>(
    started: &Started,
    row: Row,
    run: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let admin = admin(started.doors)?;
    let mut open = Vec::new();
    for _ in 0..row.pages {
        let mut page = connect(admin)?;
        page.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        page.read_exact(&mut [0; 15])?;
        page.set_nonblocking(true)?;
        open.push(page);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut part, mut seen) = (vec![0; 64 << 10], 0);
            while !is_over.load(Ordering::Relaxed) {
                if row.is_scraped {
                    scrape(admin)?;
                }
                for page in &mut open {
                    while let Ok(length @ 1..) = page.read(&mut part) {
                        seen += length;
                    }
                }
                // The interval of the scrapes.
                std::thread::sleep(Duration::from_secs(1));
            }
            anyhow::Ok(seen)
        });
        let outcome = run();
        is_over.store(true, Ordering::Relaxed);
        let seen = watching.join().ok().context("no panic")??;
        ensure!(row.pages == 0 || seen > 0, "the pages saw nothing");
        outcome
    })
}

/// The time of one scrape after this many decisions, allowed and refused ones.
fn scrape_after(proxy: &Proxy, lab: &Lab, decisions: u64) -> anyhow::Result<(u64, Duration)> {
    let started = start(proxy, lab, Audit::Off, None)?;
    let admin = admin(started.doors)?;
    let length = Length {
        warm_up: Duration::ZERO,
        measured: Duration::from_secs(2),
        interval: None,
    };
    let mut made = 0;
    while made < decisions {
        for (host, status) in [(HOST, 200), (DENIED, 403)] {
            let done = scenario::get_from(host, status, CONNECTIONS, started.doors, lab, length)?;
            made += done.units;
        }
    }
    let mut took = Vec::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        scrape(admin)?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok((made, took[took.len() / 2]))
}

fn scrape(admin: u16) -> anyhow::Result<()> {
    let mut stream = connect(admin)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.ends_with(b"# EOF\n"), "a whole scrape");
    Ok(())
}

fn connect(admin: u16) -> anyhow::Result<TcpStream> {
    Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, admin))?)
}

fn admin(doors: Doors) -> anyhow::Result<u16> {
    doors.admin.context("it has an admin API")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
