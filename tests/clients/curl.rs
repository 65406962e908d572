//! curl.

use e2e::daemon::Config;
use e2e::program::Run;

use crate::client::{Attempt, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{
    Intercepted, attempt_through, base, bundle, intercepted_tests, limited_setup, proxy, setup_for,
};

/// curl, and the newest version of HTTP that it speaks.
#[derive(Clone, Copy)]
enum Curl {
    Http1,
    Http2,
}

impl Client for Curl {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(self.run(attempt, &[]))
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            // The body of H5.
            (Scheme::Http, ProxyProtocol::Http) => &[r#""reason":"not_allowed""#],
            (Scheme::Https, ProxyProtocol::Http) => &[
                "CONNECT tunnel failed, response 403",
                "HTTP code 403 from proxy after CONNECT",
            ],
            // 2 is "not allowed by ruleset": RFC 1928 section 6.
            (_, ProxyProtocol::Socks5) => {
                &["Can't complete SOCKS5 connection to blocked.test. (2)"]
            }
        }
    }
}

impl Intercepted for Curl {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        self.run(attempt, &["--data", "something"])
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        // The body of H5.
        &[r#"CODEX_NETWORK_POLICY_DECISION {"decision":"deny","reason":"method_not_allowed""#]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["SSL certificate problem: self-signed certificate in certificate chain"]
    }

    fn versions(&self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["HTTP/1.1"],
            Self::Http2 => &["HTTP/2.0"],
        }
    }
}

impl Curl {
    fn run(self, attempt: &Attempt<'_>, arguments: &[&str]) -> Run {
        attempt
            .program("curl")
            .args(["--silent", "--show-error", "--fail-with-body"])
            .arg(match self {
                Self::Http1 => "--http1.1",
                Self::Http2 => "--http2",
            })
            .args(["--proxy", attempt.proxy_or_empty()])
            .args(arguments)
            .arg(format!("{}/some/path", attempt.base))
            .run()
    }
}

client_tests!(Curl::Http1; http, https, socks5);
intercepted_tests!(Curl::Http1);

mod http2 {
    crate::intercepted::intercepted_tests!(super::Curl::Http2);
}

#[test]
fn m1_full_mode_decrypts_nothing_for_a_host_without_hooks() {
    let setup = setup_for(Curl::Http2.origin(Scheme::Https), &Config::example());
    for ca in [setup.ca.file(), &bundle(&setup.daemon)] {
        let attempt = Attempt {
            base: base(&setup),
            proxy: Some(proxy(&setup.daemon)),
            ca,
        };
        let run = Curl::Http2.run(&attempt, &["--verbose", "--data", "something"]);
        run.succeeded().says("issuer: CN=authority of one test");
    }
    // The same check in limited mode finds another issuer.
    let setup = limited_setup(Curl::Http2.origin(Scheme::Https));
    attempt_through(&setup, |attempt| Curl::Http2.run(attempt, &["--verbose"]))
        .succeeded()
        .says("issuer: CN=codex-network-proxy CA");
}
