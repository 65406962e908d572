//! Full mode: only hosts with hooks are decrypted, and hooks decide about their requests (SPEC M1, M9,
//! M10, B4).

use std::path::Path;

use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::Config;
use e2e::origin::Answer;
use e2e::setup::TlsSetup;
use e2e::tls::Client;
use serde_json::{Value, json};

use super::BOTH;

pub(crate) const SECRET: &str = "hunter2-of-the-proxy";

/// `hooked.test` is allowed like `allowed.test`, and neither has a hook.
pub(super) fn unhooked() -> Config {
    Config::example()
        .allow("hooked.test")
        .host("hooked.test", std::net::Ipv4Addr::LOCALHOST)
}

/// `hooked.test` has a hook with a secret from this file; `allowed.test` has none.
pub(crate) fn hooked(secret: &Path) -> Config {
    let secret = json!(secret);
    unhooked().append(&format!(
        r#"
[network.mitm.hooks.api]
host = "hooked.test"
methods = ["GET", "POST"]
path_prefixes = ["/api/"]
action = ["token"]
[network.mitm.hooks.socket]
host = "hooked.test"
methods = ["GET"]
path_prefixes = ["/socket"]
action = ["clean"]
[network.mitm.actions.clean]
strip_request_headers = ["cookie"]
[network.mitm.actions.token]
strip_request_headers = ["x-api-key"]
[[network.mitm.actions.token.inject_request_headers]]
name = "authorization"
prefix = "Bearer "
secret_file = {secret}
"#
    ))
}

/// A directory with a secret in a file.
pub(crate) fn secret() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).expect("a file");
    (directory, file)
}

fn hooked_setup(protocols: &[&str]) -> (tempfile::TempDir, TlsSetup) {
    let (directory, file) = secret();
    let setup = TlsSetup::echoing(&hooked(&file), protocols);
    (directory, setup)
}

#[test]
fn m1_in_full_mode_the_client_sees_the_origins_own_certificate_and_resumes_with_it() {
    let setup = TlsSetup::echoing(&Config::example(), &BOTH);
    let direct = Client::trusting(&setup.ca).alpn(&["http/1.1"]);
    let (_, wanted) = Connection::open(setup.origin.addr()).secure(&direct.clone(), "allowed.test");
    for _ in 0..2 {
        let (mut client, session) = setup.tunnel("allowed.test").secure(&direct, "allowed.test");
        assert_eq!(session.certificates, wanted.certificates);
        let answer = client.exchange(&setup.message("POST", "allowed.test", "/", &[]));
        assert_eq!(answer.status, 200);
    }
    let (_, last) = setup.tunnel("allowed.test").secure(&direct, "allowed.test");
    assert!(last.resumed);
}

#[test]
fn m1_only_the_hooked_host_is_intercepted() {
    let (_directory, setup) = hooked_setup(&["http/1.1"]);
    let theirs = Client::trusting(&setup.ca);
    let (mut client, _) = setup.tunnel("allowed.test").secure(&theirs, "allowed.test");
    let answer = client.exchange(&setup.message("DELETE", "allowed.test", "/any", &[]));
    assert_eq!(answer.status, 200);
    assert!(
        setup
            .tunnel("hooked.test")
            .try_secure(&theirs, "hooked.test")
            .is_err()
    );
    let answer = setup.ask("http/1.1", "GET", "hooked.test", "/api/x", &[]);
    assert_eq!(answer.status, 200);
}

#[test]
fn m9_a_hook_strips_and_injects_fields_in_any_case() {
    for protocol in BOTH {
        let (_directory, setup) = hooked_setup(&[protocol]);
        for name in ["x-api-key", "x_api_key", "x-api_key"] {
            let fields = [
                (name, "of-the-client"),
                ("authorization", "of-the-client"),
                ("Authorization", "of-the-client"),
                ("x-kept", "1"),
            ];
            let fields: Vec<_> = fields
                .into_iter()
                .filter(|(name, _)| protocol != "h2" || *name != "Authorization")
                .collect();
            let answer = setup.ask(protocol, "POST", "hooked.test", "/api/x?y", &fields);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let seen = setup.origin.requests().pop().expect("a request");
            let injected = format!("Bearer {SECRET}");
            assert_eq!(seen.headers.all("authorization"), [&injected]);
            assert_eq!(seen.header("x-kept"), Some("1"));
            assert!(!answer.text().contains("of-the-client"), "{name}");
        }
    }
}

#[test]
fn m9_a_hook_strips_fields_from_trailers_too() {
    let (_directory, setup) = hooked_setup(&["http/1.1"]);
    let mut client = setup.http1("hooked.test");
    let fields = [
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "X-Api-Key, Authorization, X-Kept"),
    ];
    client.send(setup.message("POST", "hooked.test", "/api/x", &fields));
    client.send("1\r\na\r\n0\r\nX-Api-Key: mine\r\nAuthorization: mine\r\nX-Kept: 1\r\n\r\n");
    assert_eq!(client.read_final_response().status, 200);
    let seen = setup.origin.requests().pop().expect("a request");
    assert_eq!(seen.text(), "a");
    let trailers: Vec<_> = seen.trailers.iter().collect();
    assert_eq!(
        trailers.len(),
        1,
        "only what is not the hook's: {trailers:?}"
    );
    assert_eq!(seen.trailers.get("x-kept"), Some("1"));
}

