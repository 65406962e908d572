//! The package managers that are asked for their hosts, and what they answer.
//!
//! Only configuration of the user and the machine counts. A program that ran in the working directory
//! may have written the files there. Git is the exception: its remotes are those of the working
//! directory.

use std::env;
use std::path::{Path, PathBuf};

use codex_network_config::PackageTool;
use codex_network_files::Reading;
use serde_json::Value;

use super::ask::{Question, is_file};
use super::url_host::{host, plain};

/// The host from which pip's default index serves its files. pip learns it from the index.
const FILES_OF_PYPI: (&str, &str) = ("pypi.org", "files.pythonhosted.org");
/// The registry that is built into cargo, and the host of its files. cargo learns it from the index, and
/// keeps it beside the index.
const CRATES_IO: (&str, &str) = ("index.crates.io", "static.crates.io");
/// The registry to which cargo publishes.
const CRATES_IO_API: &str = "https://crates.io";
/// The repositories that are built into twine. The first is the default.
const TWINE_REPOSITORIES: [(&str, &str); 2] = [
    ("pypi", "https://upload.pypi.org/legacy/"),
    ("testpypi", "https://test.pypi.org/legacy/"),
];
/// The key of npm's configuration for the registry of packages without a scope.
const NPM_REGISTRY: &str = "registry";
/// The longest configuration file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Npm,
    Pip,
    Apt,
    Cargo,
    Git,
}

/// A host, and where the tool has it from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolHost {
    pub(super) host: String,
    /// The URL that the host is from, without user information, query and fragment; `None` for a host of
    /// files.
    pub(super) url: Option<String>,
    pub(super) source: String,
}

impl Tool {
    pub(super) const ALL: [Self; 5] = [Self::Npm, Self::Pip, Self::Apt, Self::Cargo, Self::Git];

    /// The preset's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Apt => "apt",
            Self::Cargo => "cargo",
            Self::Git => "git",
        }
    }

    /// The program that answers.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Apt => "apt-get",
            Self::Cargo => "cargo's configuration",
            Self::Git => "git",
        }
    }

    /// The hosts that it stands for.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Npm => "the registries of the user's configuration",
            Self::Pip => "the indexes of the user's configuration, and the host of their files",
            Self::Apt => "the sources of this machine",
            Self::Cargo => {
                "the registries of the user's configuration, and the hosts of their files"
            }
            Self::Git => "the remotes of the working directory",
        }
    }

    /// The hosts that the tool uses here, in no order.
    ///
    /// # Errors
    ///
    /// A sentence: why the tool gives no answer.
    pub(super) fn hosts(self) -> Result<Vec<ToolHost>, String> {
        match self {
            Self::Npm => npm(),
            Self::Pip => pip(),
            Self::Apt => apt(),
            Self::Cargo => cargo(),
            Self::Git => git(),
        }
    }
}

/// The URL that a tool's token belongs to (SPEC B5): the one registry that the tool uses by default, in the
/// configuration of the user and the machine. The registries of scopes and further indexes have tokens of their own.
/// `None` if the tool gives no answer.
pub(super) fn token_url(tool: PackageTool) -> Option<String> {
    match tool {
        PackageTool::Npm => npm_default(&npm().ok()?),
        PackageTool::Pip => Some(beside_files(pip_index(&pip_help().ok()?)?.url?)),
        PackageTool::Cargo => Some(CRATES_IO_API.to_owned()),
        PackageTool::Twine => {
            let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            let home = env::var_os("HOME").map(PathBuf::from);
            let file = home.filter(|home| home.is_absolute());
            let file = file.map(|home| home.join(".pypirc"));
            let file = file.and_then(|file| read(&file).ok());
            let (url, name) = (
                variable("TWINE_REPOSITORY_URL"),
                variable("TWINE_REPOSITORY"),
            );
            twine_url(
                url.as_deref(),
                name.as_deref(),
                file.as_deref().unwrap_or(""),
            )
        }
    }
}

/// The repository to which twine uploads: `url`, or that of this name in the text of `.pypirc`, or the one that is
/// built into twine.
fn twine_url(url: Option<&str>, name: Option<&str>, configured: &str) -> Option<String> {
    if let Some(url) = url {
        return plain(url);
    }
    let name = name.unwrap_or("pypi");
    let mut section = "";
    let configured = configured.lines().find_map(|line| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.strip_suffix(']').unwrap_or("").trim();
            return None;
        }
        let (key, value) = line.split_once(['=', ':'])?;
        let is_it = section == name && key.trim().eq_ignore_ascii_case("repository");
        is_it.then(|| value.trim())
    });
    let built_in = TWINE_REPOSITORIES.iter().find(|(known, _)| *known == name);
    plain(configured.or(built_in.map(|(_, url)| *url))?)
}

