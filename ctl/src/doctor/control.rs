//! The control socket: which process answers, and who owns its file.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group};

use super::facts::Facts;
use super::finding::Finding;
use super::proxy::Proxy;
use crate::find;
use crate::listener::user_or_uid;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.proxy {
        Proxy::NotAsked => Finding::skipped("the proxy was not contacted"),
        Proxy::NotFound(tried) => Finding::problem(
            format!("no proxy answers; tried {}", tried.join("; ")),
            facts.init_system.start(),
        ),
        Proxy::Refuses(why) => Finding::note(why).advise(find::how_to_be_admitted()),
        Proxy::Invalid(why) => Finding::problem(why, facts.init_system.restart()),
        Proxy::Running(answers) => {
            let path = &answers.socket;
            let owners = answers.monitor().map(|monitor| monitor.uid);
            match std::fs::symlink_metadata(path) {
                Ok(file) => judge(path, (file.uid(), file.gid(), file.mode()), owners),
                Err(error) => Finding::note(format!(
                    "{} answers, but its file cannot be inspected: {error}",
                    path.display()
                )),
            }
        }
    }]
}

/// Only the file's owner is checked. The proxy decides who may call, and the mode follows from that
/// (SPEC K3).
fn judge(path: &Path, (uid, gid, mode): (u32, u32, u32), proxy: Option<u32>) -> Finding {
    let path = path.display();
    let owner = user_or_uid(uid);
    if uid != 0 && Some(uid) != proxy {
        return Finding::problem(
            format!(
                "{path} answers, but its file belongs to {owner}, and the proxy runs as another user"
            ),
            format!(
                "ls -l {path}: find out which program made it, remove it, and start the proxy again"
            ),
        );
    }
    let mode = mode & 0o777;
    Finding::ok(format!(
        "{path} answers; of {owner}, group {}, mode {mode:04o}",
        group(gid)
    ))
}

/// A group's name, or number.
fn group(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => format!("{gid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Problem};
    use super::*;

    #[test]
    fn k3_the_socket_belongs_to_root_or_to_the_user_of_the_proxy() {
        let path = Path::new("/s");
        for (uid, proxy, verdict) in [
            (0, Some(0), Ok),
            (1000, Some(1000), Ok),
            // systemd's socket, a user's proxy.
            (0, Some(1000), Ok),
            (0, None, Ok),
            (1000, Some(0), Problem),
            (1000, None, Problem),
        ] {
            let found = judge(path, (uid, 0, 0o140_660), proxy);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
        let found = judge(path, (0, 0, 0o140_660), None);
        assert!(found.found.contains("mode 0660"), "{found:?}");
    }
}
