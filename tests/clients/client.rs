//! The tests that are the same for every client: it reaches an allowed origin through the proxy, and
//! is refused a blocked one.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Builder, Origin};
use e2e::program::{Program, Run, installed};
use e2e::tls::TestCa;

/// The content that every origin serves, in the form that its client needs.
pub(crate) const CONTENT: &str = "brought home";

/// The variables that make programs trust a file of certificates (B2).
const TRUST: [&str; 17] = [
    "CODEX_CA_CERTIFICATE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "BUNDLE_SSL_CA_CERT",
    "npm_config_cafile",
    "NPM_CONFIG_CAFILE",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
];

/// The protocol to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The protocol between client and proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    Http,
    Socks5,
}

/// The input of a client: the origin, the proxy, and the trusted certificates.
pub(crate) struct Attempt<'a> {
    /// The origin, without a slash at the end.
    pub(crate) base: String,
    /// The proxy's URL; `None` to do without.
    pub(crate) proxy: Option<String>,
    /// The trusted certificates: those of the authority that issued the origin's, or the proxy's
    /// bundle.
    pub(crate) ca: &'a Path,
}

/// The result of an attempt.
pub(crate) struct Outcome {
    /// How the client ended.
    pub(crate) run: Run,
    /// The fetched content.
    pub(crate) fetched: Option<String>,
}

/// A client of the tests.
pub(crate) trait Client {
    /// An origin that serves this client: most ask for [`CONTENT`] itself, by any path.
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    /// Runs the client.
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome;

    /// The client's message to its user when it was refused: one of these.
    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str];

    /// How the blocked request may be recorded (R1): by the protocol to the proxy and by whether
    /// this client makes a tunnel.
    fn protocols(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (_, ProxyProtocol::Socks5) => &["socks5"],
            (Scheme::Http, ProxyProtocol::Http) => &["http"],
            (Scheme::Https, ProxyProtocol::Http) => &["http-connect"],
        }
    }
}

impl Outcome {
    /// The outcome of a client that prints the content that it got.
    pub(crate) fn printed(run: Run) -> Self {
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Self { run, fetched }
    }
}

impl Attempt<'_> {
    /// A program in the environment that makes it trust the right certificates, and nothing else
    /// about trust.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Program {
        trusting(self.ca, Program::new(program))
    }

    /// A [`python`] script in that environment.
    pub(crate) fn python(&self, script: &str) -> Program {
        trusting(self.ca, python(script))
    }

    /// The host and port of the base URL.
    pub(crate) fn authority(&self) -> &str {
        self.base
            .split_once("://")
            .map_or(&self.base, |(_, authority)| authority)
    }

    /// The host of the base URL.
    pub(crate) fn host(&self) -> &str {
        self.authority()
            .split_once(':')
            .map_or(self.authority(), |(host, _)| host)
    }

    /// The proxy's URL, or the empty string.
    pub(crate) fn proxy_or_empty(&self) -> &str {
        self.proxy.as_deref().unwrap_or_default()
    }
}

/// Makes a program trust these certificates, by its environment.
pub(crate) fn trusting(ca: &Path, program: Program) -> Program {
    TRUST
        .iter()
        .fold(program, |program, name| program.env(name, ca))
}

/// A script of `python/`, by its name without the ending.
pub(crate) fn python(script: &str) -> Program {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    Program::new(installed("venv/bin/python"))
        .arg("-B")
        .arg(scripts.join(script).with_extension("py"))
}

/// The client reaches its origin with no proxy between them.
pub(crate) fn directly(client: &impl Client, scheme: Scheme) {
    let ca = TestCa::new();
    let origin = open(client, scheme, &ca);
    let outcome = client.attempt(&Attempt {
        base: origin.url("localhost", ""),
        proxy: None,
        ca: ca.file(),
    });
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
}

