//! The requests of tests to a daemon: through its listeners as a client, and to its admin API as an
//! operator.

use serde_json::{Value, json};

use super::{Config, Daemon};
use crate::client::{self, Connection, Response, Socks5Target, proxy_request};
use crate::wait::{TIMEOUT, poll};

impl Daemon {
    /// Requests an `http` URL through the daemon, with GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, url: &str) -> Response {
        let rest = url.strip_prefix("http://").expect("an http URL");
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let request = proxy_request("GET", authority, path, &["Connection: close"]);
        Connection::open(self.http_addr()).exchange(&request)
    }

    /// Opens a tunnel by CONNECT, which must be permitted.
    #[track_caller]
    pub fn tunnel(&self, authority: &str) -> Connection {
        let mut connection = Connection::open(self.http_addr());
        let answer = connection.connect(authority);
        assert_eq!(answer.status, 200, "{}", answer.text());
        connection
    }

    /// Opens a tunnel by SOCKS5, which must be permitted.
    #[track_caller]
    pub fn socks5_tunnel(&self, name: &str, port: u16) -> Connection {
        let mut connection = Connection::open(self.socks_addr());
        let bound = connection.socks5_connect(&Socks5Target::name(name, port));
        assert_eq!(bound.reply, 0, "the reply for {name}:{port}");
        connection
    }

    /// Makes a request to the admin API; a body is sent with curl's content type.
    pub fn admin(&self, method: &str, target: &str, body: Option<&str>) -> Response {
        client::request(self.admin_addr(), method, target, body)
    }

    /// `POST /reload`.
    pub fn reload(&self) -> Response {
        self.admin("POST", "/reload", None)
    }

    /// Replaces the configuration and reloads it, which must succeed.
    #[track_caller]
    pub fn reload_with(&self, config: &Config) {
        self.rewrite_config(config);
        let answer = self.reload();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Sets the mode by `POST /mode`, which must succeed.
    #[track_caller]
    pub fn set_mode(&self, mode: &str) {
        let body = json!({ "mode": mode }).to_string();
        let answer = self.admin("POST", "/mode", Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The entries of `GET /blocked`.
    pub fn blocked(&self) -> Vec<Value> {
        let response = self.admin("GET", "/blocked", None);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["blocked"]
            .as_array()
            .expect("a list of blocked requests")
            .clone()
    }

    /// Waits until `GET /blocked` lists an entry that satisfies `look`.
    pub fn wait_for_blocked(&self, look: impl Fn(&Value) -> bool) -> Value {
        poll(TIMEOUT, || {
            self.blocked().into_iter().find(|entry| look(entry))
        })
        .unwrap_or_else(|| {
            panic!(
                "the blocked request is not listed, only {:?}",
                self.blocked()
            )
        })
    }
}
