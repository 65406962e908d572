//! Turns configuration files into settled [`Settings`], or into every problem that they have.
//!
//! [`load`] reads the layers that [`Sources`] names (SPEC C1), lays them over each other on a tree
//! whose values remember their file and line, brings the generation that is used to one form
//! (SPEC C2), and settles each value. It gives all of the settings or none (SPEC C7): one error and
//! there is nothing to run on, but every other error of the files is told as well (SPEC C4).
//!
//! Modules in the order in which a configuration passes them: `layers` reads, `text` keeps what was
//! read, `merge` parses and merges, `generation` knows the keys' names, `read` judges one value,
//! `settle` with `listen`, `mitm` and `daemon` gives it its meaning, `secret` reads what `mitm` only
//! names, [`Settings`] is the result and `origins` where it is written. `upstream_proxy` reads what stands in the environment instead.
//! `diagnostic` is what goes wrong on the way. `constraints` stands between `settle` and the result:
//! it holds what a value may be at most, and `settle` asks it for each that is bounded (SPEC C6).
//!
//! # Invariants
//!
//! - Only `layers` and `secret` touch the file system, through `codex_network_files`, and only `secret` the environment, unless
//!   it comes through a closure. Loading what was carried here from another process does neither.
//! - The text of a secret is nowhere but in [`Secret`] (SPEC B4): a configuration names it only.
//! - A value is never judged without its place, so every error can point at it.
//! - Nothing here needs a file: no file at all gives the defaults (SPEC L7).

mod action;
mod captured;
mod certificate_variables;
mod constraints;
mod daemon;
mod diagnostic;
mod duration;
mod generation;
mod layers;
mod listen;
mod merge;
mod mitm;
mod origins;
mod platform;
mod read;
mod secret;
mod settings;
mod settle;
mod text;
mod unavailable;
mod upstream_proxy;

pub use action::{Action, Actions, Injection};
pub use captured::NotCaptured;
pub use certificate_variables::CERTIFICATE_VARIABLES;
pub use codex_network_policy::HeaderNameText;
pub use constraints::managed::{Managed, Pin, Widening};
pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use layers::Sources;
pub use origins::Origins;
pub use secret::{Secret, SecretSource, Secrets};
pub use settings::{
    Admin, AdminAccess, CaCertificate, CaPaths, Control, Daemon, Limits, Listen, LogFormat, Mitm,
    Principal, Reach, Resolver, ResolverFiles, Sandbox, Settings, UnixSockets,
};
pub use upstream_proxy::{
    Except, ProxyCredentials, ProxyScheme, ProxyVariableError, UpstreamProxies, UpstreamProxy,
};

use diagnostic::Problems;
use secret::Reader;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// What does not do what it seems to say. To be logged at start and at reload.
    pub warnings: Vec<Diagnostic>,
    /// What has a newer form (SPEC C2). For `check` alone: old forms go on working.
    pub notes: Vec<Diagnostic>,
    /// The secrets that it names, for [`Sources::with_secrets`]. What uses them is in the settings.
    pub secrets: Secrets,
}

/// Every key that a configuration or a requirement may have, as pairs of its table's name in full
/// (`NAME` stands for a name of the user's own) and its own name, for whoever documents them.
pub fn keys() -> Vec<(String, &'static str)> {
    generation::keys()
}

/// Reads and judges a configuration.
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
/// Every problem that was found, with its place. Files that cannot be read and texts that are not
/// TOML are told first: without them nothing can be said about the others' meaning.
pub fn load(sources: &Sources) -> Result<Loaded, Diagnostics> {
    let read = layers::read(sources);
    let mut problems = Problems::new(&read.texts);
    for unreadable in read.unreadable {
        problems.error_about(unreadable);
    }
    let merged = merge::merge(&mut problems);
    problems.check()?;
    let requirements = constraints::read(&merged.requirements, &mut problems);
    let mut secrets = Reader::new(sources.keeper());
    let mut settings = settle::settle(&merged.root, requirements, &mut secrets, &mut problems);
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
