//! An HTTP server on loopback with scripted answers.
//!
//! It remembers every raw request, and can prove that there was none: see [`Origin::connections`].
//! It is naive on purpose and shares no code with the proxy. HTTP/1.1 is its own implementation;
//! HTTP/2, which only TLS can choose, is hyper's.

mod answer;
mod handshake;
mod http2;
mod request;
mod serve;

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;

pub use self::answer::{Answer, Body, Gate, Reply};
pub use self::handshake::Handshake;
pub use self::request::Request;
use self::serve::Protocol;
use crate::tls::{Server, TestCa};
use crate::wait::{TIMEOUT, Watched};
use crate::wire::SharedSocket;

/// A test's function from a request to an answer. It may block, which delays the answer.
type Script = dyn Fn(&Request) -> Answer + Send + Sync;
/// A test's function that sees only the head and decides whether the body is read.
type EarlyScript = dyn Fn(&Request) -> Option<Answer> + Send + Sync;
/// Requests whose bodies an origin leaves unread, to read them as its next requests.
type Unread = dyn Fn(&Request) -> bool + Send + Sync;

/// A running origin. On drop it stops and closes all connections.
pub struct Origin {
    addr: SocketAddr,
    scheme: &'static str,
    state: Arc<Watched<State>>,
}

/// Everything that an origin has received so far.
#[derive(Default)]
struct State {
    stopping: bool,
    /// The peers whose connections were accepted, oldest first.
    accepted: Vec<SocketAddr>,
    /// Which of those are this origin's own probes.
    probes: Vec<usize>,
    /// The connections that have not ended, by their index in `accepted`.
    open: Vec<(usize, SharedSocket)>,
    requests: Vec<Request>,
    handshakes: Vec<Handshake>,
}

/// The configuration of an origin before it is started.
pub struct Builder {
    protocol: Protocol,
    tls: Option<Arc<ServerConfig>>,
}

impl Origin {
    /// A plain HTTP origin that answers by `script`.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::answering(script).start()
    }

    /// An origin that answers by `script`, to be configured and then started.
    pub fn answering(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Builder {
        Builder {
            protocol: Protocol::Http {
                early: Arc::new(|_| None),
                unread: Arc::new(|_| false),
                script: Arc::new(script),
            },
            tls: None,
        }
    }

    /// An origin that echoes every byte and closes after the peer: for tunnels that do not carry
    /// HTTP.
    pub fn echoing_bytes() -> Builder {
        Builder {
            protocol: Protocol::Echo,
            tls: None,
        }
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path` here, with a name that the proxy must resolve.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.addr.port())
    }

    /// Every request whose head has arrived, oldest first. The last of each
    /// connection may still be receiving its body: see [`Request::complete`].
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// The connection that each of [`Self::requests`] came on; they count from 0.
    pub fn used_connections(&self) -> Vec<usize> {
        let requests = &self.state.lock().requests;
        requests.iter().map(|request| request.connection).collect()
    }

    /// Every TLS handshake whose `ClientHello` has arrived, oldest first.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.state.lock().handshakes.clone()
    }

    /// Waits until the requests satisfy `look`.
    pub fn wait_for<R>(&self, what: &str, mut look: impl FnMut(&[Request]) -> Option<R>) -> R {
        self.state
            .wait(TIMEOUT, |state| look(&state.requests))
            .unwrap_or_else(|| {
                panic!(
                    "the origin waited in vain for {what}; it has {:#?}",
                    self.requests()
                )
            })
    }

    /// How many TCP connections were made to it.
    ///
    /// Zero is proof: the result is returned only after a connection of our own has been accepted,
    /// and the kernel returns connections in the order in which they were made, so none can still
    /// be in its queue.
    pub fn connections(&self) -> usize {
        let before = self.state.lock().accepted.len();
        let probe = TcpStream::connect(self.addr).expect("a running origin accepts");
        let mine = probe
            .local_addr()
            .expect("a connected socket has an address");
        self.state
            .wait(TIMEOUT, |state| {
                let later = &state.accepted[before..];
                let at = before + later.iter().position(|peer| *peer == mine)?;
                let probes = state.probes.iter().filter(|probe| **probe < at).count();
                state.probes.push(at);
                Some(at - probes)
            })
            .expect("the origin accepts what is connected")
    }

    /// Waits until every accepted connection has ended, from either side.
    pub fn wait_until_idle(&self) {
        self.state
            .wait(TIMEOUT, |state| state.open.is_empty().then_some(()))
            .expect("every connection to the origin ends");
    }
}

impl Builder {
    /// Speaks TLS, with a certificate for `names` issued by `ca`.
    #[must_use]
    pub fn tls(mut self, ca: &TestCa, names: &[&str]) -> Self {
        self.tls = Some(ca.server(names));
        self
    }

    /// Speaks TLS with this configuration; HTTP/2 if ALPN chooses `h2`.
    #[must_use]
    pub fn tls_as(mut self, server: &Server<'_>) -> Self {
        self.tls = Some(server.config());
        self
    }

    /// Calls a function for each head before the body is read. An answer leaves the body unread and
    /// closes the connection. Blocking leaves the peer with a full pipe. `None` sends `100
    /// Continue` if the request asks for it, and reads on.
    #[must_use]
    pub fn before_body(
        mut self,
        early_script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        match &mut self.protocol {
            Protocol::Http { early, .. } => *early = Arc::new(early_script),
            Protocol::Echo => panic!("an origin that echoes bytes has no bodies"),
        }
        self
    }

    /// Over HTTP/1.1, answers these requests without reading their bodies, whose bytes it then
    /// reads as the next request of the connection, as some origins do (RFC 9112 section 11.2). It
    /// closes connections when it is asked to.
    #[must_use]
    pub fn leaving_unread(
        mut self,
        which: impl Fn(&Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        match &mut self.protocol {
            Protocol::Http { unread, .. } => *unread = Arc::new(which),
            Protocol::Echo => panic!("an origin that echoes bytes has no bodies"),
        }
        self
    }

    /// Listens on a free port of 127.0.0.1 and starts to serve.
    pub fn start(self) -> Origin {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let state = Arc::new(Watched::<State>::default());
        let origin = Origin {
            addr,
            scheme: if self.tls.is_some() { "https" } else { "http" },
            state: Arc::clone(&state),
        };
        thread::spawn(move || self.accept(&listener, &state));
        origin
    }

    fn accept(&self, listener: &TcpListener, state: &Arc<Watched<State>>) {
        while let Ok((stream, peer)) = listener.accept() {
            let stream = SharedSocket::new(stream);
            let hang_up = stream.clone();
            let (index, stopping) = state.update(|state| {
                let index = state.accepted.len();
                state.accepted.push(peer);
                state.open.push((index, hang_up));
                (index, state.stopping)
            });
            if stopping {
                return;
            }
            let (protocol, tls) = (self.protocol.clone(), self.tls.clone());
            let state = Arc::clone(state);
            thread::spawn(move || {
                // A peer that closes early is not an error of the origin; the bytes that it sent
                // are recorded.
                let _: io::Result<()> = serve::connection(&stream, index, &protocol, tls, &state);
                drop(stream);
                state.update(|state| state.open.retain(|(open, _)| *open != index));
            });
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.update(|state| {
            state.stopping = true;
            for (_, stream) in &state.open {
                let _: io::Result<()> = stream.shutdown(Shutdown::Both);
            }
        });
        // Wakes the accepting thread, which then sees that it must stop.
        let _: io::Result<TcpStream> = TcpStream::connect(self.addr);
    }
}

#[cfg(test)]
mod tests;
