//! Intercepted TLS.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::{Connection, Http2, Response};
use crate::daemon::{Config, Daemon};
use crate::origin::{Answer, Builder, Origin, Request};
use crate::proxyctl::exported_ca;
use crate::tls::{Client, Server, TestCa};

/// A daemon that trusts the origin's authority, and clients that trust the daemon's.
pub struct TlsSetup {
    /// Dropped first, so that the daemon has nothing to wait for when it ends.
    pub origin: Origin,
    /// The daemon.
    pub daemon: Daemon,
    /// The authority that issued the origin's certificate.
    pub ca: TestCa,
    /// The daemon's own authority at the start, as PEM. [`Self::client`] trusts it.
    pub proxy_ca: String,
}

impl TlsSetup {
    /// The names in the certificates of the origins.
    pub const NAMES: [&str; 3] = ["allowed.test", "hooked.test", "127.0.0.1"];

    /// With an origin that speaks these protocols and answers with its request.
    pub fn echoing(config: &Config, protocols: &[&str]) -> Self {
        Self::new(config, protocols, |_| Answer::Echo)
    }

    /// With an origin that speaks these protocols and answers by `script`.
    pub fn new(
        config: &Config,
        protocols: &[&str],
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with(config, protocols, Origin::answering(script))
    }

    /// With an origin of any kind that speaks these protocols.
    pub fn with(config: &Config, protocols: &[&str], origin: Builder) -> Self {
        Self::serving(config, origin, |ca| {
            Server::of(ca, &Self::NAMES).alpn(protocols)
        })
    }

    /// With an origin whose TLS the test configures.
    pub fn serving<'a>(
        config: &Config,
        origin: Builder,
        server: impl FnOnce(&TestCa) -> Server<'_> + 'a,
    ) -> Self {
        let ca = TestCa::new();
        let origin = origin.tls_as(&server(&ca)).start();
        let daemon = Daemon::start_trusting(config, &ca);
        let proxy_ca = exported_ca(&daemon);
        Self {
            origin,
            daemon,
            ca,
            proxy_ca,
        }
    }

    /// The origin's port under a name or address.
    pub fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.origin.addr().port())
    }

    /// A tunnel to the origin, before any TLS.
    #[track_caller]
    pub fn tunnel(&self, host: &str) -> Connection {
        self.daemon.tunnel(&self.authority(host))
    }

    /// A client that trusts only the daemon's authority and offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> Client {
        Client::trusting_pem(&self.proxy_ca).alpn(protocols)
    }

    /// HTTP/1.1 inside intercepted TLS.
    pub fn http1(&self, host: &str) -> Connection {
        let (client, session) = self.tunnel(host).secure(&self.client(&["http/1.1"]), host);
        assert_ne!(session.alpn.as_deref(), Some("h2"));
        client
    }

    /// HTTP/2 inside intercepted TLS.
    pub fn http2(&self, host: &str) -> Http2 {
        self.tunnel(host).into_http2(&self.client(&["h2"]), host)
    }

    /// A request in origin-form, to its empty line; `fields` are names and values.
    pub fn message(&self, method: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.authority(host)
        );
        for (name, value) in fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text + "\r\n"
    }

    /// The URL of a path at the origin.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{}{path}", self.authority(host))
    }

    /// Sends one request without a body, on a connection of its own that speaks `protocol`.
    pub fn ask(
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

    /// The status of `GET /` over HTTP/1.1.
    pub fn status(&self, host: &str) -> u16 {
        self.status_over("http/1.1", host)
    }

    /// The status of `GET /` over this protocol.
    pub fn status_over(&self, protocol: &str, host: &str) -> u16 {
        self.ask(protocol, "GET", host, "/", &[]).status
    }

    /// Waits for the entry of `GET /blocked` with this reason.
    pub fn blocked(&self, reason: &str) -> Value {
        self.daemon
            .wait_for_blocked(|entry| entry["reason"] == reason)
    }

    /// Fails if the log reports a crash.
    #[track_caller]
    pub fn assert_no_crash(&self) {
        for line in self.daemon.logs() {
            let raw = &line.raw;
            assert!(!raw.contains("panicked"), "{raw}");
            assert!(!raw.contains("the worker is gone"), "{raw}");
        }
    }
}

/// A daemon that intercepts, an origin that the test plays itself, and clients that trust only the
/// daemon's authority.
pub struct RawTlsSetup {
    /// The daemon.
    pub daemon: Daemon,
    /// The origin's host and port.
    pub authority: String,
    host: String,
    client: Client,
}

impl RawTlsSetup {
    /// An origin at `address` that clients call `host`. The daemon trusts `ca` for it.
    pub fn new(config: &Config, host: &str, address: SocketAddr, ca: &TestCa) -> Self {
        let daemon = Daemon::start_trusting(config, ca);
        Self {
            client: Client::trusting_pem(&exported_ca(&daemon)),
            daemon,
            authority: format!("{host}:{}", address.port()),
            host: host.to_owned(),
        }
    }

    /// HTTP/1.1 inside intercepted TLS.
    pub fn http1(&self) -> Connection {
        let client = self.client.clone().alpn(&["http/1.1"]);
        let tunnel = self.daemon.tunnel(&self.authority);
        tunnel.secure(&client, &self.host).0
    }

    /// HTTP/2 inside intercepted TLS.
    pub fn http2(&self) -> Http2 {
        let client = self.client.clone().alpn(&["h2"]);
        let tunnel = self.daemon.tunnel(&self.authority);
        tunnel.into_http2(&client, &self.host)
    }

    /// The URL of a path at the origin.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority)
    }

    /// Requests `/` on a connection of its own that speaks `protocol`.
    pub fn get(&self, protocol: &str) -> Response {
        if protocol == "h2" {
            self.http2().request("GET", &self.url("/"), &[], b"")
        } else {
            let host = &self.authority;
            self.http1()
                .exchange(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        }
    }
}
