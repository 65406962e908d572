//! The settings in force: swapped whole, numbered, and watched.
//!
//! A request takes one [`Generation`] when it is judged and keeps it, so no request is ever judged
//! by half of one policy and half of another (SPEC C7). Tunnels and pools watch the number.

use std::sync::Arc;

use arc_swap::ArcSwap;
use codex_network_config::Settings;
use codex_network_policy::{Mode, Policy};
use tokio::sync::watch;

use crate::upstream::Resolve;

/// Settings with what was made from them.
pub struct Generation {
    number: u64,
    settings: Arc<Settings>,
    resolver: Arc<dyn Resolve>,
}

/// Holds the generation in force.
pub struct LivePolicy {
    current: ArcSwap<Generation>,
    number: watch::Sender<u64>,
}

impl Generation {
    /// Counts up from 1 with every change, mode changes included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The policy among the settings.
    pub fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    pub(crate) fn resolver(&self) -> &Arc<dyn Resolve> {
        &self.resolver
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl LivePolicy {
    /// Starts with generation 1.
    pub(crate) fn new(settings: Arc<Settings>, resolver: Arc<dyn Resolve>) -> Self {
        let first = Generation {
            number: 1,
            settings,
            resolver,
        };
        Self {
            current: ArcSwap::from_pointee(first),
            number: watch::Sender::new(1),
        }
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Resolves at every change after the call.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// Puts other settings in force. Returns their number.
    pub(crate) fn replace(&self, settings: &Arc<Settings>, resolver: &Arc<dyn Resolve>) -> u64 {
        self.swap(|_| (Arc::clone(settings), Arc::clone(resolver)))
    }

    /// Changes the mode and nothing else. Returns the number of the new generation.
    pub(crate) fn set_mode(&self, mode: Mode) -> u64 {
        self.swap(|old| {
            let mut settings = Settings::clone(&old.settings);
            settings.policy = Arc::new(settings.policy.with_mode(mode));
            (Arc::new(settings), Arc::clone(&old.resolver))
        })
    }

    fn swap(&self, next: impl Fn(&Generation) -> (Arc<Settings>, Arc<dyn Resolve>)) -> u64 {
        let old = self.current.rcu(|old| {
            let (settings, resolver) = next(old);
            Generation {
                number: old.number + 1,
                settings,
                resolver,
            }
        });
        let number = old.number + 1;
        // Two swaps may get here in either order; the watched number only ever grows.
        self.number.send_if_modified(|seen| {
            let newer = number > *seen;
            *seen = number.max(*seen);
            newer
        });
        number
    }
}
