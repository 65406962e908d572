//! Which users may change what the proxy depends on: the configuration, the requirements, the CA,
//! the directory of its sockets, and every directory on the way to them. Such a user can override
//! the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use codex_network_files::{Fault, Trust, Writer, as_typed};
use nix::unistd::Uid;
use serde_json::Value;

use super::configured::SYSTEM_FILES;
use super::facts::Facts;
use super::finding::Finding;
use crate::listener::user_or_uid;
use crate::output::counted;

/// How strictly a file is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protection {
    /// Only its owner may write.
    OwnerWrites,
    /// Only root may write: it binds all other users.
    RootWrites,
    /// Only its owner may write or read.
    Secret,
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let answers = facts.proxy.running();
    // The service's files belong to root; those of a user's own proxy may belong to that user.
    let owner = match answers.and_then(|answers| answers.monitor()) {
        Some(monitor) => monitor.uid,
        None if facts.init_system.has_service() => 0,
        None => Uid::effective().as_raw(),
    };
    let mut wanted: BTreeMap<PathBuf, Protection> = BTreeMap::new();
    let mut add = |path: PathBuf, protection: Protection| {
        let strictest = wanted.entry(path).or_insert(protection);
        *strictest = protection.max(*strictest);
    };
    let mut found = Vec::new();
    let from = working_directory(facts);
    let mut lost = |path: &Path| {
        found.push(Finding::skipped(&format!(
            "{} is relative to the proxy's working directory, which this user may not see",
            path.display()
        )));
    };
    for path in files(facts) {
        let protection = if path.ends_with("requirements.toml") {
            Protection::RootWrites
        } else {
            Protection::OwnerWrites
        };
        let Some(path) = absolute(&path, from.as_deref()) else {
            lost(&path);
            continue;
        };
        add(path, protection);
    }
    for (path, protection) in authority(facts) {
        match absolute(&path, from.as_deref()) {
            Some(path) => add(path, protection),
            None => lost(&path),
        }
    }
    let mut good = BTreeSet::new();
    let mut bad = BTreeSet::new();
    for (path, protection) in &wanted {
        let trusted = if *protection == Protection::RootWrites {
            0
        } else {
            owner
        };
        // The same rule as the proxy: it includes links and all directories above.
        match Trust::of_user(trusted).inspect(path) {
            Ok(way) => {
                for place in way {
                    match place.fault {
                        Some(fault) if bad.insert(place.path.clone()) => {
                            found.push(changeable(&fault));
                        }
                        Some(_) => {}
                        None => drop(good.insert(place.path)),
                    }
                }
                if *protection == Protection::Secret {
                    found.extend(readable(path));
                }
            }
            Err(error) => found.push(Finding::skipped(&error.to_string())),
        }
    }
    let good = good.difference(&bad).count();
    if good > 0 {
        let places = counted(good, "file or directory", "files and directories");
        found.insert(
            0,
            Finding::ok(format!(
                "{places} that only {} may change",
                user_or_uid(owner)
            )),
        );
    }
    found
}

/// The directory that relative paths start from: that of the running proxy, else our own.
fn working_directory(facts: &Facts) -> Option<PathBuf> {
    match facts.proxy.running() {
        Some(answers) => {
            let pid = answers.monitor()?.pid;
            std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
        }
        None => std::env::current_dir().ok(),
    }
}

/// Makes a path of the proxy absolute; `None` if it is relative to an unknown directory.
fn absolute(path: &Path, from: Option<&Path>) -> Option<PathBuf> {
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    Some(from?.join(path))
}

/// The configuration files: those that the proxy has read, else those that it would read.
fn files(facts: &Facts) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = SYSTEM_FILES.into_iter().map(PathBuf::from).collect();
    if let Some(answers) = facts.proxy.running() {
        files.extend(answers.status.files.iter().map(PathBuf::from));
    } else {
        let settings = facts.configured().settings().into_iter();
        files.extend(settings.flat_map(|settings| settings.files.clone()));
    }
    files
}

