//! The parts of an embedded proxy, before it is built.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use codex_network_config::{
    CredentialProvider, Listen, Reach, Settings, Sources, Supplied, SystemFiles, UpstreamProxies,
    load,
};
use codex_network_engine::{
    AuditMetadata, BlockedEntry, Engine, EngineParts, ExecutionContext, LeafIssuer,
    NetworkPolicyDecider, OwnListener,
};
use codex_network_policy::Interception;
use nix::unistd::Uid;
use tokio::sync::mpsc;

use super::credentials::EmbedderCredentials;
use super::issuer::{self, EmbeddedIssuer};
use super::listener::{Listener, opt_in};
use super::observer::{BlockedRequestObserver, MAX_WAITING_REFUSALS};
use super::{NetworkProxy, NetworkProxyError};

/// Any free port of this machine's own.
const RESERVED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Builds a [`NetworkProxy`]. The defaults are those of the service without a configuration.
#[derive(Default)]
#[must_use = "a builder does nothing before it is built"]
pub struct NetworkProxyBuilder {
    configuration: Configuration,
    upstream_proxies: Option<Arc<UpstreamProxies>>,
    pub(super) listen_options: ListenOptions,
    http_listener: Option<TcpListener>,
    socks_listener: Option<TcpListener>,
    admin_listener: Option<TcpListener>,
    decider: Option<Arc<dyn NetworkPolicyDecider>>,
    decider_timeout: Option<Duration>,
    execution: ExecutionContext,
    observer: Option<Arc<dyn BlockedRequestObserver>>,
    metadata: AuditMetadata,
    bundle_directory: Option<PathBuf>,
    credentials: EmbedderCredentials,
}

/// The source of the settings.
pub(super) enum Configuration {
    /// The settings themselves.
    Settings(Box<Settings>),
    /// They are read when the proxy is built, and again at each reload.
    Sources(Sources),
}

/// The listen addresses that an embedder set. They take precedence over the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenOptions {
    pub(super) managed: bool,
    http: Option<SocketAddr>,
    socks: Option<SocketAddr>,
    /// `None`: there is no admin API.
    admin: Option<SocketAddr>,
    /// Which doors are permitted.
    pub(super) doors: PermittedDoors,
}

/// Which listeners a proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermittedDoors {
    All,
    Http,
    Socks5,
}

/// A door's requested address, and the bound socket, whose address counts as our own.
pub(super) struct Reserved {
    pub(super) requested: SocketAddr,
    pub(super) listener: TcpListener,
    pub(super) own: OwnListener,
}

impl Default for Configuration {
    fn default() -> Self {
        Self::Sources(Sources::none())
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            managed: true,
            http: None,
            socks: None,
            admin: None,
            doors: PermittedDoors::All,
        }
    }
}

