//! Plain HTTP.

use crate::client::{Connection, Response, proxy_request};
use crate::daemon::{Config, Daemon};
use crate::origin::{Answer, Origin};

/// A daemon and an origin. The names in the daemon's hosts file lead to the origin.
pub struct PlainSetup {
    /// Dropped first, so that the daemon has nothing to wait for when it ends.
    pub origin: Origin,
    /// The daemon.
    pub daemon: Daemon,
}

impl PlainSetup {
    /// With [`Config::example`]: `allowed.test`, `denied.test`, `blocked.test`.
    pub fn new(origin: Origin) -> Self {
        Self::with(&Config::example(), origin)
    }

    /// With this configuration.
    pub fn with(config: &Config, origin: Origin) -> Self {
        Self {
            daemon: Daemon::start(config),
            origin,
        }
    }

    /// With this configuration, on one core: see [`Launch::on_one_core`](crate::daemon::Launch::on_one_core).
    pub fn on_one_core(config: &Config, origin: Origin) -> Self {
        Self {
            daemon: Daemon::launch().config(config).on_one_core().start(),
            origin,
        }
    }

    /// A setup with [`Config::example`] and an origin that echoes each request in its answer.
    pub fn echoing() -> Self {
        Self::new(Origin::start(|_| Answer::Echo))
    }

    /// A new connection to the daemon's HTTP listener.
    pub fn client(&self) -> Connection {
        Connection::open(self.daemon.http_addr())
    }

    /// The origin's port under a name or address.
    pub fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.origin.addr().port())
    }

    /// A request to the origin: see [`proxy_request`].
    pub fn message(&self, method: &str, host: &str, path: &str, fields: &[&str]) -> String {
        proxy_request(method, &self.authority(host), path, fields)
    }

    /// A GET without further fields.
    pub fn get(&self, host: &str, path: &str) -> String {
        self.message("GET", host, path, &[])
    }

    /// Sends one request without a body on a connection of its own.
    pub fn ask(&self, method: &str, host: &str, path: &str, fields: &[&str]) -> Response {
        self.client()
            .exchange(&self.message(method, host, path, fields))
    }

    /// A tunnel to the origin, which must be permitted.
    #[track_caller]
    pub fn tunnel(&self, host: &str) -> Connection {
        self.daemon.tunnel(&self.authority(host))
    }

    /// The request-targets that the origin has received, oldest first.
    pub fn paths(&self) -> Vec<String> {
        let requests = self.origin.requests();
        requests.into_iter().map(|request| request.target).collect()
    }
}
