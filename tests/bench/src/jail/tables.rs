//! The results of the loads: rates, CPU time of the proxy, and CPU time of all that took part.
//!
//! The first place has the figures, and the others have their ratios to it.

use super::Measured;
use super::client::ClientLoad;
use super::places::{Kind, Place};
use crate::compare;
use crate::report::Table;

/// A load, and its results in each place. `None` where it cannot run.
pub(super) struct Row {
    pub(super) load: ClientLoad,
    pub(super) cells: Vec<Option<Measured>>,
}

impl Measured {
    /// The median of each figure by itself.
    pub(super) fn median(taken: &[Self]) -> Option<Self> {
        let figures: Vec<_> = taken.iter().map(|taken| taken.figures.clone()).collect();
        let mut client: Vec<f64> = taken.iter().map(|taken| taken.client).collect();
        client.sort_by(f64::total_cmp);
        Some(Self {
            figures: compare::median(&figures)?,
            client: *client.get(client.len() / 2)?,
        })
    }

    fn rate(&self) -> f64 {
        self.figures.rate.unwrap_or_default()
    }

    fn proxy(&self) -> f64 {
        self.figures.cost
    }

    fn whole(&self) -> f64 {
        self.figures.cost + self.client
    }
}

/// All tables.
pub(super) fn all(places: &[Place], rows: &[Row]) -> String {
    let mut text = table("units or GiB a second", places, rows, Measured::rate);
    // The proxy of Codex is a part of its sandbox.
    let ours = |place: &&Place| place.kind != Kind::Codex;
    let number = places.iter().take_while(ours).count();
    let first = &places[..number];
    text += &table(
        "CPU of the proxy, µs or s per GiB",
        first,
        rows,
        Measured::proxy,
    );
    text += &table("CPU of all, µs or s per GiB", places, rows, Measured::whole);
    text + &transparent(places, rows)
}

fn table(title: &str, places: &[Place], rows: &[Row], of: fn(&Measured) -> f64) -> String {
    let mut table = Table::new(
        [title]
            .into_iter()
            .chain(places.iter().map(|place| place.name)),
    );
    for Row { load, cells } in rows {
        let mut first = None;
        let mut row = vec![load.title().to_owned()];
        for (_, cell) in places.iter().zip(cells) {
            let Some(cell) = cell else {
                row.push("–".to_owned());
                continue;
            };
            let mark = if cell.figures.disturbed { " ~" } else { "" };
            let value = of(cell);
            if value <= 0.0 {
                // The load does not reach the proxy.
                row.push("–".to_owned());
                continue;
            }
            let shown =
                first.map_or_else(|| absolute(value), |first| format!("{:.2}", value / first));
            first.get_or_insert(value);
            row.push(shown + mark);
        }
        table.add(row);
    }
    format!("{table}\n")
}

fn absolute(value: f64) -> String {
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 1000.0)
    };
    format!("{value:.digits$}")
}

/// The transparent door beside SOCKS5 by name, in the same place.
fn transparent(places: &[Place], rows: &[Row]) -> String {
    let of = |wanted| {
        rows.iter()
            .find(|row| row.load == wanted)
            .map(|row| &row.cells)
    };
    let loads = of(ClientLoad::Transparent32).zip(of(ClientLoad::Socks32));
    let Some((doors, socks5)) = loads else {
        return String::new();
    };
    let mut table = Table::new([
        "transparent door / SOCKS5",
        "time of each",
        "CPU of the proxy",
        "CPU of all",
    ]);
    for ((place, door), socks5) in places.iter().zip(doors).zip(socks5) {
        if let (Some(door), Some(socks5)) = (door, socks5) {
            let ratios = [
                socks5.rate() / door.rate(),
                door.proxy() / socks5.proxy(),
                door.whole() / socks5.whole(),
            ];
            let mut row = vec![place.name.to_owned()];
            row.extend(ratios.map(|ratio| format!("{ratio:.2}")));
            table.add(row);
        }
    }
    format!("{table}\n")
}
