//! node's own `fetch` and its `https` module, which do not support SOCKS.
//!
//! From node 24 on, `NODE_USE_ENV_PROXY=1` makes `fetch` use the proxy variables. Older versions
//! get the agent that this switch would install, from the undici that `.ci/clients` installs;
//! `fetch` itself is node's in both cases.

use e2e::daemon::{Config, Daemon};
use e2e::program::{Run, installed};
use e2e::tls::TestCa;

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests};
use crate::intercepted::{Intercepted, intercepted_tests, proxy};

const FETCH: &str = r"
const [url, undici, method] = process.argv.slice(1);
if (Number(process.versions.node.split('.')[0]) < 24) {
  const { EnvHttpProxyAgent, setGlobalDispatcher } = require(undici);
  setGlobalDispatcher(new EnvHttpProxyAgent());
}
fetch(url, { method }).then(async response => {
  if (!response.ok) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  process.stdout.write(await response.text());
}).catch(error => {
  console.error(error);
  process.exitCode = 1;
});
";

/// `https` over a tunnel made with `http`, as in node's documentation of CONNECT. Its `Host` names
/// the proxy (H2).
const HTTPS: &str = r"
const { connect } = require('tls');
const http = require('http');
const https = require('https');
const [base, proxy, method] = process.argv.slice(1);
const url = new URL(base);
const { host } = url;
const tunnel = http.request(proxy, { method: 'CONNECT', path: host });
tunnel.on('connect', (_, socket) => {
  const request = https.request(url, {
    method,
    createConnection: () => connect({ socket, servername: url.hostname }),
  }, response => {
    const failed = response.statusCode !== 200;
    process.exitCode = failed ? 1 : 0;
    response.pipe(failed ? process.stderr : process.stdout);
  });
  request.on('error', error => { console.error(error); process.exitCode = 1; });
  request.end();
});
tunnel.end();
";

/// The body of H5.
const FORBIDDEN: &[&str] =
    &[r#"CODEX_NETWORK_POLICY_DECISION {"decision":"deny","reason":"method_not_allowed""#];
const DISTRUSTS: &[&str] = &["SELF_SIGNED_CERT_IN_CHAIN"];

struct Fetch;

impl Client for Fetch {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(fetch(attempt, "GET"))
    }

    fn refusals(&self, _scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        // The `fetch` of node 18 does not report why a tunnel was refused.
        &["403", "TypeError: fetch failed"]
    }

    fn protocols(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            // undici made a tunnel for plain HTTP too; newer ones do not.
            Scheme::Http => &["http-connect", "http"],
            Scheme::Https => &["http-connect"],
        }
    }
}

impl Intercepted for Fetch {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        fetch(attempt, "POST")
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        FORBIDDEN
    }

    fn distrusts(&self) -> &'static [&'static str] {
        DISTRUSTS
    }
}

fn fetch(attempt: &Attempt<'_>, method: &str) -> Run {
    let mut program = attempt
        .program("node")
        .args(["--eval", FETCH, "--"])
        .arg(format!("{}/some/path", attempt.base))
        .arg(installed("node/node_modules/undici"))
        .arg(method);
    if let Some(proxy) = &attempt.proxy {
        program = program
            .env("NODE_USE_ENV_PROXY", "1")
            .env("HTTP_PROXY", proxy)
            .env("HTTPS_PROXY", proxy);
    }
    program.run()
}

client_tests!(Fetch; http, https);
intercepted_tests!(Fetch);

/// P7, M1: undici makes a tunnel for plain HTTP too. In limited mode reads inside it are permitted
/// and writes are not.
#[test]
fn p7_m1_plain_http_in_a_tunnel_may_read_in_limited_mode() {
    let origin = Fetch.origin(Scheme::Http).start();
    let ca = TestCa::new();
    let daemon = Daemon::start(&Config::limited());
    let attempt = Attempt {
        base: origin.url("allowed.test", ""),
        proxy: Some(proxy(&daemon)),
        ca: ca.file(),
    };
    assert_eq!(fetch(&attempt, "GET").succeeded().stdout, CONTENT);
    fetch(&attempt, "POST")
        .failed()
        .says("403")
        .says("method_not_allowed");
    assert_eq!(origin.requests().len(), 1);
}

/// The `https` module.
struct Https;

impl Client for Https {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(https(attempt, "GET"))
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        Fetch.refusals(scheme, through)
    }
}

impl Intercepted for Https {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        https(attempt, "POST")
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        FORBIDDEN
    }

    fn distrusts(&self) -> &'static [&'static str] {
        DISTRUSTS
    }
}

fn https(attempt: &Attempt<'_>, method: &str) -> Run {
    attempt
        .program("node")
        .args(["--eval", HTTPS, "--"])
        .arg(format!("{}/some/path", attempt.base))
        .args([attempt.proxy_or_empty(), method])
        .run()
}

mod https_module {
    crate::intercepted::intercepted_tests!(super::Https);
}
