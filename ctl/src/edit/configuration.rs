//! Which files make up the configuration that is changed: those of the running proxy, else those that a
//! proxy of this user would read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use codex_network_config::Sources;

/// The files of the whole system, in their order; the last is a directory.
const SYSTEM_MAIN: &str = "/etc/codex-network-proxy/config.toml";
const SYSTEM_FILES: [&str; 2] = ["/etc/codex/config.toml", SYSTEM_MAIN];
const SYSTEM_DIRECTORY: &str = "/etc/codex-network-proxy/conf.d";
/// The files with managed constraints (SPEC C6).
const REQUIREMENTS: [&str; 3] = [
    "/etc/codex/requirements.toml",
    "/etc/codex-network-proxy/requirements.toml",
    // On a Mac (SPEC C12).
    "/Library/Managed Preferences/com.openai.codex.plist",
];

/// The files that a running proxy reports.
#[derive(Clone, Debug)]
pub(crate) struct ReadByProxy {
    /// The user who started it.
    pub(crate) uid: u32,
    /// Its files, the weakest layer first, with absolute paths.
    pub(crate) files: Vec<PathBuf>,
}

/// A configuration to change.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(super) sources: Sources,
    /// The file that gets a list which no file has.
    pub(super) main: PathBuf,
}

impl Configuration {
    /// The configuration of one file, as of `--config FILE`.
    pub(crate) fn of_file(file: &Path) -> Self {
        Self::new(Sources::file(file), file.to_owned())
    }

    /// The configuration of a running proxy. `environment` looks a variable of the caller up.
    pub(crate) fn of_proxy(
        proxy: &ReadByProxy,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let own: Vec<&PathBuf> = proxy
            .files
            .iter()
            .filter(|file| !is_requirements(file))
            .collect();
        let is_systems = |file: &Path| {
            let is_listed = SYSTEM_FILES.iter().any(|system| file == Path::new(system));
            is_listed || file.parent() == Some(Path::new(SYSTEM_DIRECTORY))
        };
        let others: Vec<&&PathBuf> = own.iter().filter(|file| !is_systems(file)).collect();
        let named_home = |file: &Path| {
            let home = file.parent().map(|home| home.as_os_str().to_owned());
            move |name: &str| home.clone().filter(|_| name == "CODEX_HOME")
        };
        match (others.as_slice(), own.len(), proxy.uid) {
            ([user], _, _) if is_users(user, &environment) || own.len() > 1 => Self::new(
                Sources::system().with_user(named_home(user)),
                (**user).clone(),
            ),
            ([named], _, _) => Self::of_file(named),
            (_, _, 0) => Self::new(Sources::system(), PathBuf::from(SYSTEM_MAIN)),
            _ => Self::of_user(environment),
        }
    }

    /// The configuration that a proxy started by this user would read.
    pub(crate) fn of_caller(uid: u32, environment: impl Fn(&str) -> Option<OsString>) -> Self {
        if uid == 0 {
            Self::new(Sources::system(), PathBuf::from(SYSTEM_MAIN))
        } else {
            Self::of_user(environment)
        }
    }

    fn of_user(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let main = users_file(&environment).unwrap_or_else(|| PathBuf::from(SYSTEM_MAIN));
        Self::new(Sources::system_and_user(environment), main)
    }

    fn new(sources: Sources, main: PathBuf) -> Self {
        // The variables with secrets are those of the proxy, not those of this shell.
        let sources = sources.with_environment(|_| Some("not looked at".into()));
        Self { sources, main }
    }
}

/// Whether a file has managed constraints.
pub(super) fn is_requirements(file: &Path) -> bool {
    REQUIREMENTS.iter().any(|path| file == Path::new(path))
}

/// Whether this is the file of the calling user.
fn is_users(file: &Path, environment: impl Fn(&str) -> Option<OsString>) -> bool {
    users_file(environment).is_some_and(|users| users == file)
}

/// The file of a user (SPEC C1).
fn users_file(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name| environment(name).filter(|value| !value.is_empty());
    let home = variable("CODEX_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".codex")))?;
    Some(home.join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32, files: &[&str]) -> (PathBuf, String) {
        let proxy = ReadByProxy {
            uid,
            files: files.iter().map(PathBuf::from).collect(),
        };
        let environment = |name: &str| (name == "HOME").then(|| "/home/anna".into());
        let found = Configuration::of_proxy(&proxy, environment);
        (found.main, format!("{:?}", found.sources))
    }

    #[test]
    fn w3_the_main_file_is_the_one_that_the_proxy_was_started_with() {
        let (main, sources) = of(7, &["/srv/proxy.toml", REQUIREMENTS[0]]);
        assert_eq!(main, Path::new("/srv/proxy.toml"));
        assert!(!sources.contains("conf.d"), "{sources}");
    }

    #[test]
    fn w3_the_main_file_of_a_service_is_the_systems_and_of_a_user_the_users() {
        for files in [
            &[SYSTEM_MAIN][..],
            &[],
            &["/etc/codex-network-proxy/conf.d/1.toml"],
        ] {
            let (main, sources) = of(0, files);
            assert_eq!(main, Path::new(SYSTEM_MAIN));
            assert!(!sources.contains("UserFile"), "{sources}");
        }
        let users = "/home/anna/.codex/config.toml";
        for files in [&[][..], &[users], &[SYSTEM_MAIN, users], &[SYSTEM_MAIN]] {
            let (main, sources) = of(7, files);
            assert_eq!(main, Path::new(users), "{files:?}");
            assert!(sources.contains("conf.d"), "{sources}");
        }
        let (main, _) = of(7, &[SYSTEM_MAIN, "/other/config.toml"]);
        assert_eq!(main, Path::new("/other/config.toml"));
    }
}
