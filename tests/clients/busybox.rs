//! The wget of busybox, which many images have instead of the other one.

use e2e::origin::{Answer, Builder, Origin};

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme, client_tests};

struct Wget;

impl Client for Wget {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let mut program = attempt
            .program("busybox")
            .args(["wget", "-q", "-O", "-"])
            .arg(format!("{}/some/path", attempt.base));
        if let Some(proxy) = &attempt.proxy {
            program = program.env("http_proxy", proxy);
        }
        let run = program.run();
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Outcome { run, fetched }
    }

    fn refusals(&self, _scheme: Scheme, _door: Door) -> &'static [&'static str] {
        &["403 Forbidden"]
    }
}

client_tests!(Wget; http);
