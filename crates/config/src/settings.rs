//! The checked values that the proxy runs on.
//!
//! Everything here is plain data without a reference to its file, except for the lines of the
//! rules inside [`Policy`] and the list of files. A `Settings` is made as a whole by
//! [`load`](crate::load()) or by `Default`, is never changed afterwards, and is replaced as a whole
//! by a reload (SPEC C7).

mod daemon;
mod entry_change;
mod telemetry;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{Hooks, Interception, Mode, Policy, PolicySpec};
pub use daemon::{
    Admin, AdminAccess, AdminView, Approvals, Control, Daemon, Limits, LogFlows, LogFormat,
    Principal, ProfileUsers, Resolver, Sandbox, Sessions, kept_connections, pipe_descriptors,
};
pub use telemetry::{OtlpCollector, OtlpHeader, OtlpProtocol, OtlpScheme, Telemetry};

use crate::action::Actions;
use crate::config_lines::ConfigLines;
use crate::credentials::CredentialProvider;
use crate::managed::Managed;

/// Everything the proxy runs on. The default is the behaviour without any file (SPEC L7).
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of SPEC C3, each on its own"
)]
pub struct Settings {
    /// Whether the proxy is on, its mode, its lists, and the hosts with interception hooks.
    pub policy: Arc<Policy>,
    /// Where the proxy listens, after the clamp of SPEC L8.
    pub listen: Listen,
    /// `enable_socks5_udp`: whether the SOCKS5 proxy offers UDP ASSOCIATE.
    pub socks5_udp: bool,
    /// `allow_upstream_proxy`: whether the process's `HTTP_PROXY` and related variables count (SPEC H12).
    pub allow_upstream_proxy: bool,
    /// TLS interception.
    pub mitm: Mitm,
    /// Unix sockets that `x-unix-socket` may name (SPEC H10).
    pub unix_sockets: UnixSockets,
    /// `credential_broker`: whether children get dummies for known credentials (SPEC B3).
    pub credential_broker: bool,
    /// `dangerously_allow_plaintext_credential_injection`.
    pub plaintext_credential_injection: bool,
    /// The providers of credentials, those of `credentials` first (SPEC B3, B5). None without
    /// `credential_broker`.
    pub credential_providers: Arc<[CredentialProvider]>,
    /// The settings of the daemon besides the policy (SPEC C5).
    pub daemon: Daemon,
    /// `presets`: the presets whose hosts are on the policy's allow list (SPEC J16).
    pub presets: Vec<&'static str>,
    /// The permission profiles that sessions may choose (SPEC J4), the selected one included. One with an
    /// error is left out; a warning says so.
    pub profiles: Arc<BTreeMap<String, Profile>>,
    /// The requirements that all of this obeys (SPEC C6).
    pub managed: Managed,
    /// The line that set each value.
    pub lines: Arc<ConfigLines>,
    /// The files that were read, the weakest layer first, then those with requirements.
    pub files: Vec<PathBuf>,
}

/// The part of a permission profile that judges requests. Its other keys, such as listen addresses, count
/// only when `default_permissions` selects it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Whether the profile lets anything through, its mode, its lists, and the hosts with hooks.
    pub policy: Arc<Policy>,
    /// The requests that may be made to hosts with hooks.
    pub hooks: Arc<Hooks>,
    /// The changes that each of `hooks` makes.
    pub actions: Arc<Actions>,
    /// Unix sockets that `x-unix-socket` may name.
    pub unix_sockets: UnixSockets,
    /// Whether programs get dummies for known credentials (SPEC B3).
    pub credential_broker: bool,
    /// Whether credentials may be injected into plain HTTP.
    pub plaintext_credential_injection: bool,
    /// The providers of credentials.
    pub credential_providers: Arc<[CredentialProvider]>,
}

/// Listen addresses. Port 0 means any free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The HTTP proxy (SPEC L1).
    pub http: SocketAddr,
    /// The SOCKS5 proxy (SPEC L2), unless `enable_socks5 = false`.
    pub socks5: Option<SocketAddr>,
    /// The admin API (SPEC L3), unless `[daemon.admin] enabled = false`.
    pub admin: Option<SocketAddr>,
    /// Which clients may reach a proxy on a socket that the process was given.
    pub proxy_reach: Reach,
    /// Which clients may reach the admin API on a socket that the process was given.
    pub admin_reach: Reach,
}

/// Which clients may reach a listener (SPEC L8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Loopback: the configuration does not opt in to more.
    #[default]
    Loopback,
    /// Loopback, even with an opt-in: a client that reaches the proxy also reaches local sockets.
    ForcedLoopback,
    /// All clients that can reach the address.
    Anywhere,
}

/// TLS interception (SPEC M1, M3, M8, M9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mitm {
    /// Whether body sizes are logged.
    pub inspect: bool,
    /// How many bytes of a body are looked at for that.
    pub max_body_bytes: u64,
    /// The CA's files, where the configuration names them.
    pub ca_paths: Option<CaPaths>,
    /// Which requests may be made to hosts with hooks. Tried in the order of the configuration,
    /// weaker layers first. A hook that a later layer mentions takes the position that it has
    /// there.
    pub hooks: Arc<Hooks>,
    /// The changes that each of `hooks` makes to the requests that it covers.
    pub actions: Arc<Actions>,
}

