//! The service: whether it exists, runs, and starts at boot.

use super::facts::Facts;
use super::finding::Finding;
use super::init_system::{InitSystem, Job, SERVICE, SOCKETS, Unit};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let proxy = facts.proxy.running().and_then(|answers| answers.monitor());
    let proxy = proxy.map(|monitor| monitor.pid);
    vec![match &facts.init_system {
        InitSystem::None => not_a_service("this system was not booted with systemd", proxy),
        InitSystem::Unanswered(why) => Finding::skipped(why),
        InitSystem::Launchd(job) => launchd(job, proxy),
        InitSystem::Systemd(units) => {
            let waits = SOCKETS
                .iter()
                .filter_map(|(_, unit)| units.named(unit))
                .any(Unit::is_active);
            let sockets = if waits {
                Activation::Sockets
            } else {
                Activation::Nothing
            };
            let none = Unit::default();
            systemd(units.service().unwrap_or(&none), sockets, proxy)
        }
    }]
}

/// Whether a client can start the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Sockets,
    Nothing,
}

fn not_a_service(why: &str, proxy: Option<u32>) -> Finding {
    Finding::note(match proxy {
        Some(pid) => format!("not a service: {why}; the proxy that answers is process {pid}"),
        None => format!("not a service: {why}"),
    })
}

/// `proxy` is the process of the proxy that answers, if one does.
fn systemd(unit: &Unit, waiting: Activation, proxy: Option<u32>) -> Finding {
    let journal = "journalctl -u codex-network-proxy -e";
    if !unit.is_installed() {
        return not_a_service(&format!("there is no {SERVICE}"), proxy);
    }
    match (unit.load.as_str(), unit.active.as_str()) {
        ("masked", _) => Finding::problem(
            format!("{SERVICE} is masked, so nothing can start it"),
            "systemctl unmask codex-network-proxy",
        ),
        ("loaded", "active" | "reloading") => running(unit, proxy),
        ("loaded", "failed") => {
            let status = unit.exit_status.filter(|_| unit.result == "exit-code");
            let how =
                status.map_or_else(|| unit.result.clone(), |code| format!("exit code {code}"));
            // EX_CONFIG.
            let advice = if status == Some(78) {
                "codex-network-proxy check (if it finds nothing: journalctl -u codex-network-proxy -e), fix what is wrong, then systemctl restart codex-network-proxy"
            } else {
                journal
            };
            Finding::problem(format!("{SERVICE} has failed ({how})"), advice)
        }
        ("loaded", "activating") if unit.sub == "auto-restart" => Finding::problem(
            format!("{SERVICE} fails and is restarted, over and over"),
            journal,
        ),
        ("loaded", "inactive") => match (proxy, waiting) {
            (Some(pid), _) => Finding::note(format!(
                "{SERVICE} does not run; the proxy that answers is process {pid}"
            )),
            (None, Activation::Sockets) => Finding::note(format!(
                "{SERVICE} does not run; the first client of its sockets starts it"
            )),
            (None, Activation::Nothing) => Finding::problem(
                format!("{SERVICE} does not run"),
                "systemctl start codex-network-proxy",
            ),
        },
        ("loaded", state) => Finding::note(format!("{SERVICE} is {state} ({})", unit.sub)),
        (load, _) => Finding::problem(
            format!("{SERVICE} cannot be used ({load})"),
            "systemctl status codex-network-proxy",
        ),
    }
}

fn running(unit: &Unit, proxy: Option<u32>) -> Finding {
    match (unit.main_pid, proxy) {
        (Some(own), Some(other)) if own != other => Finding::note(format!(
            "{SERVICE} runs, process {own}; the proxy that answers is another, process {other}"
        ))
        .advise("--socket /run/codex-network-proxy/control.sock to look at the service"),
        (pid, _) => {
            let pid = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
            if unit.is_stale {
                Finding::note(format!(
                    "{SERVICE} runs{pid}, and its unit has changed since systemd read it"
                ))
                .advise("systemctl daemon-reload && systemctl restart codex-network-proxy")
            } else if unit.file == "disabled" {
                Finding::note(format!("{SERVICE} runs{pid}, and is not started at boot"))
                    .advise("systemctl enable codex-network-proxy")
            } else {
                Finding::ok(format!("{SERVICE} runs{pid}"))
            }
        }
    }
}

