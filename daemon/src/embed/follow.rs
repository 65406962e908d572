//! Follows the name servers and the hosts file of an embedded proxy (SPEC L14, E1).
//!
//! A library does not know what else its process watches, so it looks every few seconds. Roots are
//! read once for all proxies of the process: children were given a bundle of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{ResolvConf, Settings};

use super::running::Running;
use crate::watched::{Collection, WatchedPath};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the files until the proxy ends.
pub(super) fn start(running: &Arc<Running>) {
    if running.engine.current().name_servers().is_none() {
        // The embedder resolves names itself, so there are no files to follow.
        return;
    }
    let drain = running.engine.drain().clone();
    // Weak: the task must not keep a proxy alive whose handle was dropped.
    let watched = Arc::downgrade(running);
    drain.spawn_until_begun(async move {
        let mut seen = SeenFiles::default();
        let mut looks = tokio::time::interval(POLL_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Some(running) = watched.upgrade() else {
                return;
            };
            // Not while other settings come into force.
            let _turn = running.turn().await;
            let engine = running.engine.clone();
            let look = tokio::task::spawn_blocking(move || {
                let settings = Arc::clone(engine.current().settings());
                let seen = seen.look(&settings);
                let renewed = match seen.change {
                    FileChange::None => return seen,
                    FileChange::Unknown | FileChange::Seen => engine.renew(&engine.current().supplied().files),
                };
                match (renewed, seen.change) {
                    (Ok(()), FileChange::Seen) => {
                        tracing::info!("name servers or the hosts file have changed: read again");
                    }
                    (Ok(()), _) => {}
                    (Err(error), _) => tracing::warn!(
                        "name servers or the hosts file have changed: {:#}; the old ones stay in force",
                        anyhow::Error::new(error)
                    ),
                }
                seen
            });
            match look.await {
                Ok(looked) => seen = looked,
                // It panicked, or the runtime ends.
                Err(_) => return,
            }
        }
    });
}

/// The files as they were at the last look.
#[derive(Debug, Default)]
struct SeenFiles {
    paths: Option<Vec<WatchedPath>>,
    change: FileChange,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FileChange {
    #[default]
    None,
    /// This is the first look. The files may have changed since the proxy was built.
    Unknown,
    Seen,
}

impl SeenFiles {
    fn look(self, settings: &Settings) -> Self {
        let resolver = &settings.daemon.resolver;
        let resolv_conf = Path::new(ResolvConf::PATH);
        let resolv_conf = resolver.nameservers.is_empty().then_some(resolv_conf);
        let hosts_file = resolver.hosts_file.as_deref();
        let paths = Collection::of_resolver(hosts_file, resolv_conf).stamped();
        Self {
            change: match self.paths {
                None => FileChange::Unknown,
                Some(before) if before == paths => FileChange::None,
                Some(_) => FileChange::Seen,
            },
            paths: Some(paths),
        }
    }
}
