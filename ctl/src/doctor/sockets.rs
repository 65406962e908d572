//! The socket units. While they are active, clients can connect even if the service does not run.

use super::facts::Facts;
use super::finding::Finding;
use super::init_system::{InitSystem, SOCKETS, Unit, Units};

/// systemd does not start a socket unit while its service runs, but a service that starts also starts
/// all of them. A restart is not enough: systemd would keep a listener that the proxy has bound
/// itself, and that listener would block the unit.
const RESTART_WITH_SOCKETS: &str =
    "systemctl stop codex-network-proxy; systemctl start codex-network-proxy";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match &facts.init_system {
        InitSystem::Systemd(units) if facts.init_system.has_service() => judge(units),
        InitSystem::Systemd(_) => vec![Finding::skipped(
            "there is no service, and so no socket unit",
        )],
        InitSystem::Launchd(_) => vec![Finding::ok("launchd holds the sockets of the job")],
        InitSystem::None => vec![Finding::skipped("this system was not booted with systemd")],
        InitSystem::Unanswered(why) => vec![Finding::skipped(why)],
    }
}

fn judge(units: &Units) -> Vec<Finding> {
    let none = Unit::default();
    let units = SOCKETS.map(|(_, id)| (id, units.named(id).unwrap_or(&none)));
    let active: Vec<&str> = units
        .iter()
        .filter(|(_, unit)| unit.is_active())
        .flat_map(|(_, unit)| unit.listens.iter().map(String::as_str))
        .collect();
    let up = (!active.is_empty()).then(|| Finding::ok(format!("up: {}", active.join(", "))));
    let down = units.iter().filter(|(_, unit)| !unit.is_active());
    up.into_iter()
        .chain(down.map(|(id, unit)| judge_down(id, unit)))
        .collect()
}

fn judge_down(id: &str, unit: &Unit) -> Finding {
    match (unit.load.as_str(), unit.active.as_str()) {
        // This may be intended: the unit's own text says when to mask it.
        ("masked", _) => Finding::note(format!(
            "{id} is masked: the service binds its address itself, if the configuration has it on"
        )),
        ("" | "not-found", _) => Finding::note(format!(
            "{id} is not installed: the service binds its address itself"
        )),
        (_, "failed") => Finding::problem(
            format!("{id} has failed ({})", unit.result),
            format!("proxyctl doctor ports, then {RESTART_WITH_SOCKETS}"),
        ),
        ("loaded", state) => Finding::problem(
            format!("{id} is {state}"),
            format!("systemctl enable {id}; {RESTART_WITH_SOCKETS}"),
        ),
        (load, _) => Finding::problem(
            format!("{id} cannot be used ({load})"),
            format!("systemctl status {id}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    fn unit(id: &str, load: &str, active: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            load: load.to_owned(),
            active: active.to_owned(),
            listens: vec![format!("address of {id}")],
            ..Unit::default()
        }
    }

    #[test]
    fn k1_each_socket_unit_that_is_not_up_has_its_line() {
        let all = |load: &str, active: &str| {
            Units(SOCKETS.map(|(_, id)| unit(id, load, active)).to_vec())
        };
        let found = judge(&all("loaded", "active"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].verdict, Ok);
        for (load, active, verdict, text) in [
            ("masked", "inactive", Note, "masked"),
            ("not-found", "inactive", Note, "not installed"),
            ("loaded", "failed", Problem, "failed"),
            ("loaded", "inactive", Problem, "inactive"),
            ("error", "inactive", Problem, "error"),
        ] {
            let mut units = all("loaded", "active");
            units.0[1] = unit(SOCKETS[1].1, load, active);
            let found = judge(&units);
            assert_eq!(found.len(), 2, "{found:?}");
            assert_eq!(found[1].verdict, verdict, "{found:?}");
            assert!(found[1].found.contains(text), "{found:?}");
            assert!(found[1].found.contains(SOCKETS[1].1), "{found:?}");
            // The advice must work while the service runs.
            let advice = found[1].advice.clone().unwrap_or_default();
            let restarts = advice.ends_with(RESTART_WITH_SOCKETS);
            assert_eq!(
                restarts,
                matches!(active, "failed" | "inactive") && load == "loaded"
            );
        }
        assert_eq!(judge(&Units::default()).len(), 4);
    }
}
