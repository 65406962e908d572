//! A daemon, an origin behind it, and how requests from one to the other are spelled.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::wait::TIMEOUT;

/// A daemon and an origin; names that the daemon's hosts file has lead to the origin.
pub(crate) struct Scene {
    /// Dropped first, so that the daemon has nothing to wait for when it ends.
    pub(crate) origin: Origin,
    pub(crate) daemon: Daemon,
}

impl Scene {
    /// With [`Config::example`]: `allowed.test`, `denied.test`, `blocked.test`.
    pub(crate) fn new(origin: Origin) -> Self {
        Self::with(&Config::example(), origin)
    }

    pub(crate) fn with(config: &Config, origin: Origin) -> Self {
        Self {
            daemon: Daemon::start(e2e::binary!(), config),
            origin,
        }
    }

    /// With an origin that echoes its request.
    pub(crate) fn echoing() -> Self {
        Self::new(Origin::start(|_| Answer::Echo))
    }

    /// A new connection to the HTTP door.
    pub(crate) fn client(&self) -> Connection {
        Connection::open(self.daemon.http_addr())
    }

    /// The origin's port under a name or address.
    pub(crate) fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.origin.addr().port())
    }

    /// A request in absolute-form, to its empty line; `fields` are whole lines without their ends.
    pub(crate) fn message(&self, method: &str, host: &str, path: &str, fields: &[&str]) -> String {
        message(method, &self.authority(host), path, fields)
    }

    pub(crate) fn get(&self, host: &str, path: &str) -> String {
        self.message("GET", host, path, &[])
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, host: &str, path: &str, fields: &[&str]) -> Response {
        self.client()
            .exchange(&self.message(method, host, path, fields))
    }

    /// The requests that came with this path, in their order.
    pub(crate) fn paths(&self) -> Vec<String> {
        let requests = self.origin.requests();
        requests.into_iter().map(|request| request.target).collect()
    }

    /// The daemon's memory in KiB: what it has now and the most that it ever had.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.daemon.pid());
        let status = std::fs::read_to_string(path).expect("a running daemon has a status");
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|number| number.parse().ok()).expect(name)
        };
        (value("VmRSS:"), value("VmHWM:"))
    }
}

/// A request in absolute-form, to its empty line.
pub(crate) fn message(method: &str, authority: &str, path: &str, fields: &[&str]) -> String {
    let mut text = format!("{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text + "\r\n"
}

/// Sends bytes on a new connection. The answer must be 400 with a text that begins like this, and the
/// connection must end.
#[track_caller]
pub(crate) fn assert_bad_request(door: SocketAddr, bytes: impl AsRef<[u8]>, words: &str) {
    let bytes = bytes.as_ref();
    let mut client = Connection::open(door);
    client.send(bytes);
    let answer = client.read_final_response();
    let sent = bytes.escape_ascii();
    assert_eq!(answer.status, 400, "{sent}");
    assert_eq!(answer.header("content-type"), Some("text/plain"), "{sent}");
    assert!(
        answer.text().starts_with(words),
        "{sent}: {}",
        answer.text()
    );
    client.expect_closed();
}

/// Serves one connection by hand on loopback, for behaviour that a scripted origin does not have.
pub(crate) fn by_hand(
    serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    by_hand_at(Ipv4Addr::LOCALHOST.into(), serve)
}

/// The same on another address of this machine.
pub(crate) fn by_hand_at(
    address: IpAddr,
    serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port on loopback");
    let address = listener.local_addr().expect("a bound listener");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("a fresh socket takes options");
        // The test sees an error here at the client.
        let _: io::Result<()> = serve(stream);
    });
    address
}

/// Serves every connection by hand on loopback, each in a thread of its own; they count from 0.
pub(crate) fn each_by_hand(
    serve: impl Fn(usize, TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    let address = listener.local_addr().expect("a bound listener");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("a connection");
            // Written bytes leave at once, even before a reset.
            stream
                .set_nodelay(true)
                .and_then(|()| stream.set_read_timeout(Some(TIMEOUT)))
                .expect("a fresh socket takes options");
            let serve = Arc::clone(&serve);
            // The test sees an error here at the client.
            thread::spawn(move || serve(number, stream));
        }
    });
    address
}

/// Reads a request's head by hand.
pub(crate) fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Answers 200 to the next request by hand.
pub(crate) fn answer_ok(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

/// This many bytes, in a sequence that does not repeat soon.
pub(crate) fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}
