//! The settings in force and the last reload; without a proxy, the files.

use std::path::{Path, PathBuf};

use codex_network_control::message::{Outcome, Status};
use nix::unistd::Uid;

use super::Facts;
use super::configured::Configured;
use super::finding::Finding;
use super::permissions::SYSTEM;
use super::proxy::{Answers, Proxy};
use crate::output::counted;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match &facts.proxy {
        Proxy::Answers(answers) => {
            let mut found = judge(&answers.status);
            found.extend(next_start(facts, answers));
            found
        }
        Proxy::TurnsAway(_) | Proxy::NotAsked => {
            vec![Finding::skipped(
                "the proxy does not show them to this user",
            )]
        }
        Proxy::Silent(_) | Proxy::Strange(_) => vec![match facts.configured() {
            Configured::Settings(_) => Finding::ok("the files are valid; no proxy runs on them"),
            Configured::Unusable(why) => unusable(why, Uid::effective().is_root()),
        }],
    }
}

fn judge(status: &Status) -> Vec<Finding> {
    let generation = status.generation.number;
    let files = match status.files.len() {
        0 => "built-in defaults".to_owned(),
        count => counted(count, "file", "files"),
    };
    let in_force = format!("generation {generation} is in force, from {files}");
    let failed = status
        .last_reload
        .as_ref()
        .filter(|last| last.outcome == Outcome::Failed);
    let first = match failed {
        Some(last) => {
            let why = last.problems.first().map_or("", String::as_str);
            Finding::problem(
                format!("{in_force}; the last reload failed: {why}"),
                "codex-network-proxy check, fix the problems that it prints, then proxyctl reload",
            )
        }
        None => Finding::ok(in_force),
    };
    let warnings = status.warnings.iter().map(Finding::note);
    std::iter::once(first).chain(warnings).collect()
}

/// What would happen at a restart of the service: it starts with the current files, or not at all.
fn next_start(facts: &Facts, answers: &Answers) -> Option<Finding> {
    let pid = answers.monitor().map(|monitor| monitor.pid);
    let is_the_service = pid.is_some() && pid == facts.init_system.main_pid();
    let has_told = answers.status.last_reload.as_ref();
    let has_told = has_told.is_some_and(|last| last.outcome == Outcome::Failed);
    // Users other than root may not be able to read all of them.
    if !is_the_service || has_told || !Uid::effective().is_root() {
        return None;
    }
    match facts.configured() {
        Configured::Settings(_) => SYSTEM
            .into_iter()
            .find_map(|path| leads_out(Path::new(path), &own_root(pid?)))
            .map(|why| {
                Finding::problem(
                    format!("the service would not start again: {why}"),
                    "replace the link by the file itself, then proxyctl reload",
                )
            }),
        Configured::Unusable(why) => Some(Finding::problem(
            format!("the service would not start again, since the files now have errors: {why}"),
            "codex-network-proxy check, fix the problems that it prints, then proxyctl reload",
        )),
    }
}

/// The root directory of a process, which may differ from ours.
fn own_root(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// A link whose target exists for us, but not below the service's root.
fn leads_out(path: &Path, root: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let seen = root.join(real.strip_prefix("/").ok()?);
    let is_lost = real != path && std::fs::symlink_metadata(seen).is_err();
    is_lost.then(|| {
        format!(
            "{} leads to {}, which the service does not see",
            path.display(),
            real.display()
        )
    })
}

/// A user may not be able to read the service's files, which is correct.
fn unusable(why: &str, is_root: bool) -> Finding {
    let found = format!("the files cannot be used: {why}");
    let advice = "codex-network-proxy check";
    if is_root {
        Finding::problem(found, advice)
    } else {
        Finding::note(found).advise(format!("sudo {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::LastReload;

    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    #[test]
    fn c6_a_link_out_of_the_services_root_is_told() {
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path().canonicalize().expect("its own name");
        let (file, link, root) = (place.join("file"), place.join("link"), place.join("root"));
        std::fs::write(&file, "").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(leads_out(&link, Path::new("/")), None);
        assert_eq!(leads_out(&file, &root), None);
        assert_eq!(leads_out(&place.join("none"), &root), None);
        let told = leads_out(&link, &root).expect("it is not there");
        assert!(told.contains(&format!("leads to {}", file.display())));
    }

    #[test]
    fn c7_a_reload_that_failed_is_a_problem_and_a_warning_a_note() {
        let mut status = Status::default();
        let verdicts = |status: &Status| -> Vec<_> {
            judge(status).iter().map(|found| found.verdict).collect()
        };
        assert_eq!(verdicts(&status), [Ok]);
        status.warnings = vec!["not fully confined".to_owned()];
        for (outcome, verdict) in [(Outcome::Applied, Ok), (Outcome::Failed, Problem)] {
            status.last_reload = Some(LastReload {
                outcome,
                problems: vec!["config.toml:2:8: bad".to_owned()],
                ..LastReload::default()
            });
            assert_eq!(verdicts(&status), [verdict, Note]);
        }
        assert!(judge(&status)[0].found.contains("config.toml:2:8"));
        assert_eq!(unusable("x", true).verdict, Problem);
        assert_eq!(unusable("x", false).verdict, Note);
    }
}
