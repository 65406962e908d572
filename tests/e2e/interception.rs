//! TLS interception by the shipped daemon, over real sockets (SPEC section 6, and P7, P9, P11, H5,
//! H9, R1 and R3 inside it).
//!
//! The engine's tests cover SOCKS5 to port 443: only root may listen there.

mod ambiguous;
mod attempt;
mod bodies;
mod causes;
mod changes;
mod clients;
mod early;
mod floods;
mod frames;
mod half_close;
pub(crate) mod hooks;
mod interim;
mod limited;
mod negotiation;
mod origins;
mod plain_http;
mod requests;
mod resets;
mod unprocessed;
mod websocket;
mod windows;

use e2e::client::{Connection, Http2, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Builder, Origin, Request};
use e2e::tls::{Client, Server, TestCa};
use serde_json::Value;

use crate::control::proxyctl;

/// The names in the certificates of the origins.
const NAMES: [&str; 3] = ["allowed.test", "hooked.test", "127.0.0.1"];
/// The two versions of HTTP, by their names in ALPN.
pub(crate) const BOTH: [&str; 2] = ["h2", "http/1.1"];

/// A daemon that trusts the origin's authority, and clients that trust the daemon's.
pub(crate) struct Scene {
    /// Dropped first, so that the daemon has nothing to wait for when it ends.
    pub(crate) origin: Origin,
    daemon: Daemon,
    /// The origin's authority.
    ca: TestCa,
    /// The proxy's, as PEM.
    proxy_ca: String,
}

/// `allowed.test` may be read, and anything else is refused.
pub(crate) fn limited() -> Config {
    Config::example().set("network", "mode", r#""limited""#)
}

/// Starts a daemon that trusts this authority.
fn start(config: &Config, ca: &TestCa) -> Daemon {
    Daemon::launch(e2e::binary!())
        .config(config)
        .trusting(ca)
        .start()
}

impl Scene {
    /// With an origin that speaks these protocols and echoes what it is asked.
    pub(crate) fn echoing(config: &Config, protocols: &[&str]) -> Self {
        Self::new(config, protocols, |_| Answer::Echo)
    }

    /// With an origin that speaks these protocols.
    fn new(
        config: &Config,
        protocols: &[&str],
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with(config, protocols, Origin::answering(script))
    }

    /// With an origin of any kind that speaks these protocols.
    pub(crate) fn with(config: &Config, protocols: &[&str], origin: Builder) -> Self {
        Self::serving(config, origin, |ca| Server::of(ca, &NAMES).alpn(protocols))
    }

    /// With an origin whose TLS the test configures.
    fn serving<'a>(
        config: &Config,
        origin: Builder,
        server: impl FnOnce(&TestCa) -> Server<'_> + 'a,
    ) -> Self {
        let ca = TestCa::new();
        let origin = origin.tls_as(&server(&ca)).start();
        let daemon = start(config, &ca);
        let proxy_ca = exported(&daemon);
        Self {
            origin,
            daemon,
            ca,
            proxy_ca,
        }
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(crate) fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.origin.addr().port())
    }

    /// What a CONNECT has opened.
    fn tunnel(&self, host: &str) -> Connection {
        let mut client = Connection::open(self.daemon.http_addr());
        let answer = client.connect(&self.authority(host));
        assert_eq!(answer.status, 200, "{}", answer.text());
        client
    }

    /// A client that trusts only the proxy's authority.
    fn client(&self, protocols: &[&str]) -> Client {
        Client::trusting_pem(&self.proxy_ca).alpn(protocols)
    }

    /// HTTP/1.1 inside intercepted TLS.
    pub(crate) fn http1(&self, host: &str) -> Connection {
        let (client, session) = self.tunnel(host).secure(&self.client(&["http/1.1"]), host);
        assert_ne!(session.alpn.as_deref(), Some("h2"));
        client
    }

    /// HTTP/2 inside intercepted TLS.
    pub(crate) fn http2(&self, host: &str) -> Http2 {
        self.tunnel(host).into_http2(&self.client(&["h2"]), host)
    }

    /// A request in origin-form, to its empty line; `fields` are names and values.
    pub(crate) fn message(
        &self,
        method: &str,
        host: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> String {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.authority(host)
        );
        for (name, value) in fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text + "\r\n"
    }

    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("https://{}{path}", self.authority(host))
    }

    /// One request without a body, on a connection of its own that speaks `protocol`.
    pub(crate) fn ask(
        &self,
        protocol: &str,
        method: &str,
        host: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Response {
        if protocol == "h2" {
            let client = self.http2(host);
            client.request(method, &self.url(host, path), fields, b"")
        } else {
            let mut client = self.http1(host);
            client.exchange(&self.message(method, host, path, fields))
        }
    }

    /// `GET /` over the negotiated protocol; returns the status.
    fn status(&self, host: &str) -> u16 {
        let mut client = self.http1(host);
        client.exchange(&self.message("GET", host, "/", &[])).status
    }

    /// The same over this protocol.
    fn status_over(&self, protocol: &str, host: &str) -> u16 {
        self.ask(protocol, "GET", host, "/", &[]).status
    }

    /// The one blocked entry with this reason.
    pub(crate) fn blocked(&self, reason: &str) -> Value {
        self.daemon
            .wait_for_blocked(|entry| entry["reason"] == reason)
    }

    /// Fails if the log reports a crash.
    fn assert_sound(&self) {
        for line in self.daemon.logs() {
            let raw = &line.raw;
            assert!(!raw.contains("panicked"), "{raw}");
            assert!(!raw.contains("the worker is gone"), "{raw}");
        }
    }
}

/// The certificate of the daemon's authority.
pub(crate) fn exported(daemon: &Daemon) -> String {
    let run = proxyctl(daemon, &["ca", "export"]);
    run.succeeded().stdout.clone()
}
