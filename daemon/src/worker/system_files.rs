//! Puts changed files of the system in force, and says in one line what has changed (SPEC L14).

use std::collections::HashSet;

use codex_network_config::SystemFiles;
use codex_network_engine::{Engine, Generation};

/// Name servers in a log line.
const MAX_LOGGED: usize = 8;

/// Puts files in force, under the settings in force. Files with the same content change nothing.
pub(super) fn renew(engine: &Engine, files: &SystemFiles) {
    let before = engine.current();
    let old = &before.supplied().files;
    if old == files {
        return;
    }
    if let Err(error) = engine.renew(files) {
        tracing::error!(
            "cannot use the changed name servers, hosts or roots: {:#}; the old ones stay in force",
            anyhow::Error::new(error)
        );
        return;
    }
    let changes = changes(&before, &engine.current(), old, files);
    tracing::info!("taken over without a reload: {}", changes.join("; "));
}

fn changes(
    before: &Generation,
    after: &Generation,
    old: &SystemFiles,
    new: &SystemFiles,
) -> Vec<String> {
    let mut changes = Vec::new();
    let (from, to) = (name_servers(before), name_servers(after));
    if from != to {
        changes.push(format!("name servers {from} -> {to}"));
    } else if old.resolver.resolv_conf != new.resolver.resolv_conf {
        changes.push(format!("resolv.conf, with the same name servers {to}"));
    }
    if old.resolver.hosts != new.resolver.hosts {
        changes.push("hosts file".to_owned());
    }
    if old.roots != new.roots {
        let (from, to): (HashSet<_>, HashSet<_>) =
            (old.roots.iter().collect(), new.roots.iter().collect());
        changes.push(format!(
            "roots: {} added, {} removed",
            to.difference(&from).count(),
            from.difference(&to).count()
        ));
    } else if old.ca != new.ca {
        changes.push("public files of the CA".to_owned());
    }
    changes
}

/// The name servers in use, in one line.
fn name_servers(generation: &Generation) -> String {
    let servers = generation.name_servers().map(|it| it.servers);
    let mut servers = servers.unwrap_or_default().into_iter();
    let shown: Vec<String> = servers
        .by_ref()
        .take(MAX_LOGGED)
        .map(|server| server.address.to_string())
        .collect();
    if shown.is_empty() {
        return "none".to_owned();
    }
    let more = servers.len();
    let shown = shown.join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}