/// The client reaches an allowed origin through the proxy (H1, H8, S1).
pub(crate) fn allowed(client: &impl Client, scheme: Scheme, through: ProxyProtocol) {
    let ca = TestCa::new();
    let origin = open(client, scheme, &ca);
    let daemon = Daemon::start(&Config::example());
    let outcome = client.attempt(&Attempt {
        // Only the proxy can resolve this name, so success proves that the proxy was used.
        base: origin.url("allowed.test", ""),
        proxy: Some(through.url(&daemon)),
        ca: ca.file(),
    });
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
    assert!(!origin.requests().is_empty());
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

/// The client is refused a blocked origin by the proxy and tells its user. The origin is never
/// connected to (H5, H8, S2, R1).
pub(crate) fn refused(client: &impl Client, scheme: Scheme, through: ProxyProtocol) {
    let ca = TestCa::new();
    let origin = open(client, scheme, &ca);
    let daemon = Daemon::start(&Config::example());
    let outcome = client.attempt(&Attempt {
        base: origin.url("blocked.test", ""),
        proxy: Some(through.url(&daemon)),
        ca: ca.file(),
    });
    let refusals = client.refusals(scheme, through);
    outcome.run.failed().says_one_of(refusals);
    assert_eq!(outcome.fetched, None);
    assert_eq!(origin.connections(), 0);
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["reason"], "not_allowed", "{entry}");
    assert_eq!(entry["port"], origin.addr().port(), "{entry}");
    let protocol = entry["protocol"].as_str().unwrap_or_default();
    let expected = client.protocols(scheme, through);
    assert!(expected.contains(&protocol), "{expected:?}: {entry}");
}

fn open(client: &impl Client, scheme: Scheme, ca: &TestCa) -> Origin {
    let origin = client.origin(scheme);
    match scheme {
        Scheme::Http => origin.start(),
        Scheme::Https => {
            let names = ["localhost", "allowed.test", "blocked.test"];
            origin.tls(ca, &names).start()
        }
    }
}

impl Scheme {
    /// Its name in a URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl ProxyProtocol {
    fn url(self, daemon: &Daemon) -> String {
        match self {
            Self::Http => format!("http://{}", daemon.http_addr()),
            // socks5h: the proxy resolves, not the client.
            Self::Socks5 => format!("socks5h://{}", daemon.socks_addr()),
        }
    }
}

/// The tests of one client, for each protocol that it supports.
macro_rules! client_tests {
    ($client:expr; $($case:ident),+) => {
        $(crate::client::client_tests!(@$case $client);)+
    };
    (@http $client:expr) => {
        #[test]
        fn h1_http_works_without_the_proxy() {
            crate::client::directly(&$client, crate::client::Scheme::Http);
        }

        #[test]
        fn h1_http_is_served_if_allowed() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::allowed(&$client, Scheme::Http, ProxyProtocol::Http);
        }

        #[test]
        fn h5_r1_http_is_refused_if_blocked() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::refused(&$client, Scheme::Http, ProxyProtocol::Http);
        }
    };
    (@https $client:expr) => {
        #[test]
        fn h8_https_works_without_the_proxy() {
            crate::client::directly(&$client, crate::client::Scheme::Https);
        }

        #[test]
        fn h8_https_is_served_if_allowed() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::allowed(&$client, Scheme::Https, ProxyProtocol::Http);
        }

        #[test]
        fn h5_h8_r1_https_is_refused_if_blocked() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::refused(&$client, Scheme::Https, ProxyProtocol::Http);
        }
    };
    (@socks5 $client:expr) => {
        #[test]
        fn s1_http_by_socks5_is_served_if_allowed() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::allowed(&$client, Scheme::Http, ProxyProtocol::Socks5);
        }

        #[test]
        fn s2_r1_http_by_socks5_is_refused_if_blocked() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::refused(&$client, Scheme::Http, ProxyProtocol::Socks5);
        }

        #[test]
        fn s1_https_by_socks5_is_served_if_allowed() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::allowed(&$client, Scheme::Https, ProxyProtocol::Socks5);
        }

        #[test]
        fn s2_r1_https_by_socks5_is_refused_if_blocked() {
            use crate::client::{ProxyProtocol, Scheme};
            crate::client::refused(&$client, Scheme::Https, ProxyProtocol::Socks5);
        }
    };
}

pub(crate) use client_tests;

/// A gzipped tar of one entry of a directory: the package format of npm and cargo.
pub(crate) fn tar_gz(directory: &Path, entry: &str) -> Vec<u8> {
    let (run, archive) = Program::new("tar")
        .args(["--create", "--gzip", "--file=-", entry])
        .current_dir(directory)
        .run_for_bytes();
    run.succeeded();
    archive
}

/// SHA-256 in hexadecimal, which registries use as names.
pub(crate) fn sha256(content: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, content);
    hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes text");
        hex
    })
}
