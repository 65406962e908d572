//! Go's `net/http`, as most programs in Go use it: the proxy of the environment, HTTP/2 if both sides
//! support it, and content that waits for `100 Continue`.

use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::program::{Run, installed};

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, attempt_through, intercepted_tests, setup_for};

struct Go;

impl Client for Go {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(fetch(attempt, &["GET"]))
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            // The body of H5.
            (Scheme::Http, ProxyProtocol::Http) => &[r#""reason":"not_allowed""#],
            (Scheme::Https, ProxyProtocol::Http) => &["Forbidden"],
            (_, ProxyProtocol::Socks5) => &["connection not allowed by ruleset"],
        }
    }
}

impl Intercepted for Go {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        fetch(attempt, &["POST"])
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["method_not_allowed"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["certificate signed by unknown authority"]
    }

    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/2.0"]
    }
}

fn fetch(attempt: &Attempt<'_>, method_and_content: &[&str]) -> Run {
    // Go calls `socks5` what others call `socks5h`.
    let proxy = attempt.proxy_or_empty().replace("socks5h://", "socks5://");
    attempt
        .program(installed("go/fetch"))
        .arg(format!("{}/some/path", attempt.base))
        .args(method_and_content)
        .env("HTTP_PROXY", &proxy)
        .env("HTTPS_PROXY", &proxy)
        .run()
}

client_tests!(Go; http, https, socks5);
intercepted_tests!(Go);

/// `net/http` waits here for `100 Continue` without limit, and the origin sends it when it reads
/// (SPEC M6).
#[test]
fn m6_content_waits_for_100_continue_inside_tls() {
    let config = Config::example().hook("write", "allowed.test", &["POST"], "/");
    let origin = Origin::answering(|request| Answer::text(&request.text()));
    let setup = setup_for(origin, &config);
    let run = attempt_through(&setup, |attempt| fetch(attempt, &["POST", CONTENT]));
    run.succeeded();
    assert_eq!(run.stdout, CONTENT);
    let requests = setup.origin.requests();
    assert_eq!(requests[0].version, "HTTP/2.0");
    assert_eq!(requests[0].headers.get("expect"), Some("100-continue"));
}