/// The files that hold the CA (SPEC M3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPaths {
    /// The public certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Which unix sockets may be reached (SPEC H10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSockets {
    /// Absolute paths.
    pub allowed: Vec<PathBuf>,
    /// Absolute paths that may not be reached, even if `allowed` or `allow_all` permits them.
    pub denied: Vec<PathBuf>,
    /// `dangerously_allow_all_unix_sockets`.
    pub allow_all: bool,
}

impl Listen {
    /// The HTTP proxy's default address.
    pub const DEFAULT_HTTP: SocketAddr = loopback(3128);
    /// The SOCKS5 proxy's default address.
    pub const DEFAULT_SOCKS5: SocketAddr = loopback(8081);
    /// The admin API's default address.
    pub const DEFAULT_ADMIN: SocketAddr = loopback(8080);
}

impl Settings {
    /// Whether something is intercepted under these settings (SPEC M1). Limited mode that is set at run
    /// time is not in them.
    pub fn intercepts(&self) -> bool {
        self.policy.mode() == Mode::Limited || self.mitm.hooks.iter().next().is_some()
    }

    /// Whether something is intercepted under these settings, or for a session: under a profile that it may
    /// choose, or because it has credentials.
    pub fn may_intercept(&self) -> bool {
        let mut profiles = self.profiles.values();
        let intercepts = |profile: &Profile| {
            profile.policy.mode() == Mode::Limited
                || profile.hooks.iter().next().is_some()
                || profile.brokers()
        };
        let mut for_sessions = || self.brokers() || profiles.any(intercepts);
        self.intercepts() || self.daemon.sessions.max > 0 && for_sessions()
    }

    /// Whether sessions may have credentials that are put in inside intercepted TLS (SPEC B3).
    fn brokers(&self) -> bool {
        !self.credential_providers.is_empty()
            && self.policy.interception() == Interception::Automatic
    }

    /// The providers whose values the process that reads the configuration reads too, in these settings and in
    /// the profiles of sessions (SPEC B13). Of several with one source, the first one.
    pub fn read_credentials(&self) -> Vec<&CredentialProvider> {
        let profiles = self.profiles.values();
        let profiles = profiles.flat_map(|profile| profile.credential_providers.iter());
        let mut read: Vec<&CredentialProvider> = Vec::new();
        for provider in self.credential_providers.iter().chain(profiles) {
            let is_new = || read.iter().all(|other| other.source != provider.source);
            if provider.source.is_read_with_the_configuration() && is_new() {
                read.push(provider);
            }
        }
        read
    }

    /// The variables that hold secrets of hooks (`secret_env_var`), in these settings and in the profiles of sessions.
    /// No program needs them (SPEC B4).
    pub fn hook_secrets(&self) -> Vec<String> {
        let profiles = self.profiles.values().map(|profile| &profile.actions);
        let actions = std::iter::once(&self.mitm.actions).chain(profiles);
        let mut variables: Vec<String> = actions
            .flat_map(|actions| actions.variables())
            .map(str::to_owned)
            .collect();
        variables.sort();
        variables.dedup();
        variables
    }

    /// These settings with another permission profile, for the sessions that chose it; `None` if there is no
    /// such profile. Everything but the [`Profile`] stays as it is. A proxy that is switched off stays off.
    pub fn with_profile(&self, name: &str) -> Option<Self> {
        let profile = self.profiles.get(name)?;
        let mut settings = self.clone();
        settings.policy = if self.policy.is_enabled() {
            Arc::clone(&profile.policy)
        } else {
            Arc::new(profile.policy.switched_off())
        };
        settings.mitm.hooks = Arc::clone(&profile.hooks);
        settings.mitm.actions = Arc::clone(&profile.actions);
        settings.unix_sockets = profile.unix_sockets.clone();
        settings.credential_broker = profile.credential_broker;
        settings.plaintext_credential_injection = profile.plaintext_credential_injection;
        settings.credential_providers = Arc::clone(&profile.credential_providers);
        Some(settings)
    }
}

impl Profile {
    fn brokers(&self) -> bool {
        !self.credential_providers.is_empty()
            && self.policy.interception() == Interception::Automatic
    }

    /// The part of these settings that judges requests.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            policy: Arc::clone(&settings.policy),
            hooks: Arc::clone(&settings.mitm.hooks),
            actions: Arc::clone(&settings.mitm.actions),
            unix_sockets: settings.unix_sockets.clone(),
            credential_broker: settings.credential_broker,
            plaintext_credential_injection: settings.plaintext_credential_injection,
            credential_providers: Arc::clone(&settings.credential_providers),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let policy =
            Policy::compile(&PolicySpec::default()).expect("empty lists are not too large");
        Self {
            policy: Arc::new(policy),
            listen: Listen::default(),
            socks5_udp: true,
            allow_upstream_proxy: true,
            mitm: Mitm::default(),
            unix_sockets: UnixSockets::default(),
            credential_broker: false,
            plaintext_credential_injection: false,
            credential_providers: Arc::default(),
            daemon: Daemon::default(),
            presets: Vec::new(),
            profiles: Arc::default(),
            managed: Managed::default(),
            lines: Arc::default(),
            files: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: Self::DEFAULT_HTTP,
            socks5: Some(Self::DEFAULT_SOCKS5),
            admin: Some(Self::DEFAULT_ADMIN),
            proxy_reach: Reach::default(),
            admin_reach: Reach::default(),
        }
    }
}

impl Default for Mitm {
    fn default() -> Self {
        Self {
            inspect: false,
            max_body_bytes: 4096,
            ca_paths: None,
            hooks: Arc::default(),
            actions: Arc::default(),
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
