//! node's own `fetch`, which speaks no SOCKS.
//!
//! From node 24 on, `NODE_USE_ENV_PROXY=1` makes `fetch` heed the proxy
//! variables. Older ones are given the agent which that switch installs, from
//! the undici that `.ci/clients` installs; `fetch` itself is node's in both cases.

use e2e::origin::{Answer, Builder, Origin};
use e2e::program::{Program, installed};

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme, client_tests};

const SCRIPT: &str = r"
const [url, undici] = process.argv.slice(1);
if (Number(process.versions.node.split('.')[0]) < 24) {
  const { EnvHttpProxyAgent, setGlobalDispatcher } = require(undici);
  setGlobalDispatcher(new EnvHttpProxyAgent());
}
fetch(url).then(async response => {
  if (!response.ok) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  process.stdout.write(await response.text());
}).catch(error => {
  console.error(error);
  process.exitCode = 1;
});
";

struct Fetch;

impl Client for Fetch {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let mut program = Program::new("node")
            .args(["--eval", SCRIPT, "--"])
            .arg(format!("{}/some/path", attempt.base))
            .arg(installed("node/node_modules/undici"))
            .env("NODE_EXTRA_CA_CERTS", attempt.ca);
        if let Some(proxy) = &attempt.proxy {
            program = program
                .env("NODE_USE_ENV_PROXY", "1")
                .env("HTTP_PROXY", proxy)
                .env("HTTPS_PROXY", proxy);
        }
        let run = program.run();
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Outcome { run, fetched }
    }

    fn refusals(&self, _scheme: Scheme, _door: Door) -> &'static [&'static str] {
        // The `fetch` of node 18 keeps to itself why a tunnel was refused.
        &["403", "TypeError: fetch failed"]
    }

    fn protocols(&self, scheme: Scheme, _door: Door) -> &'static [&'static str] {
        match scheme {
            // undici made a tunnel for plain HTTP too; newer ones do not.
            Scheme::Http => &["http-connect", "http"],
            Scheme::Https => &["http-connect"],
        }
    }
}

client_tests!(Fetch; http, https);
