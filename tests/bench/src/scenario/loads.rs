//! The loads of the scenarios: the clients of each, and where they go.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;

use crate::dial::{HOST, Route};
use crate::lab::{Lab, Resumes};
use crate::load::intercepted::{self, Target};
use crate::load::requests::{self, Request};
use crate::load::{self, Done, Length, bytes, idle, tunnels};
use crate::machine;
use crate::programs::{Doors, Fixed};

/// Connections that stay open while the value lives.
pub(crate) struct Held {
    pub(crate) count: u64,
    _connections: Box<dyn std::any::Any>,
}

impl Doors {
    /// The way of tunnels: a forwarder to that port, or CONNECT.
    pub(super) fn tunnel(self, port: fn(Fixed) -> u16) -> anyhow::Result<Route> {
        let fixed = self.fixed.map(|fixed| Route::Fixed(port(fixed)));
        let connect = || self.http.map(Route::Connect);
        fixed.or_else(connect).context("it opens no tunnels")
    }

    pub(super) fn socks5(self) -> anyhow::Result<Route> {
        self.socks5
            .map(Route::Socks5)
            .context("it does not speak SOCKS5")
    }

    pub(crate) fn http(self) -> anyhow::Result<u16> {
        self.http.context("it is no HTTP proxy")
    }
}

/// The address of the n-th client: they share eight.
fn address(client: usize) -> u8 {
    u8::try_from(client % 8).unwrap_or(0)
}

pub(super) fn download(route: Route, lab: &Lab, length: Length) -> anyhow::Result<Done> {
    let port = lab.ports().source;
    Ok(load::run(4, length, |client, tally| {
        bytes::download(route, port, address(client), tally)
    })?)
}

pub(super) fn upload(route: Route, lab: &Lab, length: Length) -> anyhow::Result<Done> {
    let port = lab.ports().sink;
    Ok(load::run(4, length, |client, tally| {
        bytes::upload(route, port, address(client), tally)
    })?)
}

pub(super) fn open(
    clients: usize,
    route: Route,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let echoes: Rc<[u16]> = lab.ports().echoes.clone().into();
    Ok(load::run(clients, length, |client, tally| {
        tunnels::repeat(route, echoes.clone(), address(client), tally)
    })?)
}

/// GETs of the origin, with a body of this length.
pub(crate) fn get(
    clients: usize,
    body: usize,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let path = format!("/{body}");
    repeat(
        clients,
        &Request::get(HOST, lab.ports().http, &path, 200),
        doors,
        length,
    )
}

/// The same for another host, whose answer has this status.
pub(crate) fn get_from(
    host: &str,
    status: u16,
    clients: usize,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let request = Request::get(host, lab.ports().http, "/2", status);
    repeat(clients, &request, doors, length)
}

/// Small requests on 16 connections, and downloads through tunnels on a thread of their own: the GiB that they moved.
///
/// With an interval, the downloads together take [`bytes::DOWNLOAD_PART_BYTES`] in that time.
pub(crate) fn get_beside_downloads(
    downloads: usize,
    interval: Option<Duration>,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<(Done, f64)> {
    let route = Route::Connect(doors.http()?);
    let source = lab.ports().source;
    let longer = Length {
        measured: length.warm_up + length.measured,
        warm_up: Duration::ZERO,
        interval,
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            load::run(downloads, longer, |_, tally| {
                bytes::download(route, source, 7, tally)
            })
        });
        let done = get(16, 2, doors, lab, length)?;
        let moved = thread.join().ok().context("the download panicked")??;
        Ok((done, machine::float(moved.units) / machine::float(1 << 30)))
    })
}

pub(super) fn repeat(
    clients: usize,
    request: &Request,
    doors: Doors,
    length: Length,
) -> anyhow::Result<Done> {
    let door = doors.http()?;
    Ok(load::run(clients, length, |client, tally| {
        requests::repeat(door, request.clone(), address(client), tally)
    })?)
}

fn target(
    lab: &Lab,
    doors: Doors,
    protocol: &str,
    body: usize,
    resumes: Resumes,
) -> anyhow::Result<Target> {
    Ok(Target {
        route: Route::Connect(doors.http()?),
        port: lab.ports().https,
        body,
        fields: String::new(),
        tls: lab.client(protocol, resumes)?,
    })
}

pub(super) fn reconnect(
    resumes: Resumes,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let target = target(lab, doors, "http/1.1", 2, resumes)?;
    Ok(load::run(16, length, |client, tally| {
        intercepted::reconnect(target.clone(), address(client), tally)
    })?)
}

/// Intercepted requests over HTTP/1.1, with a body of this length.
pub(super) fn repeat_intercepted(
    clients: usize,
    body: usize,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let target = target(lab, doors, "http/1.1", body, Resumes::Never)?;
    Ok(load::run(clients, length, |client, tally| {
        intercepted::repeat(target.clone(), address(client), tally)
    })?)
}

/// The same with a further line in the head of each request.
pub(crate) fn repeat_with_field(
    clients: usize,
    body: usize,
    field: &str,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let target = Target {
        fields: field.to_owned(),
        ..target(lab, doors, "http/1.1", body, Resumes::Never)?
    };
    Ok(load::run(clients, length, |client, tally| {
        intercepted::repeat(target.clone(), address(client), tally)
    })?)
}

/// Intercepted requests over HTTP/2, this many at once on each connection.
pub(super) fn multiplex(
    connections: usize,
    streams: usize,
    doors: Doors,
    lab: &Lab,
    length: Length,
) -> anyhow::Result<Done> {
    let target = target(lab, doors, "h2", 2, Resumes::Never)?;
    Ok(load::run(connections, length, |client, tally| {
        intercepted::multiplex(target.clone(), streams, address(client), tally)
    })?)
}

/// Idle tunnels to an echo.
pub(crate) fn hold_tunnels(count: usize, lab: &Lab, doors: Doors) -> anyhow::Result<Held> {
    let connections = idle::tunnels(
        count,
        doors.tunnel(|fixed| fixed.echo)?,
        lab.ports().echoes[0],
    )?;
    Ok(Held {
        count: u64::try_from(count)?,
        _connections: Box::new(connections),
    })
}

pub(super) fn hold_intercepted(count: usize, lab: &Lab, doors: Doors) -> anyhow::Result<Held> {
    let connections =
        idle::intercepted(count, &target(lab, doors, "http/1.1", 2, Resumes::Never)?)?;
    Ok(Held {
        count: u64::try_from(count)?,
        _connections: Box::new(connections),
    })
}
