//! The input of `check`: the sources that its command line names, and how to check them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use codex_network_config::{Loaded, Sources, load};
use codex_network_control::ReloadProblem;

use super::standard_input;
use crate::args::{Args, CheckArgs};
use crate::problems;
use crate::trusted_paths::PathScope;
use crate::{loader, logging, trusted_paths};

/// The name of a file that is judged as requirements (SPEC C6).
const REQUIREMENTS: &str = "requirements.toml";

/// A configuration, or requirements by themselves.
pub(super) struct Subject {
    sources: Sources,
    scope: PathScope,
    kind: Kind,
}

/// The kind of a subject, where that makes a difference.
enum Kind {
    Configuration,
    /// A text from standard input. The result lists no file for it.
    StandardInput,
    /// The files of another machine, below this directory.
    Tree(PathBuf),
    /// A directory that the user named.
    Directory(PathBuf),
    /// Requirements, by this name.
    Requirements(String),
}

/// The result for one subject. Without settings there is at least one error.
pub(super) struct CheckResult {
    pub(super) loaded: Option<Loaded>,
    pub(super) problems: Vec<ReloadProblem>,
}

impl Subject {
    /// The subject of `check [PATH]`.
    pub(super) fn of(
        args: &Args,
        options: &CheckArgs,
        path: Option<&Path>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ReloadProblem> {
        let required = options.requirements.as_deref();
        if let Some(root) = &options.root {
            let mut subject = Self::tree(root)?;
            subject.sources = args.with_overrides(subject.sources);
            return Ok(subject);
        }
        let mut subject = match path {
            None if required.is_some() && !args.names_a_file() => {
                Self::new(Sources::none(), Kind::Configuration)
            }
            None => {
                let sources = args.sources(environment);
                // They have the overrides already.
                return Self::new(sources, Kind::Configuration).under(required);
            }
            Some(path) if standard_input::is(path) => {
                let sources = Sources::none().with_requirements_under(Path::new("/"));
                let sources = sources.with_text(standard_input::NAME, standard_input::read()?);
                Self::new(sources, Kind::StandardInput)
            }
            Some(path) if path.ends_with(REQUIREMENTS) => {
                Self::new(Sources::none(), Kind::Configuration).under(Some(path))?
            }
            Some(path) if path.is_dir() && path.extension().is_none_or(|end| end != "toml") => {
                let mut subject =
                    Self::new(Sources::directory(path), Kind::Directory(path.to_owned()));
                subject.scope.named.push(path.to_owned());
                subject
            }
            Some(path) => Self::new(Sources::file(path), Kind::Configuration),
        };
        subject.sources = args.with_overrides(subject.sources);
        subject.under(required)
    }

    fn new(sources: Sources, kind: Kind) -> Self {
        Self {
            sources,
            scope: PathScope::default(),
            kind,
        }
    }

    /// The subject for `--root`: the files of another machine below a directory.
    fn tree(root: &Path) -> Result<Self, ReloadProblem> {
        if !root.is_dir() {
            let message = format!(
                "--root {}: there is no such directory; name the one that has the machine's etc",
                root.display()
            );
            return Err(ReloadProblem::placeless(&message));
        }
        let mut subject = Self::new(Sources::tree(root), Kind::Tree(root.to_owned()));
        subject.scope.root = Some(root.to_owned());
        Ok(subject)
    }

    /// The subject under the requirements of a file, and not under those of this machine. If there
    /// is no configuration, they are the subject.
    fn under(mut self, requirements: Option<&Path>) -> Result<Self, ReloadProblem> {
        let Some(path) = requirements else {
            return Ok(self);
        };
        let mut sources = self.sources;
        if !matches!(self.kind, Kind::Requirements(_)) {
            sources = sources.without_requirements();
        }
        let mut name = path.display().to_string();
        self.sources = if standard_input::is(path) {
            standard_input::NAME.clone_into(&mut name);
            sources.with_requirements_text(standard_input::NAME, standard_input::read()?)
        } else {
            self.scope.named.push(path.to_owned());
            sources.with_requirements_file(path)
        };
        if !self.sources.has_layers() {
            self.kind = Kind::Requirements(name);
        }
        Ok(self)
    }

    /// Loads it, and judges what only the daemon can judge.
    pub(super) fn judge(&self) -> CheckResult {
        let loaded = match load(&self.sources) {
            Ok(loaded) => loaded,
            Err(found) => {
                return CheckResult {
                    loaded: None,
                    problems: problems::each(&found),
                };
            }
        };
        let mut errors = Vec::new();
        let daemon = &loaded.settings.daemon;
        if let Err(error) = logging::check(&daemon.log) {
            errors.push(ReloadProblem::placeless(&error));
        }
        let hosts = daemon.resolver.hosts_file.as_deref();
        if let Some(Err(problem)) = hosts.map(|hosts| loader::check_hosts(&self.scope.place(hosts)))
        {
            errors.push(error(&problem.text));
        }
        let outside = self.outside(&loaded);
        errors.extend(outside.iter().map(|text| error(text)));
        let mut found = Vec::new();
        match trusted_paths::judge(&loaded.settings, &loaded.secrets, &self.scope) {
            Ok(warnings) => found.extend(warnings.iter().map(|text| warning(text))),
            Err(text) => errors.push(error(&text)),
        }
        if !errors.is_empty() {
            return CheckResult {
                loaded: None,
                problems: errors,
            };
        }
        found.extend(self.nothing_in(&loaded).map(|text| warning(&text)));
        let told = loaded.warnings.iter().chain(&loaded.notes);
        found.extend(told.map(problems::problem));
        CheckResult {
            loaded: Some(loaded),
            problems: found,
        }
    }

    /// A sentence about a subject that says nothing at all, which is probably another one than the
    /// user meant.
    fn nothing_in(&self, loaded: &Loaded) -> Option<String> {
        let settings = &loaded.settings;
        match &self.kind {
            Kind::Directory(directory) => {
                let is_in = |file: &PathBuf| file.starts_with(directory);
                let is_empty = !settings.files.iter().any(is_in);
                is_empty.then(|| {
                    let directory = directory.display();
                    format!("{directory} has no *.toml; is the path right?")
                })
            }
            Kind::Requirements(name) => {
                let policy = &settings.policy;
                let bounds_nothing = settings.managed.pins().is_empty()
                    && policy.allowed().is_empty()
                    && policy.denied().is_empty();
                bounds_nothing.then(|| {
                    format!("{name} bounds nothing; write requirements in [experimental_network]")
                })
            }
            Kind::Tree(root) => settings.files.is_empty().then(|| {
                let root = root.display();
                format!("{root} has no configuration in etc/codex or etc/codex-network-proxy; is the path right?")
            }),
            Kind::Configuration | Kind::StandardInput => None,
        }
    }

    /// A sentence about each file below the root that is a link out of it. The other machine reads
    /// another file there.
    fn outside(&self, loaded: &Loaded) -> Vec<String> {
        let Some(root) = &self.scope.root else {
            return Vec::new();
        };
        let hosts = loaded.settings.daemon.resolver.hosts_file.as_deref();
        let files = loaded.settings.files.iter().map(PathBuf::as_path);
        let files = files.chain(loaded.secrets.files()).chain(hosts);
        let is_outside = |file: &PathBuf| match (file.canonicalize(), root.canonicalize()) {
            (Ok(file), Ok(root)) => !file.starts_with(root),
            // It cannot be read, and another message reports that.
            _ => false,
        };
        let files = files.map(|file| self.scope.place(file)).filter(is_outside);
        files
            .map(|file| {
                let (file, root) = (file.display(), root.display());
                format!("{file} is a link that leads out of {root}; make the link relative")
            })
            .collect()
    }

    pub(super) fn is_requirements(&self) -> bool {
        matches!(self.kind, Kind::Requirements(_))
    }

    /// The texts that the result has no path of.
    pub(super) fn unnamed_text(&self) -> Option<&'static str> {
        let is_read = match &self.kind {
            Kind::StandardInput => true,
            Kind::Requirements(name) => name == standard_input::NAME,
            Kind::Configuration | Kind::Tree(_) | Kind::Directory(_) => false,
        };
        is_read.then_some(standard_input::NAME)
    }
}

/// `error: …`, as other parts of the daemon write it.
fn error(text: &str) -> ReloadProblem {
    ReloadProblem::placeless(text.strip_prefix("error: ").unwrap_or(text))
}

fn warning(message: &str) -> ReloadProblem {
    ReloadProblem {
        severity: "warning".to_owned(),
        message: message.to_owned(),
        text: format!("warning: {message}"),
        ..ReloadProblem::default()
    }
}