impl NetworkProxyBuilder {
    /// Uses exactly these settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.configuration = Configuration::Settings(Box::new(settings));
        self
    }

    /// Uses a configuration from memory, in any of the forms that the service reads.
    pub fn config_toml(self, text: impl Into<String>) -> Self {
        self.sources(Sources::none().with_text("config_toml", text))
    }

    /// Uses the configuration of these sources, which [`reload`](super::NetworkProxyHandle::reload)
    /// reads again.
    pub fn sources(mut self, sources: Sources) -> Self {
        self.configuration = Configuration::Sources(sources);
        self
    }

    /// Sends requests through these proxies instead of those of the process's environment, if the settings
    /// have `allow_upstream_proxy` (SPEC H12). Without this call, a proxy that is built from
    /// [`settings`](Self::settings) connects directly. Settings that
    /// [`replace`](super::NetworkProxyHandle::replace) those of a running proxy do not change its proxies.
    pub fn upstream_proxies(mut self, proxies: UpstreamProxies) -> Self {
        self.upstream_proxies = Some(Arc::new(proxies));
        self
    }

    /// Whether the proxy chooses its ports (the default): each listener is bound to a free port of
    /// 127.0.0.1 while the proxy is built, and the same socket serves. With `false` it listens
    /// where [`http_addr`](Self::http_addr), [`socks_addr`](Self::socks_addr) or the settings say.
    pub fn managed_by_codex(mut self, managed: bool) -> Self {
        self.listen_options.managed = managed;
        self
    }

    /// The address of the HTTP door, with `managed_by_codex(false)`. An address that is not
    /// loopback is moved to loopback unless the settings have
    /// `dangerously_allow_non_loopback_proxy`.
    pub fn http_addr(mut self, address: SocketAddr) -> Self {
        self.listen_options.http = Some(address);
        self
    }

    /// The same for the SOCKS5 door, which exists only with `enable_socks5`.
    pub fn socks_addr(mut self, address: SocketAddr) -> Self {
        self.listen_options.socks = Some(address);
        self
    }

    /// Serves the admin API (SPEC section 8) too: at this address with `managed_by_codex(false)`,
    /// else at a free port of 127.0.0.1, which
    /// [`admin_addr`](super::NetworkProxyHandle::admin_addr) returns. Without this call there is no
    /// API, whatever the settings say: it asks for no credentials, and any program that can connect
    /// to it can change the mode unless the settings have `[daemon.admin] read_only = true`. Settings
    /// with `[daemon.admin] enabled = false` switch the API off despite this call. An address that is not
    /// loopback is moved to loopback unless the settings have `dangerously_allow_non_loopback_admin`.
    pub fn admin_addr(mut self, address: SocketAddr) -> Self {
        self.listen_options.admin = Some(address);
        self
    }

    /// Uses this bound listener as the HTTP door.
    pub fn http_listener(mut self, listener: TcpListener) -> Self {
        self.http_listener = Some(listener);
        self
    }

    /// Uses this bound listener as the SOCKS5 door.
    pub fn socks_listener(mut self, listener: TcpListener) -> Self {
        self.socks_listener = Some(listener);
        self
    }

    /// Serves the admin API, as with [`admin_addr`](Self::admin_addr), on this bound listener.
    pub fn admin_listener(mut self, listener: TcpListener) -> Self {
        let address = listener.local_addr().ok();
        self.listen_options.admin = self.listen_options.admin.or(address).or(Some(RESERVED));
        self.admin_listener = Some(listener);
        self
    }

    /// Called for hosts that are on neither list (SPEC P8).
    pub fn policy_decider(mut self, decider: impl NetworkPolicyDecider) -> Self {
        self.decider = Some(Arc::new(decider));
        self
    }

    /// How long the decider may take. After that the request is refused; the default is 10 seconds.
    pub fn decider_timeout(mut self, limit: Duration) -> Self {
        self.decider_timeout = Some(limit);
        self
    }

    /// Facts about the programs that use this proxy. The decider gets them with every request (SPEC P8, Q8).
    pub fn execution(mut self, context: ExecutionContext) -> Self {
        self.execution = context;
        self
    }

    /// Called for every refused request.
    pub fn blocked_request_observer(mut self, observer: impl BlockedRequestObserver) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Added to every audit event (SPEC R3).
    pub fn audit_metadata(mut self, metadata: AuditMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Writes the CA's certificate into this directory, and bundles of it, the system's roots and
    /// the certificates that a child trusted before, so that children can be pointed at them. No
    /// other user may write to the directory. Bundles that were not used for 30 days are removed,
    /// except for the newest.
    pub fn bundle_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bundle_directory = Some(directory.into());
        self
    }

    /// Brokers the credentials in this environment, usually that of your own process (SPEC B3). The settings say which
    /// variables hold one: `credential_broker = true`, or [`credential_providers`](Self::credential_providers).
    ///
    /// Programs get a dummy in the place of each, from [`apply_to_env`](super::NetworkProxyHandle::apply_to_env). A
    /// request through this proxy that presents the dummy to a place where the credential belongs gets the real value,
    /// inside intercepted TLS. Elsewhere it is refused (`credential_unbound`), and answers are scrubbed of the value.
    /// Programs must trust the CA: see [`bundle_directory`](Self::bundle_directory).
    ///
    /// The values are read once. They and the dummies stay the same for the life of the proxy, and end with it. All
    /// programs of one proxy share its dummies: run a proxy for each program that must not use the credentials of
    /// another. Sources other than `"env"` (`file`, `command`, `systemd_credential`) are not read, so
    /// [`build`](Self::build) and reloads refuse a credential with one:
    /// [`ServiceOnly`](NetworkProxyError::ServiceOnly). Credentials of package managers (`use = "npm"`) have no
    /// destination: no program is started for an embedder.
    pub fn credentials(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        self.credentials.environment = Some(EmbedderCredentials::of(environment));
        self
    }

    /// Adds providers to those of the settings, now and after each reload. They count without `credential_broker`, and
    /// replace providers with the same name. A variable belongs to the last of them that names it.
    pub fn credential_providers(
        mut self,
        providers: impl IntoIterator<Item = CredentialProvider>,
    ) -> Self {
        self.credentials.add(providers);
        self
    }

    /// Permits one door, on the listener that is passed next.
    pub(super) fn only(self, doors: PermittedDoors) -> Self {
        Self {
            listen_options: ListenOptions {
                doors,
                ..self.listen_options
            },
            http_listener: None,
            socks_listener: None,
            admin_listener: None,
            ..self
        }
    }

    /// Reads the settings, reserves the listeners and makes the CA. Nothing is served yet; clients
    /// that connect wait.
    ///
    /// # Errors
    ///
    /// Why the proxy cannot start. Nothing is bound then.
    pub async fn build(self) -> Result<NetworkProxy, NetworkProxyError> {
        // Reading files and making keys blocks, so it must not run on a thread that serves.
        let built = tokio::task::spawn_blocking(move || self.build_here()).await;
        built.map_err(|_| NetworkProxyError::Runtime)?
    }

    fn build_here(self) -> Result<NetworkProxy, NetworkProxyError> {
        let issuer = EmbeddedIssuer::ephemeral(self.bundle_directory.as_deref())
            .map_err(NetworkProxyError::Authority)?;
        let issuer = Arc::new(issuer);
        let proxies = self.upstream_proxies.as_ref();
        let (mut settings, supplied) = self.configuration.settle(&issuer, proxies)?;
        self.credentials.add_to(&mut settings)?;
        let credentials = self.credentials.given(&settings);
        let mut handed = [self.http_listener, self.socks_listener, self.admin_listener];
        let mut bound = [None, None, None];
        let addresses = self.listen_options.addresses(&settings);
        for (index, which) in Listener::ALL.into_iter().enumerate() {
            let listener = match (addresses[index], handed[index].take()) {
                (None, None) => continue,
                (None, Some(_)) => {
                    let door = which.as_str();
                    return Err(NetworkProxyError::SwitchedOff { door });
                }
                (Some(_), Some(listener)) => check(which, listener, &settings.listen)?,
                (Some(requested), None) => bind(which, requested)?,
            };
            bound[index] = addresses[index].map(|requested| (requested, listener));
        }
        let (blocked_observer, queue) = match self.observer {
            Some(observer) => {
                let (sender, queue) = mpsc::channel::<BlockedEntry>(MAX_WAITING_REFUSALS);
                (Some(sender), Some((observer, queue)))
            }
            None => (None, None),
        };
        let default = EngineParts::default();
        let engine = Engine::new(
            Arc::new(settings),
            EngineParts {
                supplied,
                issuer: Some(Arc::<EmbeddedIssuer>::clone(&issuer) as Arc<dyn LeafIssuer>),
                decider: self.decider,
                decider_timeout: self.decider_timeout.unwrap_or(default.decider_timeout),
                execution: self.execution,
                // All clients are children of this process, as with credentials (SPEC E2).
                questions_of: Some(Uid::effective().as_raw()),
                blocked_observer,
                audit_metadata: self.metadata,
                credentials,
                ..default
            },
        )?;
        for remark in engine.credential_remarks() {
            tracing::warn!("{remark}");
        }
        let own = engine.own_listeners();
        let mut reserved = [None, None, None];
        for (index, which) in Listener::ALL.into_iter().enumerate() {
            let Some((requested, listener)) = bound[index].take() else {
                continue;
            };
            let address = listener.local_addr().map_err(|error| {
                let door = which.as_str();
                NetworkProxyError::Listener { door, error }
            })?;
            let own = own.add(address);
            reserved[index] = Some(Reserved {
                requested,
                listener,
                own,
            });
        }
        Ok(NetworkProxy {
            engine,
            issuer,
            configuration: self.configuration,
            upstream_proxies: self.upstream_proxies,
            credentials: self.credentials,
            listen_options: self.listen_options,
            reserved,
            observing: queue,
        })
    }
}

