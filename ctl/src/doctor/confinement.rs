//! How the kernel confines the worker, which talks to the network.

use codex_network_control::message::Role;

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let answers = facts.proxy.running();
    match answers.and_then(|answers| answers.role("worker")) {
        Some(worker) => judge(worker),
        None => vec![Finding::skipped(
            "no proxy reports how its worker is confined",
        )],
    }
}

fn judge(worker: &Role) -> Vec<Finding> {
    let Some(seccomp) = worker.seccomp.as_deref() else {
        return vec![Finding::skipped(
            "this system does not report how it confines a process",
        )];
    };
    let missing = |what: &str| {
        Finding::note(format!("the worker runs without {what}"))
            .advise("the kernel does not support it, or [daemon] sandbox is \"off\"; the proxy logs which when it starts")
    };
    let mut found = Vec::new();
    match worker.landlock.as_deref() {
        Some("enforced") => {}
        Some(partly) => found.push(Finding::note(format!(
            "Landlock is {partly}: this kernel knows only some of the restrictions"
        ))),
        None => found.push(missing("Landlock")),
    }
    if seccomp != "filter" {
        found.push(missing("seccomp"));
    }
    if found.is_empty() {
        found.push(Finding::ok("seccomp and Landlock confine the worker"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok};
    use super::*;

    #[test]
    fn c5_a_missing_confinement_is_a_note() {
        for (seccomp, landlock, verdicts, text) in [
            (
                Some("filter"),
                Some("enforced"),
                &[Ok][..],
                "confine the worker",
            ),
            (
                Some("filter"),
                Some("partly enforced"),
                &[Note],
                "is partly enforced",
            ),
            (Some("filter"), None, &[Note], "without Landlock"),
            (Some("off"), Some("enforced"), &[Note], "without seccomp"),
            (Some("off"), None, &[Note, Note], "without Landlock"),
            (None, None, &[Note], "skipped"),
        ] {
            let found = judge(&Role {
                seccomp: seccomp.map(str::to_owned),
                landlock: landlock.map(str::to_owned),
                ..Role::default()
            });
            let found_verdicts: Vec<_> = found.iter().map(|found| found.verdict).collect();
            assert_eq!(found_verdicts, verdicts, "{found:?}");
            assert!(found[0].found.contains(text), "{text}: {found:?}");
        }
    }
}
