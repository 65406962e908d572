//! Whether proxyctl and the running proxy have the same version. After an upgrade they differ until
//! the proxy is restarted.

use super::facts::Facts;
use super::finding::Finding;

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answers) = facts.proxy.running() else {
        return vec![Finding::skipped(&format!(
            "proxyctl is {OWN_VERSION}, and no proxy reports its version"
        ))];
    };
    let program = answers
        .monitor()
        .map_or(ProgramFile::Unknown, |monitor| program(monitor.pid));
    vec![judge(
        OWN_VERSION,
        &answers.status.version,
        program,
        facts.init_system.restart(),
    )]
}

/// The file that the proxy was started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgramFile {
    InPlace,
    /// It has been replaced or removed.
    Replaced,
    /// This user may not see it.
    Unknown,
}

/// The kernel marks a process whose program has been replaced or removed (`proc_pid_exe(5)`).
fn program(pid: u32) -> ProgramFile {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) if path.to_string_lossy().ends_with(" (deleted)") => ProgramFile::Replaced,
        Ok(_) => ProgramFile::InPlace,
        Err(_) => ProgramFile::Unknown,
    }
}

fn judge(own: &str, proxy: &str, program: ProgramFile, restart: String) -> Finding {
    if own != proxy {
        return Finding::problem(
            format!("proxyctl is {own}, the running proxy is {proxy}"),
            restart,
        );
    }
    match program {
        ProgramFile::Replaced => Finding::problem(
            format!(
                "the running proxy is {proxy}, and its program has been replaced since it started"
            ),
            restart,
        ),
        ProgramFile::InPlace | ProgramFile::Unknown => {
            Finding::ok(format!("proxyctl and the running proxy are {own}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Problem};
    use super::*;

    #[test]
    fn k1_a_proxy_of_another_version_needs_a_restart() {
        for (proxy, program, verdict) in [
            ("1.2.3", ProgramFile::InPlace, Ok),
            ("1.2.3", ProgramFile::Unknown, Ok),
            ("1.2.3", ProgramFile::Replaced, Problem),
            ("1.2.2", ProgramFile::InPlace, Problem),
        ] {
            let found = judge("1.2.3", proxy, program, "restart it".to_owned());
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