fn of_user<'a>(program: &'a str, arguments: &'a [&'a str]) -> Question<'a> {
    Question {
        program,
        arguments,
        directory: Path::new("/"),
    }
}

fn found(url: &str, source: impl Into<String>) -> Option<ToolHost> {
    Some(ToolHost {
        host: host(url)?,
        url: plain(url),
        source: source.into(),
    })
}

fn npm() -> Result<Vec<ToolHost>, String> {
    let question = of_user("npm", &["config", "list", "--json"]);
    let answer = question.ask()?;
    npm_registries(&answer).ok_or_else(|| format!("{} printed no JSON", question.shown()))
}

/// The URL of the registry of packages without a scope.
fn npm_default(registries: &[ToolHost]) -> Option<String> {
    let mut registries = registries.iter();
    let default = registries.find(|registry| registry.source == npm_source(NPM_REGISTRY));
    default?.url.clone()
}

fn npm_source(key: &str) -> String {
    format!("npm config get {key}")
}

/// `registry`, and `@scope:registry` of single scopes.
fn npm_registries(answer: &str) -> Option<Vec<ToolHost>> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let registries = answer.as_object()?.iter().filter_map(|(key, value)| {
        let is_registry = key == NPM_REGISTRY || key.ends_with(":registry");
        let url = value.as_str().filter(|_| is_registry)?;
        found(url, npm_source(key))
    });
    Some(registries.collect())
}

fn pip() -> Result<Vec<ToolHost>, String> {
    let help = pip_help()?;
    let configured = of_user("pip", &["config", "list"]).ask()?;
    let mut hosts: Vec<ToolHost> = pip_index(&help).into_iter().collect();
    hosts.extend(pip_further(&configured));
    let (index, files) = FILES_OF_PYPI;
    if hosts.iter().any(|found| found.host == index) {
        hosts.push(ToolHost {
            host: files.to_owned(),
            url: None,
            source: format!("the files of {index}"),
        });
    }
    Ok(hosts)
}

/// The default value in this text is the one in force.
fn pip_help() -> Result<String, String> {
    of_user("pip", &["install", "--help"]).ask()
}

/// The index, from the text of `pip install --help`.
fn pip_index(help: &str) -> Option<ToolHost> {
    let (_, after) = help.split_once("--index-url")?;
    let (_, after) = after.split_once("(default")?;
    let url = after.split(')').next()?;
    // A narrow terminal breaks the line.
    let url: String = url.split_whitespace().collect();
    found(&url, "pip's index-url")
}

/// The URL of an index together with its files: these stand beside the folder `simple` of the index, and pip presents
/// the same credential for them.
fn beside_files(index: String) -> String {
    let folder = index.strip_suffix('/').unwrap_or(&index);
    // devpi writes it as `+simple`.
    let parent = folder.strip_suffix("/simple");
    let parent = parent.or_else(|| folder.strip_suffix("/+simple"));
    match parent {
        Some(parent) => parent.to_owned(),
        None => index,
    }
}

/// Further indexes, from `pip config list`: lines of the form `global.extra-index-url='URL URL'`.
fn pip_further(configured: &str) -> Vec<ToolHost> {
    let lines = configured.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let name = key.rsplit('.').next()?;
        let counts = ["extra-index-url", "find-links"].contains(&name);
        counts.then_some((key, value))
    });
    let urls = lines.flat_map(|(key, value)| {
        // A list in a file has an escaped line end between its URLs.
        let value = value.trim_matches('\'').replace("\\n", " ");
        let urls: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
        urls.into_iter().map(move |url| (key, url))
    });
    urls.filter_map(|(key, url)| found(&url, format!("pip config get {key}")))
        .collect()
}

fn apt() -> Result<Vec<ToolHost>, String> {
    let answer = of_user("apt-get", &["indextargets", "--format", "$(SITE)"]).ask()?;
    let sites = answer.lines();
    Ok(sites
        .filter_map(|site| found(site, "apt's sources"))
        .collect())
}

fn git() -> Result<Vec<ToolHost>, String> {
    let here = env::current_dir().map_err(|error| format!("no working directory: {error}"))?;
    // It prints the URLs as `url.*.insteadOf` rewrites them.
    let question = Question {
        program: "git",
        arguments: &["remote", "-v"],
        directory: &here,
    };
    Ok(git_remotes(&question.ask()?))
}

