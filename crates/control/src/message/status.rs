//! `status`: the state of the proxy.

use serde::{Deserialize, Serialize};

use super::Names;

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of the daemon's program.
    pub version: String,
    /// When it started.
    pub started: i64,
    /// The seconds for which the proxy has been running, by a monotonic clock.
    pub uptime: u64,
    /// Its processes.
    pub roles: Vec<Role>,
    /// Whether the proxy is switched on.
    pub enabled: bool,
    /// `full` or `limited`.
    pub mode: String,
    /// `enforce` or `report`: whether hosts that are merely not allowed are refused. Empty from an older proxy.
    pub enforcement: String,
    /// Patterns of the allow list.
    pub allow_rules: usize,
    /// Patterns of the deny list.
    pub deny_rules: usize,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// The settings in force.
    pub generation: GenerationInForce,
    /// The fingerprints of what is in force; `None` from an older proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Fingerprints>,
    /// The degraded parts.
    pub degraded: Vec<Degradation>,
    /// The files that they were read from, the weakest layer first.
    pub files: Vec<String>,
    /// The last reload; `None` before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<LastReload>,
    /// Counts.
    pub counters: Counters,
    /// Warnings, a sentence each.
    pub warnings: Vec<String>,
    /// The proxy for plain HTTP, without its credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_http_proxy: Option<String>,
    /// The proxy for all other connections, without its credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_tunnel_proxy: Option<String>,
    /// The name servers; `None` from an older proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// The questions; `None` if none are asked, and from an older proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub questions: Option<OpenQuestions>,
    /// The export of audit events; `None` if there is no collector, and from an older proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryExport>,
}

/// The export of audit events (SPEC O2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryExport {
    /// The URL of the collector.
    pub collector: String,
    /// `http/protobuf` or `grpc`.
    pub protocol: String,
    /// Events since the start of the worker that the collector took.
    pub exported: u64,
    /// Events that no collector took.
    pub lost: u64,
    /// Events that wait.
    pub waiting: u64,
}

/// The questions that people may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenQuestions {
    /// How many are open.
    pub open: usize,
    /// Whether a caller who may answer listens. Without one, nothing is asked.
    pub is_heard: bool,
}

/// One process of the proxy. A field that the system does not report is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Role {
    /// `proxy`, or `monitor` and `worker`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective capabilities as the kernel prints them, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
    /// Whether it and its children cannot gain privileges (`no_new_privs`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privs: Option<bool>,
    /// How its system calls are filtered: `off`, `strict` or `filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<String>,
    /// Whether Landlock restricts its view of the file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landlock: Option<String>,
    /// How many descriptors it may have open: files and connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor_limit: Option<u64>,
    /// How often it was restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
}

/// One listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// `http`, `socks5`, `admin` or `control`.
    pub name: String,
    /// `ip:port`, or the path of a unix socket.
    pub address: String,
    /// Where the socket comes from: `bound` by the proxy itself, `systemd` or `launchd`.
    pub origin: String,
}

/// The settings in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationInForce {
    /// Counts up from 1 with every change.
    pub number: u64,
    /// Since when it is in force, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// Fingerprints of what is in force: the first 16 digits of SHA-256 hashes (SPEC O5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprints {
    /// Of the settings, with the mode that was set at run time and the upstream proxies.
    pub settings: String,
    /// Of the settings that decide about requests, without addresses and files; empty from an older proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rules: String,
    /// Of the requirements, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
    /// Of the CA, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A part of the proxy that is degraded (SPEC O4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Degradation {
    /// `configuration`, `descriptors`, `resolver`, `log`, `telemetry`, `clock` or `worker`.
    pub part: String,
    /// When it began, or was first noticed.
    pub since: i64,
    /// A sentence.
    pub detail: String,
}

/// A reload, successful or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastReload {
    /// When it ended.
    pub at: i64,
    /// Its result.
    pub outcome: ReloadOutcome,
    /// Errors if it failed, else warnings; a line each.
    pub problems: Vec<String>,
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// The settings were put in force.
    Applied,
    /// The old settings stayed.
    Failed,
    /// A result that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Counts as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Client connections that are open.
    pub connections: usize,
    /// The connections among them that have a UDP association.
    pub udp_associations: usize,
    /// Connections since the start that were ended to make room for others.
    pub ended_for_others: u64,
    /// Clients since the start that were disconnected because too many waited already.
    pub turned_away: u64,
    /// Upstream connections kept for the next request.
    pub idle_upstream: usize,
    /// Connections to origins that were opened since the start.
    pub upstream_direct: u64,
    /// Connections since the start to an upstream proxy that forwards plain HTTP.
    pub upstream_http_proxy: u64,
    /// Connections since the start that an upstream proxy made.
    pub upstream_tunnel_proxy: u64,
    /// Attempts that were allowed since the start.
    pub allowed: u64,
    /// Attempts that were refused since the start.
    pub blocked: u64,
    /// Attempts among the allowed ones that would be refused if hosts that are merely not allowed were not let
    /// through.
    pub reported: u64,
}
