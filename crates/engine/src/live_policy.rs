//! The settings in force: swapped whole, numbered, and watched.
//!
//! A request takes one [`Generation`] when it is judged and keeps it, so no request is ever judged
//! by half of one policy and half of another (SPEC C7). Tunnels and pools watch the number.

use std::sync::Arc;

use arc_swap::ArcSwap;
use codex_network_config::{Settings, Supplied, SystemFiles, Widening};
use codex_network_policy::{LocalAddresses, Mode, Policy};
use tokio::sync::watch;

use crate::interceptor::Interceptor;
use crate::resolve::{DnsResolver, NameServers, Resolve, Resolver};
use crate::tls::UpstreamTls;

/// The number of a generation. It counts up from 1 with every change of the settings, mode changes
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationNumber(u64);

impl GenerationNumber {
    const FIRST: Self = Self(1);

    /// The number, for messages.
    pub fn get(self) -> u64 {
        self.0
    }

    fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// Settings and what was supplied, with everything that was made from them.
pub struct Generation {
    number: GenerationNumber,
    /// Counts up with the number, and with every change of the system's files.
    connections: u64,
    settings: Arc<Settings>,
    supplied: Supplied,
    resolver: Resolver,
    /// Shared by all generations.
    machine: Arc<dyn LocalAddresses>,
    tls: Arc<UpstreamTls>,
    interceptor: Option<Arc<Interceptor>>,
    /// Limited mode was set at run time. Other settings may not lift it: a reload, which many
    /// callers may ask for, is not a decision to permit more.
    narrowed: bool,
}

/// Holds the generation in force.
pub struct LivePolicy {
    current: ArcSwap<Generation>,
    number: watch::Sender<GenerationNumber>,
}

impl Generation {
    /// The number of this generation.
    pub fn number(&self) -> GenerationNumber {
        self.number
    }

    /// Counts the generations of connections: a kept connection is used again only under the same
    /// number. It goes up with every change of the settings, and when the name servers, the hosts
    /// file or the roots change, since these decided where the connection leads.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Input of the process besides the settings.
    pub fn supplied(&self) -> &Supplied {
        &self.supplied
    }

    /// The policy among the settings.
    pub fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    /// The client's side of TLS.
    pub(crate) fn tls(&self) -> &Arc<UpstreamTls> {
        &self.tls
    }

    /// Intercepts TLS; `None` where that is not possible.
    pub(crate) fn interceptor(&self) -> Option<&Arc<Interceptor>> {
        self.interceptor.as_ref()
    }

    /// Whether TLS can be intercepted.
    pub fn intercepts(&self) -> bool {
        self.interceptor.is_some()
    }

    /// Knows the addresses of this machine, as of the moment when it is asked.
    pub fn machine(&self) -> &dyn LocalAddresses {
        self.machine.as_ref()
    }

    pub(crate) fn resolver(&self) -> &dyn Resolve {
        self.resolver.as_resolve()
    }

    /// The resolver that the settings describe; `None` if the owner resolves names in another way.
    pub(crate) fn dns(&self) -> Option<&Arc<DnsResolver>> {
        match &self.resolver {
            Resolver::Dns(resolver) => Some(resolver),
            Resolver::Own(_) => None,
        }
    }

    /// The name servers in use and their health; `None` if the owner resolves names in another way.
    pub fn name_servers(&self) -> Option<NameServers> {
        self.dns().map(|resolver| resolver.name_servers())
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number.get())
            .finish_non_exhaustive()
    }
}

impl LivePolicy {
    /// Starts with generation 1.
    pub(crate) fn new(
        settings: Arc<Settings>,
        supplied: Supplied,
        resolver: Resolver,
        machine: Arc<dyn LocalAddresses>,
        tls: Arc<UpstreamTls>,
        interceptor: Option<Arc<Interceptor>>,
    ) -> Self {
        let first = Generation {
            number: GenerationNumber::FIRST,
            connections: 1,
            settings,
            supplied,
            resolver,
            machine,
            tls,
            interceptor,
            narrowed: false,
        };
        Self {
            current: ArcSwap::from_pointee(first),
            number: watch::Sender::new(GenerationNumber::FIRST),
        }
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Resolves at every change after the call.
    pub(crate) fn watch(&self) -> watch::Receiver<GenerationNumber> {
        self.number.subscribe()
    }

    /// Puts other settings in force. Limited mode that was set at run time stays. Returns their number.
    pub(crate) fn replace(
        &self,
        settings: &Arc<Settings>,
        supplied: &Supplied,
        resolver: &Resolver,
        tls: &Arc<UpstreamTls>,
        interceptor: Option<&Arc<Interceptor>>,
    ) -> GenerationNumber {
        self.swap(|old| Generation {
            number: old.number.next(),
            connections: old.connections + 1,
            settings: if old.narrowed {
                Arc::new(in_mode(settings, Mode::Limited))
            } else {
                Arc::clone(settings)
            },
            supplied: supplied.clone(),
            resolver: resolver.clone(),
            machine: Arc::clone(&old.machine),
            tls: Arc::clone(tls),
            interceptor: interceptor.cloned(),
            narrowed: old.narrowed,
        })
    }

    /// Puts changed files of the system in force, under the settings in force. The policy
    /// and its number stay the same, so requests under way and open tunnels go on.
    pub(crate) fn renew(&self, files: &SystemFiles, resolver: &Resolver, tls: &Arc<UpstreamTls>) {
        self.swap(|old| Generation {
            number: old.number,
            connections: old.connections + 1,
            settings: Arc::clone(&old.settings),
            supplied: Supplied {
                files: files.clone(),
                ..old.supplied.clone()
            },
            resolver: resolver.clone(),
            machine: Arc::clone(&old.machine),
            tls: Arc::clone(tls),
            interceptor: old.interceptor.clone(),
            narrowed: old.narrowed,
        });
    }

    /// Changes the mode and nothing else, if the requirements permit it (SPEC C6). Returns the
    /// number of the new generation.
    pub(crate) fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        self.current.load().settings.managed.permit_mode(mode)?;
        Ok(self.swap(|old| {
            // A reload since the check above may have added a requirement.
            let settings = in_mode(&old.settings, old.settings.managed.narrow(mode));
            Generation {
                number: old.number.next(),
                connections: old.connections + 1,
                settings: Arc::new(settings),
                supplied: old.supplied.clone(),
                resolver: old.resolver.clone(),
                machine: Arc::clone(&old.machine),
                tls: Arc::clone(&old.tls),
                interceptor: old.interceptor.clone(),
                narrowed: mode == Mode::Limited,
            }
        }))
    }

    fn swap(&self, next: impl Fn(&Generation) -> Generation) -> GenerationNumber {
        let mut number = GenerationNumber::FIRST;
        self.current.rcu(|old| {
            let new = next(old);
            number = new.number;
            new
        });
        // Two swaps may notify in either order; the watched number only ever grows.
        self.number.send_if_modified(|seen| {
            let newer = number > *seen;
            *seen = number.max(*seen);
            newer
        });
        number
    }
}

/// These settings with another mode, which was set at run time.
fn in_mode(settings: &Settings, mode: Mode) -> Settings {
    let mut settings = settings.clone();
    settings.policy = Arc::new(settings.policy.with_mode(mode));
    Arc::make_mut(&mut settings.lines).set_at_run_time("mode");
    settings
}