impl Configuration {
    /// The settings for the engine, and what the process has besides. `proxies` stand in for those of
    /// the environment.
    pub(super) fn settle(
        &self,
        issuer: &EmbeddedIssuer,
        proxies: Option<&Arc<UpstreamProxies>>,
    ) -> Result<(Settings, Supplied), NetworkProxyError> {
        let settings = match self {
            Self::Settings(settings) => Settings::clone(settings),
            Self::Sources(sources) => from_sources(sources)?,
        };
        if settings.mitm.ca_paths.is_some() {
            return Err(NetworkProxyError::ServiceOnly(
                "ca_cert_path and ca_key_path count only in the service: an embedded proxy makes its CA when it \
                 is built; remove them",
            ));
        }
        let upstream_proxies = match (proxies, self) {
            (Some(proxies), _) => Arc::clone(proxies),
            (None, Self::Sources(_)) if settings.allow_upstream_proxy => of_environment()?,
            (None, _) => Arc::default(),
        };
        let ca = (settings.policy.interception() == Interception::Automatic)
            .then(|| issuer.current_ca(SystemTime::now()));
        let needs_roots = ca.is_some() || upstream_proxies.need_tls();
        let files = SystemFiles {
            ca,
            roots: if needs_roots {
                issuer::system_roots()
            } else {
                Arc::default()
            },
            ..SystemFiles::default()
        };
        let supplied = Supplied {
            upstream_proxies,
            files,
            // A library opens no sessions.
            ..Supplied::default()
        };
        Ok((settings, supplied))
    }
}

