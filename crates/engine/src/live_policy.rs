//! The settings in force: swapped whole, numbered, and watched.
//!
//! A request takes one [`Generation`] when it is judged and keeps it, so no request is ever judged
//! by half of one policy and half of another (SPEC C7). Tunnels and pools watch the number.

use std::sync::Arc;

use arc_swap::ArcSwap;
use codex_network_config::{
    CredentialReadings, DestinationScheme, Settings, Supplied, SystemFiles, Widening,
};
use codex_network_policy::{
    Authority, HostCredentials, LocalAddresses, Mode, Narrowing, NarrowingError, Policy, Scrutiny,
};
use tokio::sync::watch;

use crate::broker::SessionCredentials;
use crate::interceptor::{Interceptor, LeafSource};
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
    /// Those of the session, or of the clients without a session, that may be used under these settings.
    credentials: Option<Arc<SessionCredentials>>,
    /// Limited mode was set at run time. Other settings may not lift it: a reload, which many
    /// callers may ask for, is not a decision to permit more.
    narrowed: bool,
}

/// Holds the generation in force, as one session or as all other clients see it.
pub struct LivePolicy {
    in_force: Arc<InForce>,
    /// `None` for clients without a session, and for sessions without rules.
    session: Option<Box<SessionView>>,
}

/// The generation in force for clients without a session.
struct InForce {
    current: ArcSwap<Generation>,
    number: watch::Sender<GenerationNumber>,
    /// Those of these clients.
    credentials: Option<Arc<SessionCredentials>>,
}

/// The rules of a session, which change the settings in force for its clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionRules {
    /// The permission profile; `None` for the one in force.
    pub(crate) profile: Option<String>,
    pub(crate) narrowing: Narrowing,
}

/// The settings as one session sees them.
struct SessionView {
    rules: SessionRules,
    leaves: Option<LeafSource>,
    credentials: Option<Arc<SessionCredentials>>,
    /// The generation in force when they were last derived, and the result.
    derived: ArcSwap<(Arc<Generation>, Arc<Generation>)>,
}

/// Why a session has no settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionRulesError {
    #[error("there is no permission profile {0:?}")]
    NoProfile(String),
    #[error(transparent)]
    Narrowing(#[from] NarrowingError),
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

    /// The credentials of the session, if these are its settings, or of the clients without a session.
    pub(crate) fn credentials(&self) -> Option<&Arc<SessionCredentials>> {
        self.credentials.as_ref()
    }

    /// Those that requests of this scheme may carry. Plain HTTP is read on its way (SPEC B3).
    pub(crate) fn usable_credentials(
        &self,
        scheme: DestinationScheme,
    ) -> Option<&Arc<SessionCredentials>> {
        let plainly = self.settings.plaintext_credential_injection;
        let credentials = self.credentials.as_ref();
        credentials.filter(|_| scheme == DestinationScheme::Https || plainly)
    }

    /// Whether requests of this scheme to this host and port may carry a credential of the session, or could before
    /// a reload.
    pub(crate) fn is_reached(&self, scheme: DestinationScheme, authority: &Authority) -> bool {
        let plainly = self.settings.plaintext_credential_injection;
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(|all| all.reach(scheme, &authority.host, authority.port, plainly))
    }

    /// The part of a request of this scheme that is judged: the whole head where a credential may go, since
    /// paths and methods bound it (SPEC B3).
    pub(crate) fn scrutiny(&self, scheme: DestinationScheme, authority: &Authority) -> Scrutiny {
        if self.is_reached(scheme, authority) {
            Scrutiny::Head
        } else {
            self.policy().scrutiny(&authority.host)
        }
    }

    /// The credentials of the session for this host and port (SPEC M1).
    pub(crate) fn credentials_for(&self, authority: &Authority) -> HostCredentials {
        let schemes = [DestinationScheme::Https, DestinationScheme::Http];
        let mut usable = schemes
            .into_iter()
            .filter_map(|scheme| Some((scheme, self.usable_credentials(scheme)?)));
        if usable.any(|(scheme, all)| all.require(scheme, &authority.host, authority.port)) {
            HostCredentials::Required
        } else if schemes
            .iter()
            .any(|scheme| self.is_reached(*scheme, authority))
        {
            HostCredentials::Usable
        } else {
            HostCredentials::None
        }
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
    /// Starts with generation 1. `credentials` are those of the clients without a session.
    pub(crate) fn new(
        settings: Arc<Settings>,
        supplied: Supplied,
        resolver: Resolver,
        machine: Arc<dyn LocalAddresses>,
        tls: Arc<UpstreamTls>,
        interceptor: Option<Arc<Interceptor>>,
        credentials: Option<Arc<SessionCredentials>>,
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
            credentials: credentials.clone(),
            narrowed: false,
        };
        Self {
            in_force: Arc::new(InForce {
                current: ArcSwap::from_pointee(first),
                number: watch::Sender::new(GenerationNumber::FIRST),
                credentials,
            }),
            session: None,
        }
    }

    /// The settings as a session sees them. They follow every change.
    ///
    /// # Errors
    ///
    /// Returns an error if the rules cannot be applied to the settings in force. If a later change has
    /// this effect, everything is refused.
    pub(crate) fn for_session(
        &self,
        rules: SessionRules,
        leaves: Option<&LeafSource>,
        credentials: Option<Arc<SessionCredentials>>,
    ) -> Result<Self, SessionRulesError> {
        if rules.are_none() && credentials.is_none() {
            return Ok(Self {
                in_force: Arc::clone(&self.in_force),
                session: None,
            });
        }
        let base = self.in_force.current.load_full();
        let settings = rules.apply(&base)?;
        let first = derived(&base, settings, None, leaves, credentials.as_ref());
        Ok(Self {
            in_force: Arc::clone(&self.in_force),
            session: Some(Box::new(SessionView {
                rules,
                leaves: leaves.cloned(),
                credentials,
                derived: ArcSwap::from_pointee((base, Arc::new(first))),
            })),
        })
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Generation> {
        let base = self.in_force.current.load_full();
        match &self.session {
            None => base,
            Some(session) => session.under(base),
        }
    }

    /// Resolves at every change after the call.
    pub(crate) fn watch(&self) -> watch::Receiver<GenerationNumber> {
        self.in_force.number.subscribe()
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
            credentials: None,
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
            credentials: None,
            narrowed: old.narrowed,
        });
    }

    /// Puts values of credentials in force that were read again. Everything else stays as it is.
    pub(crate) fn renew_credentials(&self, credentials: &CredentialReadings) {
        self.swap(|old| Generation {
            number: old.number,
            connections: old.connections,
            settings: Arc::clone(&old.settings),
            supplied: Supplied {
                credentials: credentials.clone(),
                ..old.supplied.clone()
            },
            resolver: old.resolver.clone(),
            machine: Arc::clone(&old.machine),
            tls: Arc::clone(&old.tls),
            interceptor: old.interceptor.clone(),
            credentials: None,
            narrowed: old.narrowed,
        });
    }

    /// Changes the mode and nothing else, if the requirements permit it (SPEC C6). Returns the
    /// number of the new generation.
    pub(crate) fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        let current = self.in_force.current.load();
        current.settings.managed.permit_mode(mode)?;
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
                credentials: None,
                narrowed: mode == Mode::Limited,
            }
        }))
    }

    fn swap(&self, next: impl Fn(&Generation) -> Generation) -> GenerationNumber {
        let mut number = GenerationNumber::FIRST;
        self.in_force.current.rcu(|old| {
            let mut new = next(old);
            let credentials = self.in_force.credentials.as_ref();
            new.credentials = credentials.map(|all| Arc::new(all.under(&new.settings)));
            number = new.number;
            new
        });
        // Two swaps may notify in either order; the watched number only ever grows.
        self.in_force.number.send_if_modified(|seen| {
            let newer = number > *seen;
            *seen = number.max(*seen);
            newer
        });
        number
    }
}

