//! The checked values that the proxy runs on.
//!
//! Everything here is plain data without a reference to its file, except for the lines of the
//! rules inside [`Policy`] and the list of files. A `Settings` is made as a whole by
//! [`load`](crate::load()) or by `Default`, is never changed afterwards, and is replaced as a whole
//! by a reload (SPEC C7).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::{Hooks, Mode, Policy, PolicySpec};

use crate::action::Actions;
use crate::config_lines::ConfigLines;
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
    /// The settings of the daemon besides the policy (SPEC C5).
    pub daemon: Daemon,
    /// The requirements that all of this obeys (SPEC C6).
    pub managed: Managed,
    /// The line that set each value.
    pub lines: Arc<ConfigLines>,
    /// The files that were read, the weakest layer first, then those with requirements.
    pub files: Vec<PathBuf>,
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

/// Where the CA is kept (SPEC M3).
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

/// `[daemon]` (SPEC C5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The user that the worker runs as.
    pub user: Option<String>,
    /// The group that the worker runs as.
    pub group: Option<String>,
    /// Whether confinement of the worker is required.
    pub sandbox: Sandbox,
    /// Where state is kept.
    pub state_dir: Option<PathBuf>,
    /// The log level or filter; never empty.
    pub log: String,
    /// How log records are written.
    pub log_format: LogFormat,
    /// Which ends of permitted attempts are logged at level `info`.
    pub log_flows: LogFlows,
    /// `[daemon.control]`.
    pub control: Control,
    /// `[daemon.admin]`.
    pub admin: Admin,
    /// `[daemon.resolver]`.
    pub resolver: Resolver,
    /// `[daemon.limits]`.
    pub limits: Limits,
}

/// Whether the process that talks to the network confines itself first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Fully, or it does not run.
    Require,
    /// With everything that the system supports. What is missing is logged.
    #[default]
    Try,
    /// Not at all.
    Off,
}

impl Sandbox {
    /// The words in configurations.
    pub(crate) const WORDS: [(&str, Self); 3] = [
        ("require", Self::Require),
        ("try", Self::Try),
        ("off", Self::Off),
    ];

    /// The word in configurations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Try => "try",
            Self::Off => "off",
        }
    }

    /// Larger is stricter.
    pub(crate) fn strictness(self) -> u8 {
        match self {
            Self::Require => 2,
            Self::Try => 1,
            Self::Off => 0,
        }
    }
}

/// How log records are written (SPEC R4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal under systemd, else text.
    #[default]
    Auto,
    /// Native journal fields.
    Journal,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The words in configurations.
    pub(crate) const WORDS: &[&str] = &["auto", "journal", "text", "json"];

    const ALL: [Self; 4] = [Self::Auto, Self::Journal, Self::Text, Self::Json];

    /// The meaning of a word in configurations.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }

    /// The word in configurations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Journal => "journal",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Which ends of permitted attempts are logged at level `info` (SPEC R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFlows {
    /// Those that failed. The others are logged at level `debug`.
    #[default]
    Failures,
    /// All of them.
    All,
}

/// The control socket (SPEC L4, K3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Its path, if not the default one.
    pub socket: Option<PathBuf>,
    /// Users and groups that may administer, besides root and the daemon's own user.
    pub administrators: Vec<Principal>,
    /// Users and groups that may only observe.
    pub observers: Vec<Principal>,
}

/// A user or group that may use the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A user name.
    User(String),
    /// A group name, written `@group`.
    Group(String),
}

/// The admin HTTP API (SPEC A2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Whether the API is on. [`Listen::admin`] is `None` when it is off.
    pub enabled: bool,
    /// The permitted operations.
    pub access: AdminAccess,
    /// Whether it shows the settings.
    pub config: AdminView,
    /// Whether it shows the lists of domains.
    pub patterns: AdminView,
}

/// The operations that the admin API permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminAccess {
    /// Showing, changing the mode, reloading.
    #[default]
    ReadWrite,
    /// Showing.
    ReadOnly,
}

/// Whether the admin API shows something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminView {
    /// To every local program.
    #[default]
    Shown,
    /// To no program: only the control socket shows it.
    Hidden,
}

/// How names are resolved (SPEC P4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers instead of the system's; empty means the system's.
    pub nameservers: Vec<SocketAddr>,
    /// How long a lookup may take in all.
    pub timeout: Duration,
    /// A hosts file instead of the system's.
    pub hosts_file: Option<PathBuf>,
}

/// Limits on the resources of clients and upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once, over all listeners; at least 1.
    pub max_connections: usize,
    /// Bytes of a request's or response's header section; 1 KiB to 1 MiB.
    pub max_header_bytes: usize,
    /// How long a client may take to send a header section.
    pub header_timeout: Duration,
    /// How long dialling an upstream may take.
    pub connect_timeout: Duration,
    /// How long a tunnel or a kept connection may be silent.
    pub idle_timeout: Duration,
    /// How long open connections may go on after a stop; zero ends them at once.
    pub drain_timeout: Duration,
    /// Entries of the blocked buffer (SPEC R1); 1 to 100 000.
    pub blocked_buffer: usize,
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
            daemon: Daemon::default(),
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

impl Default for Daemon {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            sandbox: Sandbox::Try,
            state_dir: None,
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            log_flows: LogFlows::Failures,
            control: Control::default(),
            admin: Admin::default(),
            resolver: Resolver::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            access: AdminAccess::ReadWrite,
            config: AdminView::Shown,
            patterns: AdminView::Shown,
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            timeout: Duration::from_secs(2),
            hosts_file: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_header_bytes: 65536,
            header_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60 * 60),
            drain_timeout: Duration::from_secs(30),
            blocked_buffer: 200,
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
