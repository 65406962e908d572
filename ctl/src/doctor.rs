//! `proxyctl doctor`: checks everything that a working proxy needs, and says what to do.
//!
//! Each check is a module with a function that looks and a pure function that judges. `facts` has
//! what several checks need. The checks run concurrently. A check that does not end in time, or that
//! this user may not make, has a line of its own and does not delay the others. Nothing is changed,
//! and nothing is sent off this machine: no name is looked up, and only addresses of this machine
//! are connected to.

mod ca;
mod configured;
mod confinement;
mod control;
mod credentials;
mod environment;
mod facts;
mod finding;
mod init_system;
mod jail;
mod listeners;
mod names;
mod permissions;
mod ports;
mod proxy;
mod service;
mod settings;
mod sockets;
mod tool;
mod user;
mod version;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use facts::Facts;
use finding::{CheckResult, Finding};

use crate::args::Check;
use crate::failure::Failure;
use crate::output::Output;

/// Time limit of all checks together. It starts when the facts are there.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(
    socket: Option<PathBuf>,
    output: &Output,
    checks: Vec<Check>,
) -> Result<(), Failure> {
    let checks = if checks.is_empty() {
        Check::value_variants().to_vec()
    } else {
        checks
    };
    let facts = Facts::gather(socket, &checks)?;
    finding::report(output, &examine(facts, &checks))
}

/// Makes the checks, each in a thread of its own, and returns the results in the requested order.
fn examine(facts: Facts, checks: &[Check]) -> Vec<CheckResult> {
    let facts = Arc::new(facts);
    let running: Vec<_> = checks
        .iter()
        .map(|check| {
            let (facts, check) = (Arc::clone(&facts), *check);
            let (sender, found) = mpsc::channel();
            thread::spawn(move || {
                // After the time limit the receiver is gone.
                let _ = sender.send(make(check, &facts));
            });
            (check, found)
        })
        .collect();
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let mut lines = Vec::new();
    for (check, found) in running {
        let left = deadline.saturating_duration_since(Instant::now());
        let found = found
            .recv_timeout(left)
            .unwrap_or_else(|error| vec![unfinished(error)]);
        lines.extend(
            found
                .into_iter()
                .map(|finding| CheckResult { check, finding }),
        );
    }
    lines
}

fn unfinished(error: mpsc::RecvTimeoutError) -> Finding {
    Finding::skipped(match error {
        mpsc::RecvTimeoutError::Timeout => "it did not end in time",
        mpsc::RecvTimeoutError::Disconnected => "it failed, which is a bug in proxyctl",
    })
}

fn make(check: Check, facts: &Facts) -> Vec<Finding> {
    match check {
        Check::Service => service::check(facts),
        Check::Sockets => sockets::check(facts),
        Check::Control => control::check(facts),
        Check::Listeners => listeners::check(facts),
        Check::Ports => ports::check(facts),
        Check::User => user::check(facts),
        Check::Confinement => confinement::check(facts),
        Check::Jail => jail::check(),
        Check::Permissions => permissions::check(facts),
        Check::Ca => ca::check(facts),
        Check::Environment => environment::check(facts),
        Check::Names => names::check(facts),
        Check::Settings => settings::check(facts),
        Check::Credentials => credentials::check(facts),
        Check::Version => version::check(facts),
    }
}
