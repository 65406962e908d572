//! The settings of `[daemon]` (SPEC C5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::telemetry::Telemetry;

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
    /// `[daemon.sessions]`.
    pub sessions: Sessions,
    /// `[daemon.approvals]`.
    pub approvals: Approvals,
    /// `[daemon.telemetry]`.
    pub telemetry: Telemetry,
}

/// Whether the process that talks to the network confines itself first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Confine the worker fully, or do not run it.
    Require,
    /// Confine the worker with everything that the system supports, and log the missing features.
    #[default]
    Try,
    /// Do not confine the worker.
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
    pub fn as_str(self) -> &'static str {
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
    /// The path of the control socket; `None` for the default path.
    pub socket: Option<PathBuf>,
    /// Users and groups that may administer, besides root and the daemon's own user.
    pub administrators: Vec<Principal>,
    /// Users and groups that may only observe.
    pub observers: Vec<Principal>,
    /// Users and groups that may open sessions, and see and answer for their own (SPEC J2).
    pub users: Vec<Principal>,
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
    /// Whether the API is on. [`Listen::admin`](crate::Listen::admin) is `None` when it is off.
    pub enabled: bool,
    /// The permitted operations.
    pub access: AdminAccess,
    /// Whether it shows the settings.
    pub config: AdminView,
    /// Whether it shows the lists of domains.
    pub patterns: AdminView,
    /// Whether it shows whose sessions are open, and which refusals are theirs.
    pub sessions: AdminView,
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
    /// Most bytes of the header section of a request or response; 1 KiB to 1 MiB.
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

/// Sessions: the programs that `proxyctl run` starts (SPEC J4, J13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Sessions at once; 0 to 65 536. With 0 no session can be opened.
    pub max: usize,
    /// Sessions of one user at once; 0 to 65 536.
    pub max_per_user: usize,
    /// Connections of one session at once; 1 to 1 000 000.
    pub max_connections: usize,
    /// Who may choose which permission profile. `None`: everyone who may open sessions may choose every
    /// profile. A profile that the table does not name is for administrators, who may choose all.
    pub profiles: Option<BTreeMap<String, ProfileUsers>>,
}

/// Questions about hosts that the policy merely does not allow (SPEC Q1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// Whether such requests become questions. If not, they are refused.
    pub enabled: bool,
    /// Whether users may answer the questions of their own sessions, as administrators may answer all.
    pub own: bool,
    /// How long a request waits for an answer before it is refused.
    pub hold: Duration,
    /// How long a question stays open.
    pub expire: Duration,
    /// Open questions at once; 1 to 1024.
    pub max_pending: usize,
}

/// Who may choose a permission profile for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileUsers {
    /// Everyone who may open sessions: `["*"]`.
    Everyone,
    /// These, and administrators.
    Only(Vec<Principal>),
}

/// How many of `limit` descriptors the pipes of tunnels may take on Linux: one in 32, and 64 at most. The
/// connections need the others (SPEC C5).
pub const fn pipe_descriptors(limit: u64) -> u64 {
    let share = limit / 32;
    if share < 64 { share } else { 64 }
}

/// How many of `limit` descriptors kept connections to origins may take: one in eight, and 2,048 at most. The
/// connections of clients need the others (SPEC C5).
pub const fn kept_connections(limit: u64) -> u64 {
    let share = limit / 8;
    if share < 2048 { share } else { 2048 }
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
            sessions: Sessions::default(),
            approvals: Approvals::default(),
            telemetry: Telemetry::default(),
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
            sessions: AdminView::Hidden,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max: 1024,
            max_per_user: 64,
            max_connections: 512,
            profiles: None,
        }
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            enabled: false,
            own: false,
            hold: Duration::from_secs(5),
            expire: Duration::from_secs(10 * 60),
            max_pending: 64,
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
