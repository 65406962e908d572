//! The client of a load: this program again, started in a place. It takes its proxies from the variables of the
//! environment, as other programs do.
//!
//! It writes a line when it is ready, begins when it reads one, writes the results, and ends with its standard
//! input, so that its CPU time can be read before.

use std::fmt::{self, Write as _};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::places::{Kind, Place};
use crate::dial::{HOST, NAME, Route};
use crate::load::requests::{self, Request};
use crate::load::{self, Done, Length, Tally, bytes, tunnels};
use crate::origin::Ports;
use crate::scenario::Unit;

/// The percentiles that the client reports: 0 to 100.
const PERCENTILES: usize = 101;

/// A load of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ClientLoad {
    TunnelDown,
    TunnelUp,
    SocksDown,
    SocksUp,
    #[value(name = "http-1")]
    Http1,
    #[value(name = "http-64")]
    Http64,
    #[value(name = "tunnel-32")]
    Tunnel32,
    #[value(name = "socks-32")]
    Socks32,
    #[value(name = "transparent-32")]
    Transparent32,
    Connect,
}

impl ClientLoad {
    pub(crate) const ALL: [Self; 10] = [
        Self::TunnelDown,
        Self::TunnelUp,
        Self::SocksDown,
        Self::SocksUp,
        Self::Http1,
        Self::Http64,
        Self::Tunnel32,
        Self::Socks32,
        Self::Transparent32,
        Self::Connect,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::TunnelDown => "GiB down through 4 tunnels",
            Self::TunnelUp => "GiB up through 4 tunnels",
            Self::SocksDown => "GiB down through 4 SOCKS5 tunnels",
            Self::SocksUp => "GiB up through 4 SOCKS5 tunnels",
            Self::Http1 => "HTTP request, one connection",
            Self::Http64 => "HTTP request, 64 connections",
            Self::Tunnel32 => "new tunnel, 32 at a time",
            Self::Socks32 => "new SOCKS5 tunnel by name, 32 at a time",
            Self::Transparent32 => "new connection through the transparent door, 32 at a time",
            Self::Connect => "TCP connection to the client itself",
        }
    }

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::TunnelDown | Self::TunnelUp | Self::SocksDown | Self::SocksUp => Unit::Byte,
            _ => Unit::One,
        }
    }

    /// Whether a place has what the load needs.
    pub(super) fn runs_in(self, place: Kind) -> bool {
        self != Self::Transparent32 || place == Kind::Jail
    }

    fn run(self, ports: &Ports, length: Length) -> anyhow::Result<Done> {
        let connect = || anyhow::Ok(Route::Connect(proxy("http_proxy")?));
        let socks5 = || anyhow::Ok(Route::Socks5(proxy("ftp_proxy")?));
        let down = |route| {
            load::run(4, length, |_, tally| {
                bytes::download(route, ports.source, 0, tally)
            })
        };
        let up = |route| {
            load::run(4, length, |_, tally| {
                bytes::upload(route, ports.sink, 0, tally)
            })
        };
        let echoes: Rc<[u16]> = ports.echoes.clone().into();
        let open = |route| {
            load::run(32, length, |_, tally| {
                tunnels::repeat(route, echoes.clone(), 0, tally)
            })
        };
        let get = |clients| {
            let door = proxy("http_proxy")?;
            let request = Request::get(HOST, ports.http, "/2", 200);
            anyhow::Ok(load::run(clients, length, |_, tally| {
                requests::repeat(door, request.clone(), 0, tally)
            })?)
        };
        Ok(match self {
            Self::TunnelDown => down(connect()?)?,
            Self::TunnelUp => up(connect()?)?,
            Self::SocksDown => down(socks5()?)?,
            Self::SocksUp => up(socks5()?)?,
            Self::Http1 => get(1)?,
            Self::Http64 => get(64)?,
            Self::Tunnel32 => open(connect()?)?,
            Self::Socks32 => open(socks5()?)?,
            Self::Transparent32 => {
                let addresses = (NAME, 0)
                    .to_socket_addrs()
                    .with_context(|| format!("{NAME}: no address"))?;
                let addresses: Vec<_> = addresses.collect();
                let address = addresses.first().context("a name without an address")?;
                open(Route::Transparent(address.ip()))?
            }
            Self::Connect => {
                let listener = Rc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
                load::run(1, length, |_, tally| {
                    let listener = Rc::clone(&listener);
                    async move { connects(&listener, &tally) }
                })?
            }
        })
    }
}