fn launchd(job: &Job, proxy: Option<u32>) -> Finding {
    if !job.is_loaded {
        return not_a_service("launchd has no such job", proxy);
    }
    match (job.pid, proxy) {
        (Some(own), Some(other)) if own != other => Finding::note(format!(
            "launchd's job runs, process {own}; the proxy that answers is another, process {other}"
        )),
        (Some(pid), _) => Finding::ok(format!("launchd's job runs, process {pid}")),
        (None, _) => {
            let ended = job.last_exit.as_ref();
            let ended = ended.map_or_else(String::new, |code| {
                format!("; its last exit code was {code}")
            });
            Finding::problem(
                format!("launchd's job does not run ({}){ended}", job.state),
                "tail /var/log/codex-network-proxy.log",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    fn unit(load: &str, active: &str, sub: &str) -> Unit {
        Unit {
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            file: "enabled".to_owned(),
            result: "exit-code".to_owned(),
            exit_status: Some(1),
            ..Unit::default()
        }
    }

    #[test]
    #[rustfmt::skip]
    fn k1_the_state_of_the_unit_is_judged() {
        use Activation::{Nothing, Sockets};
        let running = Unit { main_pid: Some(7), ..unit("loaded", "active", "running") };
        let by_hand = Unit { file: "disabled".to_owned(), ..running.clone() };
        let stale = Unit { is_stale: true, ..running.clone() };
        let unusable = Unit { exit_status: Some(78), ..unit("loaded", "failed", "failed") };
        let failed = unit("loaded", "failed", "failed");
        let again = unit("loaded", "activating", "auto-restart");
        let starting = unit("loaded", "activating", "start");
        let stopped = unit("loaded", "inactive", "dead");
        let masked = unit("masked", "inactive", "dead");
        let broken = unit("bad-setting", "inactive", "dead");
        let absent = unit("not-found", "inactive", "dead");
        for (unit, waiting, proxy, verdict, text, advised) in [
            (&running, Sockets, Some(7), Ok, "runs, process 7", ""),
            (&running, Sockets, None, Ok, "runs, process 7", ""),
            (&running, Sockets, Some(8), Note, "another, process 8", "--socket"),
            (&by_hand, Sockets, Some(7), Note, "not started at boot", "systemctl enable"),
            (&stale, Sockets, Some(7), Note, "has changed", "daemon-reload"),
            (&unusable, Sockets, None, Problem, "exit code 78", "codex-network-proxy check"),
            (&failed, Nothing, None, Problem, "exit code 1", "journalctl"),
            (&again, Nothing, None, Problem, "over and over", "journalctl"),
            (&starting, Nothing, None, Note, "activating (start)", ""),
            (&stopped, Nothing, None, Problem, "does not run", "systemctl start"),
            (&stopped, Sockets, None, Note, "first client", ""),
            (&stopped, Nothing, Some(9), Note, "process 9", ""),
            (&masked, Nothing, None, Problem, "masked", "systemctl unmask"),
            (&broken, Nothing, None, Problem, "bad-setting", "systemctl status"),
            (&absent, Nothing, Some(9), Note, "not a service", ""),
        ] {
            let found = systemd(unit, waiting, proxy);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.found.contains(text), "{text}: {found:?}");
            let advice = found.advice.clone().unwrap_or_default();
            assert!(advice.contains(advised), "{advised}: {found:?}");
            assert_eq!(advice.is_empty(), advised.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn k1_the_state_of_launchds_job_is_judged() {
        let running = Job {
            is_loaded: true,
            pid: Some(4),
            ..Job::default()
        };
        assert_eq!(launchd(&running, Some(4)).verdict, Ok);
        assert_eq!(launchd(&running, Some(5)).verdict, Note);
        assert_eq!(launchd(&Job::default(), None).verdict, Note);
        let ended = Job {
            pid: None,
            last_exit: Some("78: EX_CONFIG".to_owned()),
            ..running
        };
        let found = launchd(&ended, None);
        assert_eq!(found.verdict, Problem);
        assert!(found.found.contains("78"), "{found:?}");
    }
}