impl SessionView {
    /// The session's settings under this generation. They are derived once for each.
    fn under(&self, base: Arc<Generation>) -> Arc<Generation> {
        let last = self.derived.load();
        if Arc::ptr_eq(&last.0, &base) {
            return Arc::clone(&last.1);
        }
        let settings = self.rules.apply(&base).unwrap_or_else(|error| {
            tracing::warn!("a session is refused everything from now on: {error}");
            closed(&base.settings)
        });
        let interceptor = last.1.interceptor.as_ref();
        let new = Arc::new(derived(
            &base,
            settings,
            interceptor,
            self.leaves.as_ref(),
            self.credentials.as_ref(),
        ));
        self.derived.store(Arc::new((base, Arc::clone(&new))));
        new
    }
}

impl SessionRules {
    /// Whether the settings in force are those of the session.
    fn are_none(&self) -> bool {
        let Self { profile, narrowing } = self;
        profile.is_none() && *narrowing == Narrowing::default()
    }

    /// The settings in force with these rules.
    pub(crate) fn apply(&self, base: &Generation) -> Result<Settings, SessionRulesError> {
        let in_force = &base.settings;
        let mut settings = match &self.profile {
            // Without a usable configuration everything is refused (SPEC L16).
            Some(_) if in_force.policy.is_unusable() => Settings::clone(in_force),
            None => Settings::clone(in_force),
            Some(name) => {
                let settings = in_force.with_profile(name);
                let settings =
                    settings.ok_or_else(|| SessionRulesError::NoProfile(name.clone()))?;
                if base.narrowed {
                    in_mode(&settings, Mode::Limited)
                } else {
                    settings
                }
            }
        };
        settings.policy = Arc::new(settings.policy.narrowed(&self.narrowing)?);
        Ok(settings)
    }
}

/// These settings, refusing everything.
fn closed(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.policy = Arc::new(settings.policy.closed());
    settings
}

/// A generation with other settings. `interceptor` was made for the last one.
fn derived(
    base: &Generation,
    settings: Settings,
    interceptor: Option<&Arc<Interceptor>>,
    leaves: Option<&LeafSource>,
    credentials: Option<&Arc<SessionCredentials>>,
) -> Generation {
    let old = base.interceptor.as_ref().or(interceptor);
    let interceptor = Interceptor::renewed(old, leaves, &settings, &base.supplied.files);
    Generation {
        number: base.number,
        connections: base.connections,
        credentials: credentials.map(|all| Arc::new(all.under(&settings))),
        settings: Arc::new(settings),
        supplied: base.supplied.clone(),
        resolver: base.resolver.clone(),
        machine: Arc::clone(&base.machine),
        tls: Arc::clone(&base.tls),
        interceptor,
        narrowed: base.narrowed,
    }
}

/// These settings with another mode, which was set at run time.
fn in_mode(settings: &Settings, mode: Mode) -> Settings {
    let mut settings = settings.clone();
    settings.policy = Arc::new(settings.policy.with_mode(mode));
    Arc::make_mut(&mut settings.lines).set_at_run_time("mode");
    settings
}
