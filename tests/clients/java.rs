//! Java's `HttpClient`, which trusts the content of a `keytool` store, and uses no variable.

use std::fs;
use std::path::Path;

use e2e::program::{Program, Run};
use tempfile::TempDir;

use crate::client::{Attempt, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, intercepted_tests};

/// More than it may send before there is room for it. It reads no answer before that.
const LARGE: usize = 5_000_000;
const PASSWORD: &str = "changeit";

struct HttpClient;

impl Client for HttpClient {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(fetch(attempt, "GET", 0))
    }

    fn refusals(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            // The body of a refusal (SPEC H5).
            Scheme::Http => &[r#""reason":"not_allowed""#],
            Scheme::Https => &["Tunnel failed, got: 403"],
        }
    }
}

impl Intercepted for HttpClient {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        fetch(attempt, "POST", LARGE)
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        // The body of a refusal (SPEC H5).
        &[r#"CODEX_NETWORK_POLICY_DECISION {"decision":"deny","reason":"method_not_allowed""#]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["PKIX path building failed"]
    }

    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/2.0"]
    }
}

fn fetch(attempt: &Attempt<'_>, method: &str, bytes: usize) -> Run {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java/Fetch.java");
    let directory = TempDir::new().expect("a temporary directory");
    let store = directory.path().join("trust.p12");
    keytool(attempt.ca, &store);
    let mut program = attempt
        .program("java")
        // These options make Java start faster, which is most of the time of this test.
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(property(
            "javax.net.ssl.trustStore",
            &store.to_string_lossy(),
        ))
        .arg(property("javax.net.ssl.trustStorePassword", PASSWORD));
    if let Some((host, port)) = attempt.proxy_or_empty().rsplit_once(':') {
        let host = host.trim_start_matches("http://");
        for scheme in ["http", "https"] {
            program = program
                .arg(property(&format!("{scheme}.proxyHost"), host))
                .arg(property(&format!("{scheme}.proxyPort"), port));
        }
        // By default Java connects to localhost directly.
        program = program.arg(property("http.nonProxyHosts", ""));
    }
    program
        .arg(script)
        .arg(format!("{}/some/path", attempt.base))
        .args([method, &bytes.to_string()])
        .run()
}

fn property(name: &str, value: &str) -> String {
    format!("-D{name}={value}")
}

/// Makes a store of the last certificate of a file, which in the proxy's bundle is that of its CA.
/// keytool reads only one.
fn keytool(certificates: &Path, store: &Path) {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let pem = fs::read_to_string(certificates).expect("certificates");
    let last = &pem[pem.rfind(BEGIN).expect("a certificate")..];
    Program::new("keytool")
        .args(["-importcert", "-noprompt", "-alias", "codex-network-proxy"])
        .args(["-storetype", "PKCS12", "-storepass", PASSWORD])
        .arg("-keystore")
        .arg(store)
        .stdin(last.as_bytes())
        .run()
        .succeeded();
}

client_tests!(HttpClient; http, https);
intercepted_tests!(HttpClient);
