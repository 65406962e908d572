//! wget, which does not support SOCKS.

use e2e::program::Run;

use crate::client::{Attempt, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, intercepted_tests};

struct Wget;

impl Client for Wget {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(wget(attempt, &[]))
    }

    fn refusals(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            Scheme::Http => &["ERROR 403: Forbidden."],
            Scheme::Https => &["Proxy tunneling failed: Forbidden"],
        }
    }
}

impl Intercepted for Wget {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        wget(attempt, &["--post-data=something"])
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["ERROR 403: Forbidden."]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["is not trusted", "cannot verify"]
    }
}

fn wget(attempt: &Attempt<'_>, arguments: &[&str]) -> Run {
    attempt
        .program("wget")
        .args(["--tries=1", "--timeout=30", "--output-document=-"])
        // It reads no variable for this.
        .arg("--ca-certificate")
        .arg(attempt.ca)
        .args(arguments)
        .arg(format!("{}/some/path", attempt.base))
        .env("http_proxy", attempt.proxy_or_empty())
        .env("https_proxy", attempt.proxy_or_empty())
        .run()
}

client_tests!(Wget; http, https);
intercepted_tests!(Wget);
