//! Turns configuration files into checked [`Settings`], or into a list of all their problems.
//!
//! [`load`] reads the layers that [`Sources`] names (SPEC C1), merges them into a tree whose values
//! remember their file and line, brings the dialect in use to one form (SPEC C2), and checks each
//! value. It returns all settings or none (SPEC C7). A single error refuses the configuration, and
//! all errors are reported at once (SPEC C4).
//!
//! The `catalogue` has a row for each key. A configuration passes these modules, in this order:
//!
//! 1. `sources` names the layers, `layers` reads their files, and `text` keeps the content.
//! 2. `merge` parses the texts and merges them into one `toml_tree`.
//! 3. `dialect` finds the table in use, and each key of it in the catalogue.
//! 4. `constraints` reads the requirements, which bound each value (SPEC C6).
//! 5. `fill` reads the simple keys with `read` and `entries`. `interpret` adds those that depend on
//!    others, with `service_presets`, `listen` and `mitm`, and the profiles that are not selected. `secret` reads the secrets that `mitm` names. `effect` warns
//!    of settings that do nothing here.
//! 6. [`Settings`] is the result. [`ConfigLines`] says which line set each value.
//!
//! `replay` judges recorded decisions by settings.
//! `printable` escapes text of others for people. `diagnostic` describes problems. `upstream_proxy` reads the environment instead of a
//! configuration.
//!
//! # Invariants
//!
//! - Only `layers` and `secret` read files, through `codex_network_files`. Only `secret` reads the
//!   environment, unless a closure provides it. Loading captured sources does neither.
//! - Only a [`Secret`] contains the text of a secret (SPEC B4): a configuration names its source.
//! - Every value keeps its place until it has been checked, so every error can point at it.
//! - No file is required: without any, the defaults apply (SPEC L7).

mod action;
mod allow_command;
mod captured;
mod catalogue;
mod certificate_variables;
mod child_variables;
mod config_lines;
mod constraints;
mod credentials;
mod diagnostic;
mod dialect;
mod duration;
mod effect;
mod entries;
mod feature_switch;
mod fill;
mod injected_field;
mod interpret;
mod json;
mod layers;
mod listen;
mod managed;
#[cfg(any(target_os = "macos", test))]
mod managed_preference;
mod merge;
mod mitm;
mod printable;
mod read;
mod replay;
mod resolv_conf;
mod secret;
mod service_presets;
mod settings;
mod shell_word;
mod sources;
mod state;
mod supplied;
mod telemetry;
mod text;
mod toml_tree;
mod upstream_proxy;

pub use action::{Action, Actions, Injection};
pub use allow_command::allow_command;
pub use captured::NotCaptured;
pub use catalogue::{InForce, KeyDocumentation, KeyTable, documentation, effective, keys};
pub use certificate_variables::CERTIFICATE_VARIABLES;
pub use child_variables::ChildVariables;
pub use codex_network_policy::HeaderNameText;
pub use config_lines::ConfigLines;
pub use credentials::{
    BROKER_ACTIVE_VARIABLE, BROKERED_CREDENTIALS_VARIABLE, BrokeredVariable, CredentialId,
    CredentialPattern, CredentialPatternError, CredentialProfile, CredentialProvider,
    CredentialReading, CredentialReadings, CredentialSource, CredentialVariable, Destination,
    DestinationError, DestinationHost, DestinationScheme, DestinationSource, IgnoredDestination,
    IgnoredDestinationError, NotAName, PackageTool, Placement, RemovalReason, RemovedVariable,
    Settled, UrlForm, VariableName, brokered_variables, built_in_providers, removed_variables,
    settled, still_brokered,
};
use diagnostic::Problems;
pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use duration::{DurationError, duration_text, parse as parse_duration};
pub use managed::{Managed, Pin, Widening};
pub use printable::{contained, printable, printable_line, quoted};
pub use replay::{
    ChangedAttempts, JudgedAttempts, NewDifference, RecordedAttempt, Replay, ReplayReport,
    UnusedRule,
};
pub use resolv_conf::ResolvConf;
use secret::SecretReader;
pub use secret::{Secret, SecretSource, Secrets, below};
pub use service_presets::{SERVICE_PRESETS, ServicePreset};
pub use settings::{
    Admin, AdminAccess, AdminView, Approvals, CaPaths, Control, Daemon, Limits, Listen, LogFlows,
    LogFormat, Mitm, OtlpCollector, OtlpHeader, OtlpProtocol, OtlpScheme, Principal, Profile,
    ProfileUsers, Reach, Resolver, Sandbox, Sessions, Settings, Telemetry, UnixSockets,
    kept_connections, pipe_descriptors,
};
pub use shell_word::shell_word;
pub use sources::Sources;
pub use state::user_state_directory;
pub use supplied::{CaCertificate, ResolverFiles, Supplied, SystemFiles};
pub use upstream_proxy::{
    NoProxy, ProxyCredentials, ProxyScheme, ProxyVariableError, UpstreamProxies, UpstreamProxy,
};

/// A usable configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Settings that do not do what they seem to say. Log them at start and at reload.
    pub warnings: Vec<Diagnostic>,
    /// Settings with a newer form (SPEC C2). Only `check` shows them: old forms keep working.
    pub notes: Vec<Diagnostic>,
    /// The secrets that it names, for [`Sources::with_secrets`]. The settings hold the values made
    /// from them.
    pub secrets: Secrets,
}

/// Reads and checks a configuration.
///
/// ```
/// use codex_network_config::{Sources, load};
///
/// let sources = Sources::none().with_text(
///     "example.toml",
///     r#"
///     [network]
///     allowed_domains = ["*.example.com"]
///     "#,
/// );
/// let loaded = load(&sources)?;
/// assert_eq!(loaded.settings.policy.allowed().len(), 1);
/// # Ok::<(), codex_network_config::Diagnostics>(())
/// ```
///
/// # Errors
///
/// Every problem that was found, with its place. Unreadable files and TOML syntax errors come
/// first: without those files the others cannot be checked.
pub fn load(sources: &Sources) -> Result<Loaded, Diagnostics> {
    let read = layers::read(sources);
    let mut problems = Problems::new(&read.texts);
    for unreadable in read.unreadable {
        problems.error_about(unreadable);
    }
    let merged = merge::merge(&mut problems);
    problems.check()?;
    let requirements = constraints::read(&merged.requirements, &mut problems);
    let mut secrets = SecretReader::new(sources.supply(), sources.root());
    let mut settings =
        interpret::interpret(&merged.root, requirements, &mut secrets, &mut problems);
    problems.check()?;
    settings.files = read.files;
    let (warnings, notes) = problems.into_warnings_and_notes();
    Ok(Loaded {
        settings,
        warnings,
        notes,
        secrets: secrets.into_secrets(),
    })
}
