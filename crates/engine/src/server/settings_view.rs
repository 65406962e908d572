//! The settings in force as one client sees them: a session, or all clients outside of sessions.

use std::sync::Arc;

use super::Engine;
use crate::live_policy::Generation;

/// The settings in force as one session or all other clients see them.
#[derive(Clone)]
pub struct SettingsView(pub(crate) Engine);

impl SettingsView {
    /// The settings.
    pub fn current(&self) -> Arc<Generation> {
        self.0.current()
    }
}

impl std::fmt::Debug for SettingsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettingsView").finish_non_exhaustive()
    }
}
