//! Running attempts of every kind, and the ways to end them.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use e2e::client::{Association, Connection, Http2, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine, Signal};
use e2e::origin::{Answer, Gate, Origin, Reply};
use e2e::proxyctl::proxyctl;
use e2e::raw_origin::{read_head, serve_each};
use e2e::tls::{Client, Server, TestCa};
use e2e::wait::TIMEOUT;

/// The protocol of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    /// A plain request that changes protocols.
    Upgrade,
    Connect,
    Socks5,
    Datagrams,
    /// Inside intercepted TLS, over HTTP/1.1 and HTTP/2.
    Inside1,
    Inside2,
}

pub(super) const ALL: [Kind; 7] = [
    Kind::Http,
    Kind::Upgrade,
    Kind::Connect,
    Kind::Socks5,
    Kind::Datagrams,
    Kind::Inside1,
    Kind::Inside2,
];

/// The way in which a test ends an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Completed,
    ClientGone,
    UpstreamFailed,
    Forbidden,
    Idle,
    Drained,
}

/// A running attempt: 4 bytes were sent to the origin, if its kind permits that, and at least 4 came
/// back.
pub(super) struct Attempt {
    client: Option<ClientEnd>,
    /// Dropped before the daemon, so that the daemon has nothing to wait for.
    upstream: Upstream,
    daemon: Option<Daemon>,
    config: Config,
    pub(super) authority: String,
    pub(super) port: u16,
}

enum ClientEnd {
    Stream(Connection),
    Http2(Http2, Box<e2e::client::Exchange>),
    Datagrams(Association),
}

enum Upstream {
    /// An HTTP origin whose answer waits.
    Http(Option<(Origin, Option<Gate>)>),
    /// Echoes bytes, and resets the connection after [`RESET`].
    Bytes,
    Datagrams(UdpSocket),
}

const HOST: &str = "allowed.test";
/// Makes the origin of [`Upstream::Bytes`] reset the connection.
const RESET: &[u8; 4] = b"die!";

impl Kind {
    /// `network.transport.protocol` of its event.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::Http | Self::Upgrade => "http",
            Self::Connect => "https_connect",
            Self::Socks5 => "socks5_tcp",
            Self::Datagrams => "socks5_udp",
            Self::Inside1 | Self::Inside2 => "https",
        }
    }

    /// How much the client sends in all.
    pub(super) fn sent(self, ending: Ending) -> u64 {
        match (self, ending) {
            (Self::Inside1 | Self::Inside2, _) => 0,
            (Self::Upgrade | Self::Connect | Self::Socks5, Ending::UpstreamFailed) => 8,
            _ => 4,
        }
    }

    fn is_inside(self) -> bool {
        matches!(self, Self::Inside1 | Self::Inside2)
    }
}

