//! The scene of a script that is server and client in one: it serves at a free port, and runs its client with
//! the proxy between.

use std::fs;
use std::path::PathBuf;

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::intercepted::{bundle, proxy, start};
use crate::scene::{python, trusting};

/// Whom the client trusts.
#[derive(Clone, Copy)]
pub(crate) enum Trust {
    /// The proxy's bundle.
    Bundle,
    /// The authority that issued the server's certificate.
    Origin,
    /// Both.
    Both,
}

/// Runs a script of `python/` with these options, the proxy's URL, and a directory that has `server.pem` and
/// `server.key` for `allowed.test`.
pub(crate) fn run(script: &str, options: &[&str], config: &Config, trust: Trust) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = start(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::of(&ca, &["allowed.test"]);
    server.write(directory.path()).expect("a directory of ours");
    let run = trusting(&trust.file(&ca, &daemon, &directory), python(script))
        .args(options)
        .arg(proxy(&daemon))
        .arg(directory.path())
        .run();
    (run, daemon)
}

impl Trust {
    fn file(self, ca: &TestCa, daemon: &Daemon, directory: &TempDir) -> PathBuf {
        match self {
            Self::Bundle => bundle(daemon),
            Self::Origin => ca.file().to_owned(),
            Self::Both => {
                let both = directory.path().join("both.pem");
                let bundle = fs::read_to_string(bundle(daemon)).expect("a bundle");
                fs::write(&both, bundle + &ca.pem()).expect("a directory of ours");
                both
            }
        }
    }
}
