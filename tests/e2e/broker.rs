//! The credential broker of the real daemon, over real sockets: a session holds a dummy, and the origin gets the
//! real value (SPEC B3, B4, B8, B11, B12).

mod contents;
mod echoes;
mod forms;
mod inject;
mod malformed;
mod places;
#[cfg(target_os = "linux")]
mod processes;
mod records;
mod refuse;
#[cfg(target_os = "linux")]
mod run;
mod scrub;
mod secrecy;
mod sources;

use codex_network_control::message::{CredentialValue, GivenCredentials, SessionRequest};
use e2e::client::{Connection, Http2, Response, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::leaks::Leak;
use e2e::origin::{Answer, Builder, Origin, Request};
use e2e::proxyctl::exported_ca;
use e2e::session::Session;
use e2e::tls::{Client, Server, TestCa};

/// A value that looks real and belongs to no account.
pub(crate) const REAL: &str = "sk-proj-REALreal0123456789abcdefABCDEF-_x";
pub(crate) const VARIABLE: &str = "OPENAI_API_KEY";
const BOTH: [&str; 2] = ["http/1.1", "h2"];

/// How a client reaches the origin.
#[derive(Clone, Copy, Debug)]
enum Way {
    Connect,
    Socks5,
}

/// An origin that `allowed.test` and `blocked.test` lead to, a daemon, and a session with a credential for
/// `allowed.test`.
struct Scene {
    session: Session,
    origin: Origin,
    daemon: Daemon,
    proxy_ca: String,
    ca: TestCa,
}

/// `OPENAI_API_KEY` belongs to `allowed.test` at this port. `blocked.test` is allowed too.
pub(crate) fn config(port: u16) -> Config {
    Config::example()
        .allow("blocked.test")
        .set("network", "credential_broker", "true")
        .append(&format!(
            r#"
[network.credentials.openai]
env = "{VARIABLE}"
url_prefixes = ["https://allowed.test:{port}"]
"#
        ))
}

/// A session with the credential.
fn session_of(daemon: &Daemon, real: &str) -> Session {
    let value = CredentialValue::new(real.to_owned());
    let credentials = GivenCredentials {
        values: vec![(VARIABLE.to_owned(), value)],
        ..GivenCredentials::default()
    };
    Session::open_with(
        daemon,
        SessionRequest {
            credentials,
            ..SessionRequest::default()
        },
    )
}

/// The dummy of a session.
fn dummy(session: &Session) -> &str {
    let [only] = session.opened.dummies.as_slice() else {
        panic!("{:?}", session.opened);
    };
    assert_eq!(only.name, VARIABLE);
    assert!(only.dummy.starts_with("sk-proj-masked"), "{only:?}");
    assert_ne!(only.dummy, REAL);
    &only.dummy
}

impl Scene {
    /// The origin answers with its request.
    fn echoing() -> Self {
        Self::new(|_| Answer::Echo)
    }

    fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Origin::answering(script), config)
    }

    /// The configuration gets the port of the origin.
    fn with(origin: Builder, config: impl FnOnce(u16) -> Config) -> Self {
        let ca = TestCa::new();
        let server = Server::of(&ca, &["allowed.test", "blocked.test"]).alpn(&["h2", "http/1.1"]);
        let origin = origin.tls_as(&server).start();
        let daemon = Daemon::start_trusting(&config(origin.addr().port()), &ca);
        let proxy_ca = exported_ca(&daemon);
        let session = session_of(&daemon, REAL);
        Self {
            session,
            origin,
            daemon,
            proxy_ca,
            ca,
        }
    }

    fn dummy(&self) -> &str {
        dummy(&self.session)
    }

    fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.origin.addr().port())
    }

    /// A tunnel through the doors of a session.
    fn tunnel(&self, session: &Session, way: Way, host: &str) -> Connection {
        match way {
            Way::Connect => {
                let mut client = Connection::open(session.doors[0]);
                assert_eq!(client.connect(&self.authority(host)).status, 200);
                client
            }
            Way::Socks5 => {
                let mut client = Connection::open(session.doors[1]);
                let target = Socks5Target::name(host, self.origin.addr().port());
                assert_eq!(client.socks5_connect(&target).reply, 0);
                client
            }
        }
    }

    /// A connection of HTTP/1.1 inside TLS that the proxy intercepts.
    fn secured(&self, host: &str) -> Connection {
        let tunnel = self.tunnel(&self.session, Way::Connect, host);
        let client = Client::trusting_pem(&self.proxy_ca).alpn(&["http/1.1"]);
        tunnel.secure(&client, host).0
    }

    /// One of HTTP/2.
    fn http2(&self, host: &str) -> Http2 {
        let tunnel = self.tunnel(&self.session, Way::Connect, host);
        tunnel.into_http2(&Client::trusting_pem(&self.proxy_ca).alpn(&["h2"]), host)
    }

    /// Fails if the origin has got the real value.
    #[track_caller]
    fn assert_the_origin_has_no_real_value(&self) {
        for request in self.origin.requests() {
            Leak::of(REAL).assert_not_in("a request", format!("{request:?} {}", request.text()));
        }
    }

    /// Sends a request inside TLS that the proxy intercepts.
    fn ask_over(
        &self,
        session: &Session,
        (way, protocol): (Way, &str),
        (method, host, path): (&str, &str, &str),
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let tunnel = self.tunnel(session, way, host);
        let client = Client::trusting_pem(&self.proxy_ca).alpn(&[protocol]);
        if protocol == "h2" {
            let url = format!("https://{}{path}", self.authority(host));
            let client = tunnel.into_http2(&client, host);
            return client.request(method, &url, fields, body);
        }
        let (mut client, _) = tunnel.secure(&client, host);
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.authority(host)
        );
        for (name, value) in fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() {
            text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        text += "\r\n";
        client.send([text.as_bytes(), body].concat());
        client.read_final_response()
    }

    /// `GET` through CONNECT in HTTP/1.1.
    fn get(&self, host: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let way = (Way::Connect, "http/1.1");
        self.ask_over(&self.session, way, ("GET", host, path), fields, b"")
    }

    /// The last field of this name that the origin got.
    fn received(&self, name: &str) -> Option<String> {
        let requests = self.origin.requests();
        let last = requests.last().expect("a request");
        last.header(name).map(str::to_owned)
    }
}

/// Whether bytes contain a text.
pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