fn config(kind: Kind, ending: Ending) -> Config {
    let mut config = Config::example().set("daemon", "log_flows", "true").set(
        "daemon.limits",
        "drain_timeout",
        r#""300ms""#,
    );
    if kind.is_inside() {
        config = config.set("network", "mode", r#""limited""#);
    }
    if ending == Ending::Idle {
        config = config
            .set("daemon.limits", "idle_timeout", r#""300ms""#)
            .set("daemon.limits", "header_timeout", r#""2s""#);
    }
    config
}

/// Echoes, for any number of connections. Where the bytes begin with a request, it changes protocols
/// first.
fn bytes(upgrades: bool) -> SocketAddr {
    serve_each(move |_, mut stream: TcpStream| {
        if upgrades {
            read_head(&mut stream)?;
            let head =
                "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(head.as_bytes())?;
        }
        let mut part = [0; 4];
        loop {
            match stream.read_exact(&mut part) {
                Ok(()) if part == *RESET => {
                    return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                Ok(()) => stream.write_all(&part)?,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    })
}

/// An origin with one answer, whose body the gate releases.
fn http(ca: Option<(&TestCa, &str)>) -> (Origin, Gate) {
    let (gate, body) = Gate::new();
    let answer = Mutex::new(Some(Answer::Reply(Reply::new(200, body))));
    let origin = Origin::answering(move |_| {
        let answer = answer.lock().expect("no panic").take();
        answer.unwrap_or(Answer::Close)
    });
    let origin = match ca {
        None => origin,
        Some((ca, protocol)) => origin.tls_as(&Server::of(ca, &[HOST]).alpn(&[protocol])),
    };
    (origin.start(), gate)
}

impl Attempt {
    /// Begins an attempt, prepared for this ending.
    pub(super) fn begin(kind: Kind, ending: Ending) -> Self {
        let ca = TestCa::new();
        let config = config(kind, ending);
        let daemon = Daemon::launch().config(&config).trusting(&ca).start();
        let tls = match kind {
            Kind::Inside1 => Some((&ca, "http/1.1")),
            Kind::Inside2 => Some((&ca, "h2")),
            _ => None,
        };
        let (upstream, port) = match kind {
            Kind::Http | Kind::Inside1 | Kind::Inside2 => {
                let (origin, gate) = http(tls);
                let port = origin.addr().port();
                (Upstream::Http(Some((origin, Some(gate)))), port)
            }
            Kind::Upgrade | Kind::Connect | Kind::Socks5 => {
                (Upstream::Bytes, bytes(kind == Kind::Upgrade).port())
            }
            Kind::Datagrams => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                let patience = socket.set_read_timeout(Some(TIMEOUT));
                patience.expect("a fresh socket takes options");
                let port = socket.local_addr().expect("an address").port();
                (Upstream::Datagrams(socket), port)
            }
        };
        let mut attempt = Self {
            client: None,
            upstream,
            daemon: Some(daemon),
            config,
            authority: format!("{HOST}:{port}"),
            port,
        };
        attempt.client = Some(attempt.client(kind));
        attempt
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    /// A client that has sent and received something.
    fn client(&self, kind: Kind) -> ClientEnd {
        let daemon = self.daemon();
        let authority = &self.authority;
        let target = Socks5Target::name(HOST, self.port);
        let release = || {
            if let Upstream::Http(Some((_, Some(gate)))) = &self.upstream {
                gate.release(b"part");
            }
        };
        let pong = |mut client: Connection| {
            client.send(b"ping");
            assert_eq!(client.read_exact(4), b"ping", "{kind:?}");
            ClientEnd::Stream(client)
        };
        match kind {
            Kind::Http => {
                let mut client = Connection::open(daemon.http_addr());
                client.send(format!(
                    "POST http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4\r\n\r\nping"
                ));
                release();
                assert_eq!(client.read_head().status, 200);
                assert!(!client.read_some().is_empty());
                ClientEnd::Stream(client)
            }
            Kind::Upgrade => {
                let mut client = Connection::open(daemon.http_addr());
                client.send(format!(
                    "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                ));
                assert_eq!(client.read_head().status, 101);
                pong(client)
            }
            Kind::Connect => {
                let mut client = Connection::open(daemon.http_addr());
                assert_eq!(client.connect(authority).status, 200);
                pong(client)
            }
            Kind::Socks5 => {
                let mut client = Connection::open(daemon.socks_addr());
                assert_eq!(client.socks5_connect(&target).reply, 0);
                pong(client)
            }
            Kind::Datagrams => {
                let association = Association::open(daemon.socks_addr());
                association.send(&target, b"ping");
                let Upstream::Datagrams(server) = &self.upstream else {
                    unreachable!("datagrams go to a socket");
                };
                let mut got = [0; 9];
                let (length, from) = server.recv_from(&mut got).expect("a datagram");
                server.send_to(&got[..length], from).expect("an answer");
                assert_eq!(association.receive().1, b"ping");
                ClientEnd::Datagrams(association)
            }
            Kind::Inside1 => {
                let mut client = self.tunnel().secure(&self.trusting("http/1.1"), HOST).0;
                client.send(format!("GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
                release();
                assert_eq!(client.read_head().status, 200);
                assert!(!client.read_some().is_empty());
                ClientEnd::Stream(client)
            }
            Kind::Inside2 => {
                let client = self.tunnel().into_http2(&self.trusting("h2"), HOST);
                let mut exchange = client.begin("GET", &format!("https://{authority}/"), &[]);
                release();
                assert_eq!(exchange.head().status, 200);
                assert!(!exchange.read_some().is_empty());
                ClientEnd::Http2(client, Box::new(exchange))
            }
        }
    }

    fn tunnel(&self) -> Connection {
        let mut client = Connection::open(self.daemon().http_addr());
        assert_eq!(client.connect(&self.authority).status, 200);
        client
    }

    /// A client that trusts only the proxy's CA.
    fn trusting(&self, protocol: &str) -> Client {
        let run = proxyctl(self.daemon(), &["ca", "export"]);
        Client::trusting_pem(&run.succeeded().stdout).alpn(&[protocol])
    }

    pub(super) fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Completed => self.complete(),
            Ending::ClientGone => match self.client.take() {
                Some(ClientEnd::Stream(client)) => client.reset(),
                client => drop(client),
            },
            Ending::UpstreamFailed => match (&mut self.upstream, &mut self.client) {
                (Upstream::Http(origin), _) => {
                    // The gate stays open: the answer is not complete.
                    let (origin, gate) = origin.take().expect("an origin");
                    drop(origin);
                    std::mem::forget(gate);
                }
                (Upstream::Bytes, Some(ClientEnd::Stream(client))) => client.send(RESET),
                _ => unreachable!("datagrams have no connection that breaks"),
            },
            Ending::Forbidden => {
                let denied = self.config.clone().deny(HOST);
                self.daemon().reload_with(&denied);
            }
            Ending::Idle => {}
            Ending::Drained => self.daemon().signal(Signal::SIGTERM),
        }
    }

    fn complete(&mut self) {
        if let Upstream::Http(Some((_, gate))) = &mut self.upstream {
            drop(gate.take());
        }
        match self.client.take() {
            Some(ClientEnd::Stream(mut client)) => {
                if let Upstream::Bytes = self.upstream {
                    client.finish_sending();
                    client.expect_closed();
                } else {
                    // Read on until the last chunk has arrived.
                    let mut rest = Vec::new();
                    while !rest.ends_with(b"0\r\n\r\n") {
                        rest.extend(client.read_some());
                    }
                }
            }
            Some(ClientEnd::Http2(client, mut exchange)) => {
                while !exchange.read_some().is_empty() {}
                drop((exchange, client));
            }
            Some(ClientEnd::Datagrams(association)) => drop(association),
            None => unreachable!("the attempt has begun"),
        }
    }

    /// The whole log, once the event was written and the daemon has ended.
    pub(super) fn logs(&mut self, ending: Ending) -> Vec<LogLine> {
        let daemon = self.daemon.take().expect("it runs");
        if ending != Ending::Drained {
            daemon.wait_for_log(|line| line.flow().is_some());
            daemon.signal(Signal::SIGTERM);
        }
        daemon.wait_exit().logs
    }
}
