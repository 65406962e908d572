//! Hosts with hooks: requests that servers read in different ways are refused, and fields that
//! would make a server act on another request than the checked one do not reach it (SPEC M10).

use e2e::proxyctl::proxyctl_json;
use e2e::setup::TlsSetup;
use serde_json::Value;

use super::BOTH;
use super::hooks::{hooked, secret};

/// The output of `proxyctl explain` for a URL.
fn explained(setup: &TlsSetup, method: &str, path: &str) -> Value {
    let url = setup.url("hooked.test", path);
    proxyctl_json(&setup.daemon, &["explain", "--method", method, &url])
}

#[test]
fn m10_an_ambiguous_request_is_refused_with_the_reason_everywhere() {
    let (_directory, file) = secret();
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&hooked(&file), &[protocol]);
        for (method, path, why) in [
            ("GET", "/api//x", "empty segment"),
            ("GET", "//api/x", "empty segment"),
            ("GET", "/api/a;b", "the path holds a `;`"),
            ("GET", "/api/a%3Fb", "encoded `/`"),
            ("GET", "/api/a%23b", "encoded `/`"),
            ("GET", "/api/a%3bb", "encoded `/`"),
            ("GET", "/api/..%20/x", "segment of dots"),
            ("POST", "/api/x?_method=DELETE", "another method"),
            ("GET", "/api/x?a;%5Fmethod=DELETE", "another method"),
        ] {
            let answer = setup.ask(protocol, method, "hooked.test", path, &[]);
            assert_eq!(answer.status, 403, "{protocol} {method} {path}");
            assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-mitm-hook"));
            let text = answer.text();
            assert!(text.contains("\"reason\":\"mitm_hook_denied\""), "{text}");
            assert!(text.contains("in different ways"), "{path}: {text}");
            assert!(text.contains(why), "{path}: {text}");
            let explained = explained(&setup, method, path);
            assert_eq!(explained["reason"], "mitm_hook_denied", "{explained}");
            let because = explained["because"].as_str().unwrap_or_default();
            assert!(because.contains(why), "{path}: {explained}");
            let is_told = |entry: &Value| {
                entry["detail"]
                    .as_str()
                    .is_some_and(|detail| detail.contains(why))
            };
            setup.daemon.wait_for_blocked(is_told);
        }
        assert_eq!(setup.origin.requests().len(), 0);
        // Other refusals have another text.
        let answer = setup.ask(protocol, "DELETE", "hooked.test", "/api/x", &[]);
        assert!(
            !answer.text().contains("in different ways"),
            "{}",
            answer.text()
        );
        assert_eq!(explained(&setup, "GET", "/api/x")["decision"], "allow");
    }
}

#[test]
fn m10_override_fields_never_reach_a_hooked_host() {
    const FIELDS: [&str; 22] = [
        "x-http-method-override",
        "x_http_method_override",
        "x.http.method.override",
        "x!http~method'override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x_original_url",
        "x-rewrite-url",
        "x.rewrite.url",
        "x-original-host",
        "x-host",
        "x-http-host-override",
        "x-forwarded-host",
        "x.forwarded.prefix",
        "x-script-name",
        "script_name",
        "forwarded",
        "via",
        "proxy",
        "transfer_encoding",
        "content.length",
    ];
    let (_directory, file) = secret();
    for mode in ["full", "limited"] {
        let config = hooked(&file).set("network", "mode", &format!("{mode:?}"));
        for protocol in BOTH {
            let setup = TlsSetup::echoing(&config, &[protocol]);
            let mut fields = FIELDS.map(|name| (name, "/of-the-client")).to_vec();
            fields.push(("x-kept", "1"));
            let answer = setup.ask(protocol, "GET", "hooked.test", "/api/x", &fields);
            assert_eq!(answer.status, 200, "{mode} {protocol}: {}", answer.text());
            let seen = setup.origin.requests().pop().expect("a request");
            assert_eq!(seen.header("x-kept"), Some("1"));
            for name in FIELDS {
                assert_eq!(seen.header(name), None, "{mode} {protocol}");
            }
        }
    }
}
