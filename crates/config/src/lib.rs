//! Turns configuration files into checked [`Settings`], or into a list of all their problems.
//!
//! [`load`] reads the layers that [`Sources`] names (SPEC C1), merges them into a tree whose values
//! remember their file and line, brings the generation that is used to one form (SPEC C2), and
//! checks each value. It returns all settings or none (SPEC C7): one error is enough for none, but
//! all other errors of the files are reported too (SPEC C4).
//!
//! Modules in the order in which a configuration passes them: `layers` reads files, `text` keeps
//! their content, `merge` parses and merges, `generation` knows the keys' names, `read` checks one
//! value, `settle` with `listen`, `mitm` and `daemon` gives it its meaning, and `secret` reads the
//! secrets that `mitm` names. [`Settings`] is the result, and `origins` says where its values are
//! written. `upstream_proxy` reads the environment instead. `diagnostic` describes problems.
//! `constraints` is between `settle` and the result: `settle` asks it for the bound of each value
//! (SPEC C6).
//!
//! # Invariants
//!
//! - Only `layers` and `secret` touch the file system, through `codex_network_files`. Only
//!   `secret` reads the environment, unless a closure provides it. Loading captured sources does
//!   neither.
//! - The text of a secret is only in [`Secret`] (SPEC B4): a configuration names it and does not
//!   hold it.
//! - A value is never checked without its place, so every error can point at it.
//! - No file is required: without any, the defaults apply (SPEC L7).

mod action;
mod captured;
mod catalogue;
mod certificate_variables;
mod config_lines;
mod constraints;
mod diagnostic;
mod dialect;
mod duration;
mod effect;
mod entries;
mod fill;
mod interpret;
mod layers;
mod listen;
mod managed;
mod merge;
mod mitm;
mod read;
mod resolv_conf;
mod secret;
mod settings;
mod sources;
mod state;
mod supplied;
mod text;
mod toml_tree;
mod upstream_proxy;

pub use action::{Action, Actions, Injection};
pub use captured::NotCaptured;
pub use catalogue::{InForce, KeyDocumentation, KeyTable, documentation, effective, keys};
pub use certificate_variables::CERTIFICATE_VARIABLES;
pub use codex_network_policy::HeaderNameText;
pub use config_lines::ConfigLines;
pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use duration::duration_text;
pub use managed::{Managed, Pin, Widening};
pub use resolv_conf::ResolvConf;
pub use secret::{Secret, SecretSource, Secrets, below};
pub use settings::{
    Admin, AdminAccess, AdminView, CaPaths, Control, Daemon, Limits, Listen, LogFlows, LogFormat,
    Mitm, Principal, Reach, Resolver, Sandbox, Settings, UnixSockets,
};
pub use sources::Sources;
pub use state::user_state_directory;
pub use supplied::{CaCertificate, ResolverFiles, Supplied, SystemFiles};
pub use upstream_proxy::{
    NoProxy, ProxyCredentials, ProxyScheme, ProxyVariableError, UpstreamProxies, UpstreamProxy,
};

use diagnostic::Problems;
use secret::SecretReader;

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
/// first: without those files the meaning of the others cannot be judged.
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
