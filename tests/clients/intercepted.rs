//! The tests of clients whose TLS is intercepted: an origin of the test's own, the proxy in limited
//! mode, and a client in the environment that the proxy's own children get (issue 4, "Real
//! components"; SPEC M1, M5, M6, P7, B2).
//!
//! Each client reads, which works; writes, which is refused with a text that its user sees; and
//! reads without trusting the proxy's CA, which fails with the client's own message.

use std::fs;
use std::path::PathBuf;

use e2e::daemon::{Config, Daemon};
use e2e::origin::Builder;
use e2e::program::Run;
use e2e::proxyctl::proxyctl;
use e2e::setup::TlsSetup;

use crate::client::{Attempt, CONTENT, Client, Scheme};

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

/// A proxy, and an origin behind it that speaks HTTP/2 and HTTP/1.1.
pub(crate) fn setup_for(origin: Builder, config: &Config) -> TlsSetup {
    TlsSetup::with(config, &["h2", "http/1.1"], origin)
}

/// The same with a proxy in limited mode.
pub(crate) fn limited_setup(origin: Builder) -> TlsSetup {
    setup_for(origin, &Config::limited())
}

/// The origin as a URL.
pub(crate) fn base(setup: &TlsSetup) -> String {
    setup.origin.url("allowed.test", "")
}

/// Runs a client that trusts the proxy's bundle.
pub(crate) fn attempt_through<R>(setup: &TlsSetup, run: impl FnOnce(&Attempt<'_>) -> R) -> R {
    run(&Attempt {
        base: base(setup),
        proxy: Some(proxy(&setup.daemon)),
        ca: &bundle(&setup.daemon),
    })
}

/// Fails unless the origin has received requests, all in these versions and all of them reads.
#[track_caller]
pub(crate) fn assert_only_read(setup: &TlsSetup, versions: &[&str]) {
    let requests = setup.origin.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        assert!(versions.contains(&&*request.version), "{request:?}");
        assert!(matches!(&*request.method, "GET" | "HEAD"), "{request:?}");
    }
}

/// The HTTP listener as a URL.
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
            let out = file.to_string_lossy();
            proxyctl(daemon, &["ca", "export", "--bundle", "--out", &out]).succeeded();
        }
        file
    })
}

/// The client reads from an intercepted origin (M1, M5, M6, B2).
pub(crate) fn reads(client: &impl Intercepted) {
    let setup = limited_setup(client.origin(Scheme::Https));
    let outcome = attempt_through(&setup, |attempt| client.attempt(attempt));
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
    assert_only_read(&setup, client.versions());
    // A record of a request inside TLS proves that TLS was intercepted.
    setup.daemon.wait_for_log(|line| {
        let is = |field, value| line.field(field).is_some_and(|found| found == value);
        is("network.transport.protocol", "https")
            && is("http.request.method", "GET")
            && is("network.policy.decision", "allow")
    });
    let blocked = setup.daemon.blocked();
    assert!(blocked.is_empty(), "{blocked:?}");
}

/// The client may not write, and reports it. The origin never gets the request (P7, H5, M7).
pub(crate) fn does_not_write(client: &impl Intercepted) {
    let setup = limited_setup(client.origin(Scheme::Https));
    let run = attempt_through(&setup, |attempt| client.write(attempt));
    run.failed().says_one_of(client.write_refusals());
    let entry = setup.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
    assert_eq!(entry["protocol"], "https", "{entry}");
    assert_eq!(entry["host"], "allowed.test", "{entry}");
    for request in setup.origin.requests() {
        assert_eq!(request.method, "GET", "{request:?}");
    }
}

/// A client that trusts the origin's authority but not the proxy's fails with its own message, and
/// the log says once what to do.
pub(crate) fn needs_the_ca(client: &impl Intercepted) {
    let setup = limited_setup(client.origin(Scheme::Https));
    let outcome = client.attempt(&Attempt {
        base: base(&setup),
        proxy: Some(proxy(&setup.daemon)),
        ca: setup.ca.file(),
    });
    outcome.run.failed().says_one_of(client.distrusts());
    assert_eq!(outcome.fetched, None);
    assert!(setup.origin.requests().is_empty());
    distrust_is_logged_once(&setup.daemon);
}

/// The log has one line about a client that does not trust the proxy's CA.
pub(crate) fn distrust_is_logged_once(daemon: &Daemon) {
    let is_distrust = |line: &e2e::daemon::LogLine| {
        line.level() == Some("WARN") && line.message_contains("does not trust the proxy's CA")
    };
    daemon.wait_for_log(is_distrust);
    let logs = daemon.logs();
    let lines: Vec<_> = logs.iter().filter(|line| is_distrust(line)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

/// The tests of a client whose TLS is intercepted.
macro_rules! intercepted_tests {
    ($client:expr) => {
        #[test]
        fn m1_m5_m6_b2_reads_inside_tls_work_in_limited_mode() {
            crate::intercepted::reads(&$client);
        }

        #[test]
        fn p7_h5_m7_writes_inside_tls_are_refused_in_limited_mode() {
            crate::intercepted::does_not_write(&$client);
        }

        #[test]
        fn m5_a_client_without_the_ca_fails_with_its_own_message() {
            crate::intercepted::needs_the_ca(&$client);
        }
    };
}

pub(crate) use intercepted_tests;
