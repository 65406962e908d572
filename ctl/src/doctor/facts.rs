//! The facts that several checks use, gathered once.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::configured::Configured;
use super::init_system::InitSystem;
use super::proxy::{self, Proxy};
use crate::args::Check;
use crate::failure::Failure;

/// Facts for more than one check.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) init_system: InitSystem,
    pub(super) proxy: Proxy,
    pub(super) configured: OnceLock<Configured>,
}

impl Facts {
    /// Asks the service manager, and the proxy if one of the checks needs it or `socket` names it.
    pub(super) fn gather(socket: Option<PathBuf>, checks: &[Check]) -> Result<Self, Failure> {
        let mut init_system = InitSystem::ask();
        // Connecting may start a service whose socket waits for its first client. A user who checks
        // only ports and units may be about to install it, and an installed service reports enough
        // about itself.
        let needing_no_proxy = [Check::Service, Check::Sockets, Check::Ports];
        let is_needed = checks.iter().any(|check| !needing_no_proxy.contains(check));
        let mut proxy = Proxy::NotAsked;
        if is_needed || socket.is_some() || !init_system.has_service() {
            proxy = proxy::ask(socket)?;
            // The service runs now, or has failed to start.
            init_system = InitSystem::ask();
        }
        Ok(Self {
            init_system,
            proxy,
            configured: OnceLock::new(),
        })
    }

    /// The configuration as a proxy would read it if it started now.
    pub(super) fn configured(&self) -> &Configured {
        self.configured
            .get_or_init(|| Configured::read(&self.init_system))
    }
}
