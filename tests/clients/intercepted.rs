//! The scene in which a client's TLS is intercepted: an origin of the test's own, the proxy in
//! limited mode, and a client in the environment that the proxy's own children get (issue 4, "Real
//! components"; SPEC M1, M5, M6, P7, B2).
//!
//! Each client reads, which works; writes, which is refused with a text that its user sees; and
//! reads without trusting the proxy's CA, which fails with the client's own message.

use std::fs;
use std::path::PathBuf;

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Builder, Origin};
use e2e::program::{Program, Run};
use e2e::tls::{Server, TestCa};

use crate::scene::{Attempt, CONTENT, Client, Scheme};

/// A client whose TLS is intercepted.
pub(crate) trait Intercepted: Client {
    /// Tries to change something at the origin. The origin only serves reads, so the client gets an
    /// answer only if the proxy refuses.
    fn write(&self, attempt: &Attempt<'_>) -> Run;

    /// The client's message to its user in that case: one of these.
    fn write_refusals(&self) -> &'static [&'static str];

    /// The client's message for a certificate that it does not trust: one of these.
    fn distrusts(&self) -> &'static [&'static str];

    /// The version that it speaks with an origin that prefers HTTP/2: one of these.
    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/1.1"]
    }
}

/// An origin over TLS and the proxy before it.
pub(crate) struct Scene {
    /// Issued the origin's certificate; the proxy trusts it.
    pub(crate) ca: TestCa,
    pub(crate) origin: Origin,
    pub(crate) daemon: Daemon,
}

impl Scene {
    /// An origin that speaks HTTP/2 and HTTP/1.1.
    pub(crate) fn new(origin: Builder, config: &Config) -> Self {
        let ca = TestCa::new();
        let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
        let origin = origin.tls_as(&server).start();
        let daemon = start(config, &ca);
        Self { ca, origin, daemon }
    }

    /// A proxy in limited mode.
    pub(crate) fn limited(origin: Builder) -> Self {
        Self::new(origin, &limited())
    }

    /// The origin as a URL.
    pub(crate) fn base(&self) -> String {
        self.origin.url("allowed.test", "")
    }

    /// Runs a client that trusts the proxy's bundle.
    pub(crate) fn attempt<R>(&self, run: impl FnOnce(&Attempt<'_>) -> R) -> R {
        run(&Attempt {
            base: self.base(),
            proxy: Some(proxy(&self.daemon)),
            ca: &bundle(&self.daemon),
        })
    }

    /// Checks that the origin was asked for something, in one of these versions, and for nothing
    /// that writes.
    pub(crate) fn was_read(&self, versions: &[&str]) {
        let requests = self.origin.requests();
        assert!(!requests.is_empty());
        for request in &requests {
            assert!(versions.contains(&&*request.version), "{request:?}");
            assert!(matches!(&*request.method, "GET" | "HEAD"), "{request:?}");
        }
    }
}

/// `Config::example` in limited mode.
pub(crate) fn limited() -> Config {
    Config::example().set("network", "mode", r#""limited""#)
}

/// A proxy that trusts the authority of the test, and no other.
pub(crate) fn start(config: &Config, ca: &TestCa) -> Daemon {
    Daemon::launch(e2e::binary!())
        .config(config)
        .trusting(ca)
        .start()
}

/// The HTTP door as a URL.
pub(crate) fn proxy(daemon: &Daemon) -> String {
    format!("http://{}", daemon.http_addr())
}

/// The bundle of M5, which the proxy's children trust. It is in the state directory when something can
/// be intercepted; else `proxyctl` writes it.
pub(crate) fn bundle(daemon: &Daemon) -> PathBuf {
    let files = fs::read_dir(daemon.directory().join("state"));
    let mut paths = files
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").path());
    let published = paths.find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("ca-bundle-")
    });
    published.unwrap_or_else(|| {
        let file = daemon.directory().join("bundle.pem");
        if !file.exists() {
            Program::new(env!("CARGO_BIN_EXE_proxyctl-under-test"))
                .arg("--socket")
                .arg(daemon.directory().join("control.sock"))
                .args(["ca", "export", "--bundle", "--out"])
                .arg(&file)
                .run()
                .succeeded();
        }
        file
    })
}

/// The client reads from an intercepted origin (M1, M5, M6, B2).
pub(crate) fn reads(client: &impl Intercepted) {
    let scene = Scene::limited(client.origin(Scheme::Https));
    let outcome = scene.attempt(|attempt| client.attempt(attempt));
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
    scene.was_read(client.versions());
    // A record of a request inside TLS proves that TLS was intercepted.
    scene.daemon.wait_for_log(|line| {
        let is = |field, value| line.field(field).is_some_and(|found| found == value);
        is("network.transport.protocol", "https")
            && is("http.request.method", "GET")
            && is("network.policy.decision", "allow")
    });
    let blocked = scene.daemon.blocked();
    assert!(blocked.is_empty(), "{blocked:?}");
}

/// The client may not write and says so. The origin never gets the request (P7, H5, M7).
pub(crate) fn does_not_write(client: &impl Intercepted) {
    let scene = Scene::limited(client.origin(Scheme::Https));
    let run = scene.attempt(|attempt| client.write(attempt));
    run.failed().says_one_of(client.write_refusals());
    let entry = scene.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
    assert_eq!(entry["protocol"], "https", "{entry}");
    assert_eq!(entry["host"], "allowed.test", "{entry}");
    for request in scene.origin.requests() {
        assert_eq!(request.method, "GET", "{request:?}");
    }
}

/// A client that trusts the origin's authority but not the proxy's fails with its own message, and
/// the log says once what to do.
pub(crate) fn needs_the_ca(client: &impl Intercepted) {
    let scene = Scene::limited(client.origin(Scheme::Https));
    let outcome = client.attempt(&Attempt {
        base: scene.base(),
        proxy: Some(proxy(&scene.daemon)),
        ca: scene.ca.file(),
    });
    outcome.run.failed().says_one_of(client.distrusts());
    assert_eq!(outcome.fetched, None);
    assert!(scene.origin.requests().is_empty());
    distrust_is_logged_once(&scene.daemon);
}

/// The log has one line about a client that does not trust the proxy's CA.
pub(crate) fn distrust_is_logged_once(daemon: &Daemon) {
    let is_distrust = |line: &e2e::daemon::LogLine| {
        line.level() == Some("WARN") && line.message_contains("does not trust the proxy's CA")
    };
    daemon.wait_for_log(is_distrust);
    let logs = daemon.logs();
    let said: Vec<_> = logs.iter().filter(|line| is_distrust(line)).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
}

/// The tests of a client whose TLS is intercepted.
macro_rules! intercepted_tests {
    ($client:expr) => {
        /// M1, M5, M6, B2.
        #[test]
        fn reading_through_intercepted_tls_works_in_limited_mode() {
            crate::intercepted::reads(&$client);
        }

        /// P7, H5, M7.
        #[test]
        fn writing_through_intercepted_tls_is_refused_in_limited_mode() {
            crate::intercepted::does_not_write(&$client);
        }

        /// M5.
        #[test]
        fn intercepted_tls_fails_in_the_clients_words_where_the_ca_is_not_trusted() {
            crate::intercepted::needs_the_ca(&$client);
        }
    };
}

pub(crate) use intercepted_tests;
