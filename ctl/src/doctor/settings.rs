//! The settings in force and the last reload; without a proxy, the files.

use std::path::{Path, PathBuf};

use codex_network_config::{kept_connections, pipe_descriptors};
use codex_network_control::message::{ReloadOutcome, Status};
use nix::unistd::Uid;

use super::configured::{Configured, SYSTEM_FILES};
use super::facts::Facts;
use super::finding::Finding;
use super::proxy::{Proxy, RunningProxy};
use crate::output::{ago, counted};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match &facts.proxy {
        Proxy::Running(answers) => {
            let mut found = judge(&answers.status);
            found.extend(degraded(&answers.status));
            found.extend(admin(answers));
            found.extend(questions(&answers.status));
            found.extend(descriptors(answers));
            found.extend(next_start(facts, answers));
            found
        }
        Proxy::Refuses(_) | Proxy::NotAsked => {
            vec![Finding::skipped(
                "the proxy does not show them to this user",
            )]
        }
        Proxy::NotFound(_) | Proxy::Invalid(_) => vec![match facts.configured() {
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
        .filter(|last| last.outcome == ReloadOutcome::Failed);
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
    let first = Finding {
        fingerprints: status.fingerprints.clone(),
        ..first
    };
    let warnings = status.warnings.iter().map(Finding::note);
    std::iter::once(first).chain(warnings).collect()
}

/// The degraded parts that no other check finds.
fn degraded(status: &Status) -> impl Iterator<Item = Finding> {
    const FOUND_ELSEWHERE: [&str; 2] = ["configuration", "resolver"];
    let parts = status.degraded.iter();
    let others = parts.filter(|part| !FOUND_ELSEWHERE.contains(&part.part.as_str()));
    others.map(|part| Finding::note(format!("{}, for {}", part.detail, ago(part.since))))
}

/// The admin API requires no credentials, so the programs that the proxy restricts can use it too.
fn admin(answers: &RunningProxy) -> Option<Finding> {
    let is_open = answers.setting(&["admin_url"])?.is_string();
    let is_read_only = answers
        .setting(&["daemon", "admin", "read_only"])?
        .as_bool()?;
    (is_open && !is_read_only).then(|| {
        Finding::note("every program on this machine may change the mode, reload, and empty the list of refused requests through the admin API")
            .advise("[daemon.admin] read_only = true, then proxyctl reload; proxyctl still makes such changes")
    })
}

/// Without a listener, questions are enabled to no effect.
fn questions(status: &Status) -> Option<Finding> {
    let questions = status.questions.filter(|questions| !questions.is_heard)?;
    let open = counted(questions.open, "question is", "questions are");
    Some(
        Finding::note(format!(
            "{open} open, and nothing is asked, since no listener answers questions"
        ))
        .advise("proxyctl approvals --follow, or [daemon.approvals] enabled = false"),
    )
}

/// A client and its server take a descriptor each. Kept connections take some, and on Linux the pipes of tunnels.
fn descriptors(answers: &RunningProxy) -> Option<Finding> {
    let limit = answers.role("worker")?.descriptor_limit?;
    let path = ["daemon", "limits", "max_connections"];
    let connections = answers.setting(&path)?.as_u64()?;
    let needed = connections
        .saturating_mul(2)
        .saturating_add(kept_connections(limit))
        .saturating_add(pipe_descriptors(limit));
    (limit < needed).then(|| {
        Finding::note(format!(
            "the worker may have {limit} descriptors open, and max_connections = {connections} can need {needed}"
        ))
        .advise("raise the limit (LimitNOFILE= of the unit, ulimit -n) and restart the proxy, or lower [daemon.limits] max_connections")
    })
}

/// Whether a restarted service could use its configuration. If not, it would run on the last good one
/// (SPEC L16).
fn next_start(facts: &Facts, answers: &RunningProxy) -> Option<Finding> {
    let pid = answers.monitor().map(|monitor| monitor.pid);
    let is_the_service = pid.is_some() && pid == facts.init_system.main_pid();
    let is_reported = answers.status.last_reload.as_ref();
    let is_reported = is_reported.is_some_and(|last| last.outcome == ReloadOutcome::Failed);
    // Users other than root may not be able to read all of them.
    if !is_the_service || is_reported || !Uid::effective().is_root() {
        return None;
    }
    match facts.configured() {
        Configured::Settings(_) => SYSTEM_FILES
            .into_iter()
            .find_map(|path| leads_out(Path::new(path), &own_root(pid?)))
            .map(|why| {
                Finding::problem(
                    format!("after a restart the service could not use its configuration, and would run on the last good one: {why}"),
                    "replace the link by the file itself, then proxyctl reload",
                )
            }),
        Configured::Unusable(why) => Some(Finding::problem(
            format!(
                "after a restart the service could not use its configuration, and would run on the last good one, since the files now have errors: {why}"
            ),
            "codex-network-proxy check, fix the problems that it prints, then proxyctl reload",
        )),
    }
}

/// The root directory of a process, which may differ from ours.
fn own_root(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// Finds a link whose target exists for this process, but not below the service's root directory.
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
    use codex_network_control::message::{Config, LastReload, OpenQuestions, Role};
    use serde_json::{Value, json};

    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    #[test]
    fn c6_a_link_out_of_the_services_root_is_found() {
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path().canonicalize().expect("its own name");
        let (file, link, root) = (place.join("file"), place.join("link"), place.join("root"));
        std::fs::write(&file, "").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(leads_out(&link, Path::new("/")), None);
        assert_eq!(leads_out(&file, &root), None);
        assert_eq!(leads_out(&place.join("none"), &root), None);
        let why = leads_out(&link, &root).expect("it is not there");
        assert!(why.contains(&format!("leads to {}", file.display())));
    }

    #[test]
    fn a2_an_admin_api_that_is_not_read_only_is_noted() {
        for (url, read_only, is_noted) in [
            (json!("http://127.0.0.1:8080"), json!(false), true),
            (json!("http://127.0.0.1:8080"), json!(true), false),
            (json!(null), json!(false), false),
            // An older proxy does not say.
            (json!("http://127.0.0.1:8080"), json!(null), false),
        ] {
            let settings = json!({
                "admin_url": url,
                "daemon": { "admin": { "read_only": read_only } },
            });
            let found = admin(&answers(settings, None));
            assert_eq!(found.is_some(), is_noted, "{found:?}");
            assert!(found.is_none_or(|found| found.verdict == Note));
        }
    }

    #[test]
    fn c5_too_few_descriptors_for_the_connections_are_noted() {
        let settings = json!({ "daemon": { "limits": { "max_connections": 100 } } });
        for (limit, is_noted) in [
            (Some(99), true),
            (Some(199), true),
            (Some(200), true),
            // 29 for kept connections, 7 for pipes.
            (Some(235), true),
            (Some(236), false),
            (None, false),
        ] {
            let found = descriptors(&answers(settings.clone(), limit));
            assert_eq!(found.is_some(), is_noted, "{found:?}");
            assert!(found.is_none_or(|found| found.verdict == Note));
        }
    }

    #[test]
    fn q1_questions_without_a_listener_are_noted() {
        let with = |questions| Status {
            questions,
            ..Status::default()
        };
        let asked = |is_heard| Some(OpenQuestions { open: 2, is_heard });
        assert!(questions(&with(None)).is_none());
        assert!(questions(&with(asked(true))).is_none());
        let found = questions(&with(asked(false))).expect("a note");
        assert_eq!(found.verdict, Note);
        assert!(found.found.starts_with("2 questions are open"), "{found:?}");
    }

    fn answers(settings: Value, descriptor_limit: Option<u64>) -> RunningProxy {
        RunningProxy {
            socket: PathBuf::new(),
            is_of_root: true,
            status: Status {
                roles: vec![Role {
                    name: "worker".to_owned(),
                    descriptor_limit,
                    ..Role::default()
                }],
                ..Status::default()
            },
            config: Some(Config {
                settings,
                ..Config::default()
            }),
            ca: None,
        }
    }

    #[test]
    fn c7_a_reload_that_failed_is_a_problem_and_a_warning_a_note() {
        let mut status = Status::default();
        let verdicts = |status: &Status| -> Vec<_> {
            judge(status).iter().map(|found| found.verdict).collect()
        };
        assert_eq!(verdicts(&status), [Ok]);
        status.warnings = vec!["not fully confined".to_owned()];
        for (outcome, verdict) in [
            (ReloadOutcome::Applied, Ok),
            (ReloadOutcome::Failed, Problem),
        ] {
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
