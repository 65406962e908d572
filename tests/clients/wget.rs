//! wget, which speaks no SOCKS.

use e2e::origin::{Answer, Builder, Origin};

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme, client_tests};

struct Wget;

impl Client for Wget {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let run = attempt
            .program("wget")
            .args(["--tries=1", "--timeout=30", "--output-document=-"])
            // It heeds no variable.
            .arg("--ca-certificate")
            .arg(attempt.ca)
            .arg(format!("{}/some/path", attempt.base))
            .env("http_proxy", attempt.proxy_or_empty())
            .env("https_proxy", attempt.proxy_or_empty())
            .run();
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, _door: Door) -> &'static [&'static str] {
        match scheme {
            Scheme::Http => &["ERROR 403: Forbidden."],
            Scheme::Https => &["Proxy tunneling failed: Forbidden"],
        }
    }
}

client_tests!(Wget; http, https);