/// Lines of the form `origin\tURL (fetch)`.
fn git_remotes(answer: &str) -> Vec<ToolHost> {
    let remotes = answer.lines().filter_map(|line| {
        let (name, url) = line.split_once('\t')?;
        let url = url.rsplit_once(" (").map_or(url, |(url, _)| url);
        found(url, format!("the remote {name}"))
    });
    remotes.collect()
}

fn cargo() -> Result<Vec<ToolHost>, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .filter(|home| home.is_absolute())
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let file = ["config.toml", "config"].map(|name| home.join(name));
    let configured = match file.iter().find(|file| is_file(file)) {
        Some(file) => {
            let shown = file.display();
            let text = read(file)?;
            let parsed = text.parse::<toml::Table>();
            parsed.map_err(|error| format!("{shown}: {}", error.message()))?
        }
        None => toml::Table::new(),
    };
    let of_environment: Vec<(String, String)> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX"))
        .collect();
    let mut hosts = cargo_sources(&configured);
    let named = of_environment.iter();
    hosts.extend(named.filter_map(|(name, url)| found(url, name.as_str())));
    for (index, files) in cargo_files(&home) {
        if hosts.iter().any(|found| found.host == index) {
            hosts.extend(files);
        }
    }
    let knows_files = hosts
        .iter()
        .any(|found| found.source == files_of(CRATES_IO.0));
    if hosts.iter().any(|found| found.host == CRATES_IO.0) && !knows_files {
        hosts.push(ToolHost {
            host: CRATES_IO.1.to_owned(),
            url: None,
            source: files_of(CRATES_IO.0),
        });
    }
    Ok(hosts)
}

/// The registries of a configuration, and the one that is built in unless it is replaced.
fn cargo_sources(configured: &toml::Table) -> Vec<ToolHost> {
    let tables = |name: &str| {
        let table = configured.get(name).and_then(toml::Value::as_table);
        table.into_iter().flatten()
    };
    let registries = tables("registries").filter_map(|(name, registry)| {
        let url = registry.get("index")?.as_str()?;
        found(url, format!("cargo's registries.{name}"))
    });
    let sources = tables("source").filter_map(|(name, source)| {
        let url = source
            .get("registry")
            .or_else(|| source.get("git"))?
            .as_str()?;
        found(url, format!("cargo's source.{name}"))
    });
    let is_replaced = tables("source")
        .any(|(name, source)| name == "crates-io" && source.get("replace-with").is_some());
    let default = (!is_replaced).then(|| ToolHost {
        host: CRATES_IO.0.to_owned(),
        url: None,
        source: "cargo's default registry".to_owned(),
    });
    registries.chain(sources).chain(default).collect()
}

fn files_of(index: &str) -> String {
    format!("the files of {index}")
}

/// The hosts of the files of each index that cargo has used: it keeps the index's `config.json`.
fn cargo_files(home: &Path) -> Vec<(String, Vec<ToolHost>)> {
    let Ok(entries) = std::fs::read_dir(home.join("registry/index")) else {
        return Vec::new();
    };
    let each = entries.flatten().filter_map(|entry| {
        // `HOST-HASH`
        let name = entry.file_name().into_string().ok()?;
        let (index, _) = name.rsplit_once('-')?;
        let text = read(&entry.path().join("config.json")).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let urls = ["dl", "api"]
            .into_iter()
            .filter_map(|key| value.get(key)?.as_str());
        let hosts = urls.filter_map(|url| found(url, files_of(index))).collect();
        Some((index.to_owned(), hosts))
    });
    each.collect()
}

