//! The requirements on keys of `[daemon]` that are more than a boolean or a text (SPEC C6): how the
//! worker is confined, and which servers resolve names.
//!
//! The resolver decides which server an allowed name leads to. So where only managed entries allow
//! a host, the resolver is the system's, or the one that the requirements name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::requirement::Requirement;
use crate::catalogue::Key;
use crate::diagnostic::{Problems, shown};
use crate::dialect::RawSettings;
use crate::entries::nameservers;
use crate::read;
use crate::settings::Sandbox;
use crate::text::TextSpan;

/// The name of the system's own resolver in messages.
pub(super) const THE_SYSTEMS: &str = "the system's";

/// The requirements on the daemon. A field that is `None` has no bound.
#[derive(Debug, Default)]
pub(super) struct DaemonRequirements {
    sandbox: Option<Requirement<Sandbox>>,
    /// The name servers that may be listed; the system's if empty.
    nameservers: Option<Requirement<Vec<SocketAddr>>>,
    /// The only permitted hosts file; the system's if `None`.
    hosts_file: Option<Requirement<Option<PathBuf>>>,
}

impl DaemonRequirements {
    /// Adds the requirements of one file. Two files narrow each other; two that leave no value are
    /// an error.
    pub(super) fn add(&mut self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
        if let Some(setting) = raw.get(Key::SANDBOX)
            && let Some(sandbox) = read::word(setting, &Sandbox::WORDS, problems)
            && self
                .sandbox
                .as_ref()
                .is_none_or(|other| sandbox.strictness() > other.permitted.strictness())
        {
            self.sandbox = Some(Requirement::of(setting, sandbox));
        }
        if let Some(setting) = raw.get(Key::NAMESERVERS) {
            let servers = nameservers(Some(setting), problems);
            match &mut self.nameservers {
                None => self.nameservers = Some(Requirement::of(setting, servers)),
                Some(other) => {
                    let common = |server: &SocketAddr| servers.contains(server);
                    let left: Vec<_> = other.permitted.iter().copied().filter(common).collect();
                    if left.is_empty() && !(other.permitted.is_empty() && servers.is_empty()) {
                        other.contradicted_by(setting, problems);
                    }
                    other.permitted = left;
                }
            }
        }
        if let Some(setting) = raw.get(Key::HOSTS_FILE)
            && let Some(path) = read::path(setting, problems)
        {
            match &self.hosts_file {
                Some(other) if other.permitted.as_ref() != Some(&path) => {
                    other.contradicted_by(setting, problems);
                }
                Some(_) => {}
                None => self.hosts_file = Some(Requirement::of(setting, Some(path))),
            }
        }
    }

    /// Requires the system's resolver, unless the requirements name one. `at` is the line that lets
    /// only managed entries allow a host.
    pub(super) fn pin_resolver(&mut self, at: TextSpan) {
        let written = "managed_allowed_domains_only = true";
        self.nameservers
            .get_or_insert_with(|| Requirement::new(Vec::new(), written, at));
        self.hosts_file
            .get_or_insert_with(|| Requirement::new(None, written, at));
    }

    /// How the worker is confined.
    pub(super) fn sandbox(&self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) -> Sandbox {
        let setting = raw.get(Key::SANDBOX);
        let written = setting.and_then(|it| read::word(it, &Sandbox::WORDS, problems));
        let sandbox = written.unwrap_or_default();
        let Some(required) = &self.sandbox else {
            return sandbox;
        };
        let least = required.permitted;
        if sandbox.strictness() >= least.strictness() {
            return sandbox;
        }
        if let (Some(setting), Some(written)) = (setting, written) {
            let permitted = match least {
                Sandbox::Try => "try or require",
                other => other.as_str(),
            };
            let at = setting.node.at;
            required.refuse(Key::SANDBOX, &written.as_str(), &permitted, at, problems);
        }
        least
    }

    /// The name servers.
    pub(super) fn nameservers(
        &self,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Vec<SocketAddr> {
        let setting = raw.get(Key::NAMESERVERS);
        let written = nameservers(setting, problems);
        let Some(required) = &self.nameservers else {
            return written;
        };
        let is_other = |server: &&SocketAddr| !required.permitted.contains(server);
        if let (Some(setting), Some(other)) = (setting, written.iter().find(is_other)) {
            let requested = shown(&other.to_string());
            let permitted = match &required.permitted[..] {
                [] => THE_SYSTEMS.to_owned(),
                servers => shown(&listed(servers)),
            };
            let at = setting.node.at;
            required.refuse(Key::NAMESERVERS, &requested, &permitted, at, problems);
        }
        if written.is_empty() {
            required.permitted.clone()
        } else {
            written
        }
    }

    /// The hosts file.
    pub(super) fn hosts_file(
        &self,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<PathBuf> {
        let setting = raw.get(Key::HOSTS_FILE);
        let written = setting.and_then(|setting| read::path(setting, problems));
        let Some(required) = &self.hosts_file else {
            return written;
        };
        if let (Some(setting), Some(written)) = (setting, &written)
            && Some(written) != required.permitted.as_ref()
        {
            let requested = shown(&in_words(written));
            let permitted = match &required.permitted {
                None => THE_SYSTEMS.to_owned(),
                Some(path) => shown(&in_words(path)),
            };
            let at = setting.node.at;
            required.refuse(Key::HOSTS_FILE, &requested, &permitted, at, problems);
        }
        required.permitted.clone()
    }

    /// The bound on confinement: the permitted values in words, and the line.
    pub(super) fn sandbox_bound(&self) -> Option<(Key, String, TextSpan)> {
        let required = self.sandbox.as_ref()?;
        let permitted = match required.permitted {
            Sandbox::Off => "off, try or require",
            Sandbox::Try => "try or require",
            Sandbox::Require => "require",
        };
        Some((Key::SANDBOX, permitted.to_owned(), required.at))
    }

    /// The bounds on the resolver, in the same form.
    pub(super) fn resolver_bounds(&self) -> impl Iterator<Item = (Key, String, TextSpan)> {
        let nameservers = self.nameservers.as_ref().map(|required| {
            let permitted = match &required.permitted[..] {
                [] => THE_SYSTEMS.to_owned(),
                servers => listed(servers),
            };
            (Key::NAMESERVERS, permitted, required.at)
        });
        let hosts_file = self.hosts_file.as_ref().map(|required| {
            let path = required.permitted.as_deref().map(in_words);
            let permitted = path.unwrap_or_else(|| THE_SYSTEMS.to_owned());
            (Key::HOSTS_FILE, permitted, required.at)
        });
        nameservers.into_iter().chain(hosts_file)
    }
}

fn listed(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    servers.join(", ")
}

fn in_words(path: &Path) -> String {
    path.display().to_string()
}