/// The CA's files, the state directory and the directory of the control socket, if the proxy
/// reports them.
fn authority(facts: &Facts) -> Vec<(PathBuf, Protection)> {
    let Some(answers) = facts.proxy.running() else {
        return Vec::new();
    };
    let path = |path: &[&str]| {
        answers
            .setting(path)
            .and_then(Value::as_str)
            .map(PathBuf::from)
    };
    let ca = answers.ca.as_ref();
    let public = ca
        .and_then(|ca| ca.certificate_file.clone())
        .map(PathBuf::from);
    let kept = ca.and_then(|ca| ca.kept_at.clone()).map(PathBuf::from);
    // Beside the certificate, unless the configuration names both.
    let key = path(&["mitm", "ca_key_path"])
        .or_else(|| Some(kept.as_deref()?.with_file_name("ca.key")))
        .filter(|_| kept.is_some());
    let state =
        path(&["daemon", "state_dir"]).or_else(|| public.as_deref()?.parent().map(Path::to_owned));
    // A user who can replace the control socket can impersonate the proxy.
    let control = std::path::absolute(&answers.socket).ok();
    let control = control.and_then(|socket| Some(socket.parent()?.to_owned()));
    [state, public, kept, control]
        .into_iter()
        .flatten()
        .map(|path| (path, Protection::OwnerWrites))
        .chain(key.map(|key| (key, Protection::Secret)))
        .collect()
}

fn changeable(fault: &Fault) -> Finding {
    let (path, mode) = (fault.path.display(), fault.mode);
    let found = match fault.writer {
        Writer::User(other) => format!(
            "{path} belongs to {}, who can change it",
            user_or_uid(other)
        ),
        Writer::Group(group) => {
            format!("{path} can be changed by the members of group {group} (mode {mode:04o})")
        }
        Writer::Everyone => format!("{path} can be changed by every user (mode {mode:04o})"),
    };
    Finding::problem(found, format!("sudo {}", fault.repair()))
}

/// A key that users other than its owner may read.
fn readable(path: &Path) -> Option<Finding> {
    let mode = path.metadata().ok()?.mode() & 0o7777;
    let (typed, path) = (as_typed(path), path.display());
    (mode & 0o077 != 0).then(|| {
        Finding::problem(
            format!("{path}, the CA's key, has mode {mode:04o}"),
            format!(
                "sudo chmod 0600 {typed}; if another user may have read it, remove the certificate and the key, then codex-network-proxy init"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::{Role, Status};

    use super::super::init_system::InitSystem;
    use super::super::proxy::{Proxy, RunningProxy};
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn c6_a_relative_path_counts_from_where_the_proxy_was_started() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;
        use std::process::{Command, Stdio};

        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.toml");
        std::fs::write(&file, "").expect("a file");
        std::fs::set_permissions(&file, Permissions::from_mode(0o646)).expect("it is ours");
        let mut proxy = Command::new("cat")
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("a process");
        let facts = |pid: u32| {
            let answers = RunningProxy {
                is_of_root: true,
                socket: directory.path().join("control.sock"),
                status: Status {
                    files: vec!["policy.toml".to_owned()],
                    roles: vec![Role {
                        name: "monitor".to_owned(),
                        pid,
                        uid: Uid::effective().as_raw(),
                        ..Role::default()
                    }],
                    ..Status::default()
                },
                config: None,
                ca: None,
            };
            Facts {
                init_system: InitSystem::None,
                proxy: Proxy::Running(Box::new(answers)),
                configured: std::sync::OnceLock::new(),
            }
        };
        let found = check(&facts(proxy.id()));
        // No process has this id. It stands in for a process of another user, whose files are
        // hidden too.
        let lost = check(&facts(0));
        drop(proxy.stdin.take());
        proxy.wait().expect("it ends");
        let advice = format!("sudo chmod go-w {}", file.display());
        assert!(
            found
                .iter()
                .any(|found| found.advice.as_deref() == Some(&advice)),
            "{found:?}"
        );
        assert!(
            lost.iter()
                .any(|found| found.found.starts_with("skipped: policy.toml is relative")),
            "{lost:?}"
        );
    }
}
