//! The places in which a program runs: outside, in a jail, and in the sandbox of Codex.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Jail;
use crate::lab::Lab;
use crate::programs::Started;

/// The kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The variables of a session, and no jail.
    Outside,
    Jail,
    /// The sandbox of Codex, which has a proxy of its own.
    Codex,
}

/// How a program is started in one place.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The command that starts it; empty if it is started directly.
    prefix: Vec<OsString>,
    /// The configuration of Codex.
    home: Option<TempDir>,
}

impl Place {
    fn new(name: &'static str, kind: Kind, prefix: Vec<OsString>) -> Self {
        Self {
            name,
            kind,
            prefix,
            home: None,
        }
    }

    /// A command that starts the program here.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words = self
            .prefix
            .iter()
            .map(OsString::as_os_str)
            .chain([program.as_ref()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        if let Some(home) = &self.home {
            command
                .env("CODEX_HOME", home.path())
                .current_dir(home.path());
        }
        command
    }
}

/// The places of the loads.
pub(super) fn of_loads(jail: &Jail, lab: &Lab, started: &Started) -> anyhow::Result<Vec<Place>> {
    let mut places = vec![
        service(
            jail,
            started,
            "outside",
            Kind::Outside,
            &["--isolation", "env"],
        ),
        service(jail, started, "jail", Kind::Jail, &[]),
        service(
            jail,
            started,
            "jail, unix sockets permitted",
            Kind::Jail,
            &["--allow-unix-sockets"],
        ),
    ];
    places.extend(codex(jail, lab, "codex", &[])?);
    Ok(places)
}

/// The places of the starts.
pub(super) fn of_starts(jail: &Jail, lab: &Lab, started: &Started) -> anyhow::Result<Vec<Place>> {
    let config = started.folder().join("private.toml");
    fs::write(&config, "[network]\nallowed_domains = [\"localhost\"]\n")?;
    let mut private = run(jail, &[OsStr::new("--config"), config.as_os_str()]);
    private.push("--".into());
    let mut places = vec![
        Place::new("directly", Kind::Outside, Vec::new()),
        service(
            jail,
            started,
            "`--isolation env`",
            Kind::Outside,
            &["--isolation", "env"],
        ),
        service(jail, started, "jail", Kind::Jail, &[]),
        service(
            jail,
            started,
            "jail, unix sockets permitted",
            Kind::Jail,
            &["--allow-unix-sockets"],
        ),
        Place::new("jail, private proxy", Kind::Jail, private),
    ];
    places.extend(codex(jail, lab, "codex", &[])?);
    places.extend(codex(
        jail,
        lab,
        "codex, transparent",
        &["--transparent-tcp"],
    )?);
    Ok(places)
}

fn run(jail: &Jail, options: &[&OsStr]) -> Vec<OsString> {
    let fixed = [
        jail.proxyctl.as_os_str(),
        "run".as_ref(),
        "--summary=never".as_ref(),
    ];
    fixed.iter().chain(options).map(OsString::from).collect()
}

/// `proxyctl run` with the proxy that runs.
fn service(
    jail: &Jail,
    started: &Started,
    name: &'static str,
    kind: Kind,
    options: &[&str],
) -> Place {
    let socket = started.folder().join("control.sock");
    let mut words = vec![OsStr::new("--socket"), socket.as_os_str()];
    words.extend(options.iter().map(OsStr::new));
    words.push(OsStr::new("--"));
    Place::new(name, kind, run(jail, &words))
}

/// The sandbox of Codex, with the policy that ours has.
fn codex(
    jail: &Jail,
    lab: &Lab,
    name: &'static str,
    options: &[&str],
) -> anyhow::Result<Option<Place>> {
    let Some(program) = &jail.codex else {
        return Ok(None);
    };
    // Its sandbox has a `/tmp` of its own.
    let home = tempfile::Builder::new()
        .prefix("bench-codex-")
        .tempdir_in("/var/tmp")?;
    fs::write(home.path().join("config.toml"), configuration(lab.folder()))?;
    let fixed = [
        program.as_os_str(),
        "sandbox".as_ref(),
        "-P".as_ref(),
        "bench".as_ref(),
    ];
    let options = options.iter().map(OsStr::new);
    let words = fixed.into_iter().chain(options).chain([OsStr::new("--")]);
    let mut place = Place::new(name, Kind::Codex, words.map(OsString::from).collect());
    place.home = Some(home);
    Ok(Some(place))
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"default_permissions = "bench"

[features]
network_proxy = true

[projects."{folder}"]
trust_level = "trusted"

[permissions.bench.filesystem]
":root" = "read"

[permissions.bench.network]
enabled = true
allow_local_binding = true

[permissions.bench.network.domains]
"{}" = "allow"
"#,
        crate::dial::HOST
    )
}