fn read(path: &Path) -> Result<String, String> {
    let text = Reading::up_to(MAX_FILE_BYTES).read_text(path);
    text.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(found: &[ToolHost]) -> Vec<&str> {
        let mut hosts: Vec<&str> = found.iter().map(|found| found.host.as_str()).collect();
        hosts.sort_unstable();
        hosts
    }

    #[test]
    fn j16_npm_has_a_registry_for_all_and_for_scopes() {
        let answer = r#"{"registry": "https://mirror.example/npm/", "@us:registry": "https://own.example",
            "replace-registry-host": "npmjs", "//own.example/:_authToken": "secret"}"#;
        let found = npm_registries(answer).expect("JSON");
        assert_eq!(hosts(&found), ["mirror.example", "own.example"]);
        assert_eq!(npm_registries("npm ERR!"), None);
    }

    #[test]
    fn b5_the_token_of_npm_goes_to_no_registry_of_a_scope() {
        let answer = r#"{"@us:registry": "https://own.example/", "registry": "https://me:pw@mirror.example/npm/",
            "other:registry": "https://other.example/"}"#;
        let found = npm_registries(answer).expect("JSON");
        let wanted = "https://mirror.example/npm/";
        assert_eq!(npm_default(&found).as_deref(), Some(wanted));
        let scoped = npm_registries(r#"{"@us:registry": "https://own.example/"}"#);
        assert_eq!(npm_default(&scoped.expect("JSON")), None);
    }

    #[test]
    fn b5_the_token_of_pip_goes_to_the_files_beside_the_index() {
        for (index, wanted) in [
            ("https://pypi.org/simple", "https://pypi.org"),
            (
                "https://a.example:8443/x/simple/",
                "https://a.example:8443/x",
            ),
            ("https://a.example/x", "https://a.example/x"),
            ("https://a.example/notsimple", "https://a.example/notsimple"),
            (
                "https://a.example/root/x/+simple/",
                "https://a.example/root/x",
            ),
        ] {
            assert_eq!(beside_files(index.to_owned()), wanted);
        }
    }

    #[test]
    fn b5_the_token_of_twine_goes_to_the_repository_that_its_configuration_selects() {
        let configured = "[distutils]\nindex-servers =\n  own\n[own]\nrepository: https://u:p@own.example/up/\n\
             username = me\n[other]\nRepository = https://other.example/\n";
        for (url, name, file, wanted) in [
            (None, None, "", Some("https://upload.pypi.org/legacy/")),
            (
                None,
                None,
                configured,
                Some("https://upload.pypi.org/legacy/"),
            ),
            (
                None,
                Some("testpypi"),
                "",
                Some("https://test.pypi.org/legacy/"),
            ),
            (
                None,
                Some("own"),
                configured,
                Some("https://own.example/up/"),
            ),
            (
                None,
                Some("other"),
                configured,
                Some("https://other.example/"),
            ),
            (None, Some("unknown"), configured, None),
            (
                Some("https://u@url.example/x?y"),
                Some("own"),
                configured,
                Some("https://url.example/x"),
            ),
            (
                None,
                None,
                "[pypi]\nrepository = https://mirror.example/",
                Some("https://mirror.example/"),
            ),
        ] {
            assert_eq!(
                twine_url(url, name, file).as_deref(),
                wanted,
                "{url:?} {name:?}"
            );
        }
    }

    #[test]
    fn j16_pip_has_an_index_and_further_ones() {
        for help in [
            "  -i, --index-url <url>  Base URL of the Index (default\n   https://mirror.example/simple). This",
            "  -i, --index-url <url>  Base URL of the Index (default https://mirror.example/simple). This",
            "  -i, --index-url <url>  Base URL of the Index (default https://mirror.\n   example/simple). This",
        ] {
            let found = pip_index(help).expect("an index");
            assert_eq!(found.host, "mirror.example");
        }
        let configured = "global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'\n\
             :env:.find-links='/opt/wheels https://c.example/x'\nglobal.timeout='60'\n";
        let found = pip_further(configured);
        assert_eq!(hosts(&found), ["a.example", "b.example", "c.example"]);
    }

    #[test]
    fn j16_git_has_remotes_by_url_and_by_short_form() {
        let answer = "origin\thttps://code.example/a (fetch)\norigin\tgit@push.example:a.git (push)\n\
             near\t/srv/a.git (fetch)\nbare\thttps://bare.example (fetch)\n";
        assert_eq!(
            hosts(&git_remotes(answer)),
            ["bare.example", "code.example", "push.example"]
        );
    }

    #[test]
    fn j16_cargo_has_its_default_registry_unless_it_is_replaced() {
        let sources = |text: &str| cargo_sources(&text.parse().expect("TOML"));
        assert_eq!(hosts(&sources("")), ["index.crates.io"]);
        let own = "[registries.own]\nindex = \"sparse+https://own.example/index/\"";
        assert_eq!(hosts(&sources(own)), ["index.crates.io", "own.example"]);
        let replaced = "[source.crates-io]\nreplace-with = \"mirror\"\n\
             [source.mirror]\nregistry = \"sparse+https://mirror.example/\"";
        assert_eq!(hosts(&sources(replaced)), ["mirror.example"]);
    }

    #[test]
    fn j16_cargo_keeps_the_host_of_the_files_beside_each_index() {
        let home = tempfile::tempdir().expect("a directory");
        let index = home
            .path()
            .join("registry/index/index.example-0123456789abcdef");
        std::fs::create_dir_all(&index).expect("a new directory");
        let text = r#"{"dl": "https://files.example/crates", "api": "https://api.example"}"#;
        std::fs::write(index.join("config.json"), text).expect("a new file");
        let found = cargo_files(home.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "index.example");
        assert_eq!(hosts(&found[0].1), ["api.example", "files.example"]);
    }
}