fn from_sources(sources: &Sources) -> Result<Settings, NetworkProxyError> {
    let loaded =
        load(sources).map_err(|problems| NetworkProxyError::Configuration(Box::new(problems)))?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.one_line());
    }
    Ok(loaded.settings)
}

/// The upstream proxies of the process's environment.
fn of_environment() -> Result<Arc<UpstreamProxies>, NetworkProxyError> {
    let proxies = UpstreamProxies::from_environment(|name| std::env::var_os(name));
    proxies.map(Arc::new).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        NetworkProxyError::Environment(errors.join("; "))
    })
}

impl ListenOptions {
    /// The listen addresses, in the order of [`Listener::ALL`]; `None` where there is no listener.
    pub(super) fn addresses(&self, settings: &Settings) -> [Option<SocketAddr>; 3] {
        let listen = &settings.listen;
        let place = |which, explicit: Option<SocketAddr>, configured| {
            if self.managed {
                RESERVED
            } else {
                clamp(which, explicit.unwrap_or(configured), listen)
            }
        };
        let http = || place(Listener::Http, self.http, listen.http);
        let socks5 = |socks5| place(Listener::Socks5, self.socks, socks5);
        let admin = |admin| place(Listener::Admin, self.admin, admin);
        match self.doors {
            PermittedDoors::All => [
                Some(http()),
                listen.socks5.map(socks5),
                // An API that the embedder did not ask for would be a way to change the mode (SPEC
                // A2).
                listen.admin.filter(|_| self.admin.is_some()).map(admin),
            ],
            PermittedDoors::Http => [Some(http()), None, None],
            PermittedDoors::Socks5 => [None, listen.socks5.map(socks5), None],
        }
    }
}

/// Which clients may reach a listener (SPEC L8).
fn reach(which: Listener, listen: &Listen) -> Reach {
    match which {
        Listener::Http | Listener::Socks5 => listen.proxy_reach,
        Listener::Admin => listen.admin_reach,
    }
}

/// Keeps an address on loopback unless the settings permit another (SPEC L8).
fn clamp(which: Listener, address: SocketAddr, listen: &Listen) -> SocketAddr {
    if address.ip().is_loopback() || reach(which, listen) == Reach::Anywhere {
        return address;
    }
    let clamped = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let opt_in = opt_in(which.as_str());
    tracing::warn!(%address, %clamped, "a listener is kept on loopback; {opt_in} = true would let it leave");
    clamped
}

/// A listener that the embedder passed, if its address is permitted.
fn check(
    which: Listener,
    listener: TcpListener,
    listen: &Listen,
) -> Result<TcpListener, NetworkProxyError> {
    let door = which.as_str();
    let address = listener
        .local_addr()
        .map_err(|error| NetworkProxyError::Listener { door, error })?;
    may_be(which, address, listen)?;
    Ok(listener)
}

/// Whether a listener may be at this address under these settings (SPEC L8).
pub(super) fn may_be(
    which: Listener,
    address: SocketAddr,
    listen: &Listen,
) -> Result<(), NetworkProxyError> {
    if address.ip().is_loopback() || reach(which, listen) == Reach::Anywhere {
        return Ok(());
    }
    let door = which.as_str();
    Err(NetworkProxyError::NotLoopback { door, address })
}

fn bind(which: Listener, address: SocketAddr) -> Result<TcpListener, NetworkProxyError> {
    TcpListener::bind(address).map_err(|error| cannot_listen(which, address, error))
}

pub(super) fn cannot_listen(
    which: Listener,
    address: SocketAddr,
    error: io::Error,
) -> NetworkProxyError {
    NetworkProxyError::Listen {
        door: which.as_str(),
        address,
        error,
    }
}

impl std::fmt::Debug for NetworkProxyBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkProxyBuilder")
            .field("listen_options", &self.listen_options)
            .finish_non_exhaustive()
    }
}
