//! Runs a script that is both server and client. It serves at a free port, and its client connects
//! through the proxy.

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::client::{python, trusting};
use crate::intercepted::{bundle, proxy};

/// The authority that the client trusts.
#[derive(Clone, Copy)]
pub(crate) enum Trust {
    /// The proxy's bundle: the proxy's CA, and the authority that issued the server's certificate.
    Bundle,
    /// Only that authority.
    Origin,
}

/// Runs a script of `python/` with these options, the proxy's URL, and a directory that has `server.pem` and
/// `server.key` for `allowed.test`.
pub(crate) fn run(script: &str, options: &[&str], config: &Config, trust: Trust) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = Daemon::start_trusting(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::of(&ca, &["allowed.test"]);
    server.write(directory.path()).expect("a directory of ours");
    let bundle = bundle(&daemon);
    let trusted = match trust {
        Trust::Bundle => &bundle,
        Trust::Origin => ca.file(),
    };
    let run = trusting(trusted, python(script))
        .args(options)
        .arg(proxy(&daemon))
        .arg(directory.path())
        .run();
    (run, daemon)
}
