//! Whether proxyctl and the running proxy have the same version. After an upgrade they differ until
//! the proxy is restarted.

use super::facts::Facts;
use super::finding::Finding;

const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answers) = facts.proxy.answers() else {
        return vec![Finding::skipped(&format!(
            "proxyctl is {OWN}, and no proxy reports its version"
        ))];
    };
    let program = answers
        .monitor()
        .map_or(Program::Unknown, |monitor| program(monitor.pid));
    vec![judge(
        OWN,
        &answers.status.version,
        program,
        facts.init_system.restart(),
    )]
}

/// The file that the proxy was started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    InPlace,
    /// It has been replaced or removed.
    Replaced,
    /// This user may not see it.
    Unknown,
}

/// The kernel marks a process whose program has been replaced or removed (`proc_pid_exe(5)`).
fn program(pid: u32) -> Program {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) if path.to_string_lossy().ends_with(" (deleted)") => Program::Replaced,
        Ok(_) => Program::InPlace,
        Err(_) => Program::Unknown,
    }
}

fn judge(own: &str, proxy: &str, program: Program, restart: String) -> Finding {
    if own != proxy {
        return Finding::problem(
            format!("proxyctl is {own}, the running proxy is {proxy}"),
            restart,
        );
    }
    match program {
        Program::Replaced => Finding::problem(
            format!(
                "the running proxy is {proxy}, and its program has been replaced since it started"
            ),
            restart,
        ),
        Program::InPlace | Program::Unknown => {
            Finding::ok(format!("proxyctl and the running proxy are {own}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Problem};
    use super::*;

    #[test]
    fn k1_after_an_upgrade_the_proxy_wants_a_restart() {
        for (proxy, program, verdict) in [
            ("1.2.3", Program::InPlace, Ok),
            ("1.2.3", Program::Unknown, Ok),
            ("1.2.3", Program::Replaced, Problem),
            ("1.2.2", Program::InPlace, Problem),
        ] {
            let found = judge("1.2.3", proxy, program, "restart it".to_owned());
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
