//! curl.

use e2e::origin::{Answer, Builder, Origin};
use e2e::program::Program;

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme, client_tests};

struct Curl;

impl Client for Curl {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let run = Program::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body"])
            .args(["--proxy", attempt.proxy_or_empty(), "--cacert"])
            .arg(attempt.ca)
            .arg(format!("{}/some/path", attempt.base))
            .run();
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, door: Door) -> &'static [&'static str] {
        match (scheme, door) {
            // The body of H5.
            (Scheme::Http, Door::Http) => &[r#""reason":"not_allowed""#],
            (Scheme::Https, Door::Http) => &[
                "CONNECT tunnel failed, response 403",
                "HTTP code 403 from proxy after CONNECT",
            ],
            // 2 is "not allowed by ruleset": RFC 1928 section 6.
            (_, Door::Socks5) => &["Can't complete SOCKS5 connection to blocked.test. (2)"],
        }
    }
}

client_tests!(Curl; http, https, socks5);
