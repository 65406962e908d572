//! Connections that are open and silent.

use std::io;

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

use super::{intercepted, runtime, tunnels};
use crate::dial::Route;

/// How many connections are opened at once.
const AT_ONCE: usize = 32;
/// Clients have this many addresses, so that local ports suffice.
const CLIENTS: usize = 8;

/// Open connections. Each has carried bytes once, and is silent now.
pub(crate) struct Held<S> {
    _streams: Vec<S>,
    _runtime: Runtime,
}

/// Opens tunnels to an echo.
///
/// # Errors
///
/// A tunnel does not open.
pub(crate) fn tunnels(count: usize, route: Route, echo: u16) -> io::Result<Held<TcpStream>> {
    hold(count, move |client| tunnels::open(route, echo, client))
}

/// Opens intercepted connections, each with one request.
///
/// # Errors
///
/// A connection does not open.
pub(crate) fn intercepted(
    count: usize,
    target: &intercepted::Target,
) -> io::Result<Held<TlsStream<TcpStream>>> {
    let target = target.clone();
    hold(count, move |client| {
        let target = target.clone();
        async move {
            let mut stream = intercepted::connect(&target, client).await?;
            intercepted::get(&mut stream, &target).await?;
            Ok(stream)
        }
    })
}

fn hold<S, F>(count: usize, open: impl Fn(u8) -> F) -> io::Result<Held<S>>
where
    S: 'static,
    F: Future<Output = io::Result<S>> + 'static,
{
    let runtime = runtime()?;
    let mut streams = Vec::with_capacity(count);
    let set = tokio::task::LocalSet::new();
    runtime.block_on(set.run_until(async {
        while streams.len() < count {
            let number = AT_ONCE.min(count - streams.len());
            let begun: Vec<_> = (0..number)
                .map(|number| {
                    tokio::task::spawn_local(open(u8::try_from(number % CLIENTS).unwrap_or(0)))
                })
                .collect();
            for stream in begun {
                streams.push(stream.await.map_err(io::Error::other)??);
            }
        }
        Ok::<_, io::Error>(())
    }))?;
    Ok(Held {
        _streams: streams,
        _runtime: runtime,
    })
}