impl fmt::Display for ClientLoad {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        formatter.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The port of the proxy in a variable such as `http://127.0.0.1:3128`.
fn proxy(variable: &str) -> anyhow::Result<u16> {
    let names = [variable.to_owned(), variable.to_uppercase()];
    let value = names.iter().find_map(|name| std::env::var(name).ok());
    let value = value.with_context(|| format!("{variable} is not set"))?;
    let port = value.trim_end_matches('/').rsplit(':').next();
    let port = port.and_then(|port| port.parse().ok());
    port.with_context(|| format!("{variable}={value} names no port"))
}

/// Connects to a listener of this process, without any proxy.
fn connects(listener: &TcpListener, tally: &Tally) {
    while tally.goes_on() {
        let since = Instant::now();
        tally.count(since, connect_once(listener));
    }
}

fn connect_once(listener: &TcpListener) -> io::Result<()> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    // A reset leaves no local port behind (`TIME_WAIT`).
    rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO))?;
    drop(server);
    drop(client);
    Ok(())
}

/// Runs a load when a line comes from standard input, and writes the results.
pub(crate) fn serve(load: ClientLoad, ports: &Ports, length: Length) -> anyhow::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    writeln!(output, "ready")?;
    input.read_line(&mut String::new())?;
    let done = load.run(ports, length);
    let done = done.unwrap_or_else(|error| Done {
        failures: 1,
        failure: Some(format!("{error:#}")),
        ..Done::default()
    });
    write!(output, "{}", write_done(&done))?;
    output.flush()?;
    io::copy(&mut input, &mut io::sink())?;
    Ok(())
}

/// Two lines: units, failures and percentiles; the first failure.
fn write_done(done: &Done) -> String {
    let mut text = format!("{} {}", done.units, done.failures);
    for percentile in (0..PERCENTILES).filter_map(|percent| done.percentile(percent)) {
        let _ = write!(text, " {percentile}");
    }
    let failure = done
        .failure
        .as_deref()
        .unwrap_or_default()
        .replace('\n', " ");
    text + "\n" + &failure + "\n"
}

/// Reads the first line of [`write_done`] and the second.
fn read_done(numbers: &str, failure: &str) -> Option<Done> {
    let mut numbers = numbers.split_whitespace();
    let units = numbers.next()?.parse().ok()?;
    let failures = numbers.next()?.parse().ok()?;
    let latencies: Result<Vec<u32>, _> = numbers.map(str::parse).collect();
    let failure = failure.trim();
    Some(Done {
        units,
        latencies: latencies.ok()?,
        failures,
        failure: (!failure.is_empty()).then(|| failure.to_owned()),
    })
}

/// A client that was started in a place.
pub(super) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it, and waits until it is ready.
    pub(super) fn start(
        place: &Place,
        load: ClientLoad,
        ports: &Ports,
        length: Length,
    ) -> anyhow::Result<Self> {
        let mut child = place
            .command(std::env::current_exe()?)
            .args(["client", &load.to_string(), &ports.to_string()])
            .args([length.warm_up, length.measured].map(|time| time.as_millis().to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the client")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("it was piped")?);
        let mut client = Self {
            child,
            input,
            output,
        };
        if client.line()? != "ready\n" {
            drop(client.input.take());
            let mut error = String::new();
            if let Some(mut stderr) = client.child.stderr.take() {
                io::Read::read_to_string(&mut stderr, &mut error)?;
            }
            anyhow::bail!("the client did not start: {}", error.trim());
        }
        Ok(client)
    }

    /// Runs its load.
    pub(super) fn run(&mut self) -> anyhow::Result<Done> {
        let input = self.input.as_mut().context("it was piped")?;
        input.write_all(b"go\n")?;
        let (numbers, failure) = (self.line()?, self.line()?);
        read_done(&numbers, &failure).context("the client ended early")
    }

    /// Its process id, or that of the program that started it.
    pub(super) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Ends it.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the client ended with {status}");
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

/// A client that failed ends with its standard input, and everything that started it.
impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_back() {
        let done = Done {
            units: 7,
            latencies: (0..=100).collect(),
            failures: 2,
            failure: Some("status 403".to_owned()),
        };
        let text = write_done(&done);
        let (numbers, failure) = text.split_once('\n').expect("two lines");
        let read = read_done(numbers, failure).expect("results");
        assert_eq!((read.units, read.failures), (7, 2));
        assert_eq!(read.latencies, done.latencies);
        assert_eq!(read.failure, done.failure);
        assert!(read_done("", "").is_none());
    }
}