#[test]
fn m10_requests_without_a_matching_hook_are_refused_in_full_mode_too() {
    for protocol in BOTH {
        let (_directory, setup) = hooked_setup(&[protocol]);
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/ap"),
            ("DELETE", "/api/x"),
            ("get", "/api/x"),
            ("GET", "/api/../other"),
            ("GET", "/api/%2e%2e/other"),
            ("GET", "/api/.%2E/other"),
            ("GET", "/api/./x"),
            ("GET", "/api/a%2fb"),
            ("GET", "/api/a%5Cb"),
            ("GET", "/api/a%25b"),
            ("GET", "/api/a%00b"),
            ("GET", "/api/a%ffb"),
            ("GET", "//api/x"),
            ("GET", "/API/x"),
            ("OPTIONS", "*"),
        ] {
            if protocol == "h2" && path == "*" {
                continue;
            }
            let answer = setup.ask(protocol, method, "hooked.test", path, &[]);
            assert_eq!(answer.status, 403, "{protocol} {method} {path}");
            assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-mitm-hook"));
            assert!(answer.text().contains("\"reason\":\"mitm_hook_denied\""));
        }
        assert_eq!(setup.origin.requests().len(), 0);
        let entry = setup.blocked("mitm_hook_denied");
        assert_eq!(entry["protocol"], "https");
        assert_eq!(entry["mode"], "full");
    }
}

#[test]
fn m10_a_hooked_host_is_reachable_only_by_intercepted_tls() {
    let (_directory, setup) = hooked_setup(&["http/1.1"]);
    let mut client = Connection::open(setup.daemon.http_addr());
    let authority = setup.authority("hooked.test");
    let answer = client.exchange(&proxy_request("GET", &authority, "/api/x", &[]));
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (403, &json!("mitm_required"))
    );
    let mut client = Connection::open(setup.daemon.socks_addr());
    let target = Socks5Target::name("hooked.test", setup.origin.addr().port());
    assert_eq!(client.socks5_connect(&target).reply, 2);
    let reasons: Vec<_> = setup
        .daemon
        .blocked()
        .iter()
        .map(|entry| json!([entry["protocol"], entry["reason"]]))
        .collect();
    let wanted = [["http", "mitm_required"], ["socks5", "mitm_required"]];
    assert_eq!(reasons, wanted.map(|entry| json!(entry)));
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn m10_a_hook_does_not_lift_limited_mode() {
    let (_directory, file) = secret();
    let config = hooked(&file).set("network", "mode", r#""limited""#);
    let setup = TlsSetup::echoing(&config, &["http/1.1"]);
    let answer = setup.ask("http/1.1", "POST", "hooked.test", "/api/x", &[]);
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("method_not_allowed"));
    let answer = setup.ask("http/1.1", "GET", "hooked.test", "/api/x", &[]);
    assert_eq!(answer.status, 200);
}

#[test]
fn m9_b4_only_the_origin_sees_the_secret() {
    for protocol in BOTH {
        let (_directory, file) = secret();
        let config = hooked(&file).set("daemon", "log", r#""trace""#);
        let setup = TlsSetup::new(&config, &[protocol], |request| {
            match request.target.as_str() {
                "/api/reset" => Answer::Reset,
                "/api/close" => Answer::Close,
                _ => Answer::text("ok"),
            }
        });
        for (method, path, status) in [
            ("GET", "/api/x", 200),
            ("GET", "/api/x", 200),
            ("GET", "/api/reset", 502),
            ("POST", "/api/close", 502),
            ("GET", "/no", 403),
        ] {
            let answer = setup.ask(protocol, method, "hooked.test", path, &[]);
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
            assert!(!answer.text().contains("hunter2"), "{}", answer.text());
            let heads: Vec<_> = answer.headers.iter().collect();
            assert!(!format!("{heads:?}").contains("hunter2"));
        }
        let sent = setup.origin.requests();
        assert!(
            sent.iter()
                .all(|request| request.header("authorization").is_some())
        );
        for target in ["/config", "/blocked", "/patterns"] {
            let reported = setup.daemon.admin("GET", target, None).text();
            assert!(!reported.contains("hunter2"), "{target}: {reported}");
        }
        // The line about the reload follows all earlier lines.
        assert_eq!(setup.daemon.reload().status, 200);
        setup.daemon.wait_for_message("reloaded");
        for line in setup.daemon.logs() {
            assert!(!line.raw.contains("hunter2"), "{}", line.raw);
            // "hunt" as a list of numbers.
            assert!(!line.raw.contains("104, 117, 110, 116"), "{}", line.raw);
        }
    }
}

#[test]
fn m9_a_reload_reads_secrets_again_and_fails_if_one_is_missing() {
    let (_directory, file) = secret();
    let setup = TlsSetup::echoing(&hooked(&file), &["http/1.1"]);
    let injected = |setup: &TlsSetup| -> String {
        let answer = setup.ask("http/1.1", "GET", "hooked.test", "/api/x", &[]);
        assert_eq!(answer.status, 200);
        let headers = answer.json()["headers"].clone();
        let is_it = |field: &&Value| {
            field[0]
                .as_str()
                .is_some_and(|name| name.eq_ignore_ascii_case("authorization"))
        };
        let field = headers.as_array().expect("fields").iter().find(is_it);
        field.expect("it is injected")[1]
            .as_str()
            .expect("text")
            .to_owned()
    };
    let mut kept = setup.http1("hooked.test");
    let request = setup.message("GET", "hooked.test", "/api/x", &[]);
    assert!(kept.exchange(&request).text().contains(SECRET));
    std::fs::write(&file, "another\n").expect("a file");
    assert_eq!(injected(&setup), format!("Bearer {SECRET}"));
    assert_eq!(setup.daemon.reload().status, 200);
    assert_eq!(injected(&setup), "Bearer another");
    let answer = kept.exchange(&request).text();
    assert!(answer.contains("another"), "a kept session hears of it");
    std::fs::remove_file(&file).expect("the file");
    let failed = setup.daemon.reload();
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("another"));
    assert_eq!(injected(&setup), "Bearer another");
}
