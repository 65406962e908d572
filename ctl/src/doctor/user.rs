//! The worker's user: whether it exists and has no other use, and whether the worker runs as it.

use std::path::PathBuf;

use nix::unistd::{Uid, User};
use serde_json::Value;

use super::facts::Facts;
use super::finding::Finding;
use crate::listener::user_or_uid;

/// The worker's user, unless `[daemon] user` names another.
const DEFAULT_USER: &str = if cfg!(target_os = "macos") {
    "_codexnetproxy"
} else {
    "codex-network-proxy"
};
/// The worker's user if that one does not exist.
const FALLBACK_USER: &str = "nobody";
/// System users have a uid below this one (`SYS_UID_MAX` of login.defs; macOS).
const MIN_REGULAR_UID: u32 = if cfg!(target_os = "macos") { 500 } else { 1000 };

/// Facts about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    shell: PathBuf,
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let has_service = facts.init_system.has_service();
    let Some(answers) = facts.proxy.running() else {
        let settings = facts.configured().settings();
        let name = settings.and_then(|settings| settings.daemon.user.as_deref());
        let name = name.unwrap_or(DEFAULT_USER);
        let user = User::from_name(name).ok().flatten().map(account);
        return vec![absent(name, user.as_ref(), has_service)];
    };
    let (Some(monitor), Some(worker)) = (answers.monitor(), answers.role("worker")) else {
        return vec![Finding::skipped(
            "the proxy does not report which user its worker runs as",
        )];
    };
    let configured = answers.setting(&["daemon", "user"]).and_then(Value::as_str);
    let user = User::from_uid(Uid::from_raw(worker.uid)).ok().flatten();
    let user = user.map(account);
    vec![running(monitor.uid, worker.uid, user.as_ref(), configured)]
}

fn account(user: User) -> Account {
    Account {
        name: user.name,
        uid: user.uid.as_raw(),
        shell: user.shell,
    }
}

/// The worker of a running proxy; `user` is the system's entry for its user.
fn running(monitor: u32, worker: u32, user: Option<&Account>, configured: Option<&str>) -> Finding {
    if monitor != 0 {
        let name = user_or_uid(worker);
        return Finding::ok(format!("the proxy runs without privilege, as {name}"));
    }
    if worker == 0 {
        return Finding::problem(
            "the worker runs as root",
            "stop the proxy and report this bug: it must never happen",
        );
    }
    let Some(user) = user else {
        return Finding::problem(
            format!("the worker runs as uid {worker}, which is not a user of this system"),
            "systemctl restart codex-network-proxy",
        );
    };
    if configured.is_none() && user.name == FALLBACK_USER {
        return Finding::note(format!(
            "the worker runs as {FALLBACK_USER}, which other services may share, since there was no user {DEFAULT_USER} when the proxy started"
        ))
        .advise("systemd-sysusers, or useradd --system --no-create-home --shell /usr/sbin/nologin codex-network-proxy, then restart the proxy");
    }
    let wanted = configured.unwrap_or(DEFAULT_USER);
    if user.name != wanted {
        return Finding::problem(
            format!("the worker runs as {}, not as {wanted}", user.name),
            format!("make the user {wanted}, then restart the proxy"),
        );
    }
    unfitness(user).unwrap_or_else(|| {
        Finding::ok(format!(
            "the worker runs as {} (uid {})",
            user.name, user.uid
        ))
    })
}

/// The user of the next proxy's worker.
fn absent(name: &str, user: Option<&Account>, has_service: bool) -> Finding {
    match user {
        Some(user) => unfitness(user)
            .unwrap_or_else(|| Finding::ok(format!("{name} exists (uid {})", user.uid))),
        None if has_service => Finding::problem(
            format!("there is no user {name}, which the worker should run as"),
            "systemd-sysusers",
        ),
        None => Finding::note(format!(
            "there is no user {name}: a proxy that root starts has a worker that runs as nobody"
        )),
    }
}

/// The problem of a user who can log in, or is not a system user.
fn unfitness(user: &Account) -> Option<Finding> {
    let name = &user.name;
    let shell = user.shell.to_string_lossy();
    let cannot_log_in = shell.ends_with("/nologin") || shell.ends_with("/false");
    if !cannot_log_in {
        let shell = if shell.is_empty() { "/bin/sh" } else { &shell };
        return Some(Finding::problem(
            format!(
                "{name} can log in (shell {shell}), so a person with this account could interfere with the worker"
            ),
            if cfg!(target_os = "macos") {
                format!("sudo dscl . -create /Users/{name} UserShell /usr/bin/false")
            } else {
                format!("sudo usermod --shell /usr/sbin/nologin {name}")
            },
        ));
    }
    (user.uid >= MIN_REGULAR_UID).then(|| {
        Finding::note(format!(
            "{name} (uid {}) has the uid of a regular user; the worker should run as a system user that owns nothing else",
            user.uid
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    fn user(name: &str, uid: u32, shell: &str) -> Account {
        Account {
            name: name.to_owned(),
            uid,
            shell: shell.into(),
        }
    }

    #[test]
    fn c5_the_workers_user_is_judged() {
        let good = user(DEFAULT_USER, 100, "/usr/sbin/nologin");
        let bash = user(DEFAULT_USER, 100, "/bin/bash");
        let silent = user(DEFAULT_USER, 100, "");
        let person = user(DEFAULT_USER, 1001, "/bin/false");
        let other = user("other", 7, "/usr/sbin/nologin");
        let nobody = user("nobody", 65534, "/usr/sbin/nologin");
        for (monitor, worker, user, verdict, text) in [
            (1000, 1000, None, Ok, "without privilege"),
            (0, 0, None, Problem, "as root"),
            (0, 77, None, Problem, "not a user of this system"),
            (0, 100, Some(&good), Ok, "uid 100"),
            (0, 100, Some(&bash), Problem, "/bin/bash"),
            (0, 100, Some(&silent), Problem, "/bin/sh"),
            (0, 1001, Some(&person), Note, "the uid of a regular user"),
            (0, 65534, Some(&nobody), Note, "as nobody"),
            (
                0,
                7,
                Some(&other),
                Problem,
                "as other, not as codex-network-proxy",
            ),
        ] {
            let found = running(monitor, worker, user, None);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.found.contains(text), "{text}: {found:?}");
        }
        assert_eq!(absent(DEFAULT_USER, Some(&good), true).verdict, Ok);
        assert_eq!(absent(DEFAULT_USER, Some(&bash), false).verdict, Problem);
        assert_eq!(absent(DEFAULT_USER, None, true).verdict, Problem);
        assert_eq!(absent(DEFAULT_USER, None, false).verdict, Note);
    }
}
