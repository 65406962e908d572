//! Our proxy, with the settings that the measurements vary.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::{Doors, Launch, Program, Side, Started, Work, command};
use crate::dial::{HOST, NAME};
use crate::lab::Lab;
use crate::machine;
use crate::process::{Log, free_port};

/// The name of our proxy in tables.
pub(crate) const OURS: &str = "this proxy";
/// The same with the audit on.
pub(crate) const AUDITED: &str = "audit on";
/// The variable of the credential that [`Tls::Brokered`] has.
pub(crate) const CREDENTIAL: &str = "BENCH_TOKEN";
/// Another build of it.
pub(crate) const BESIDE: &str = "other build";

/// The program `codex-network-proxy`.
#[derive(Clone)]
pub(crate) struct Proxy {
    path: PathBuf,
}

/// Whether each decision is logged, to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    On,
    Off,
}

/// Whether the admin API is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminApi {
    On,
    Off,
}

/// How HTTPS is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Tunnelled,
    Intercepted,
    /// For the sessions that hold a credential for the origin.
    Brokered,
}

/// The settings of one start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) audit: Audit,
    pub(crate) admin: AdminApi,
    pub(crate) tls: Tls,
    /// Further patterns on the allow list, none of which matches the origin.
    pub(crate) patterns: usize,
    /// The most sessions of a user, instead of the default.
    pub(crate) sessions: Option<u32>,
    /// The port of a collector on this machine that gets the audit events.
    pub(crate) collector: Option<u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            audit: Audit::Off,
            admin: AdminApi::Off,
            tls: Tls::Tunnelled,
            patterns: 0,
            sessions: None,
            collector: None,
        }
    }
}

impl Proxy {
    /// The program at a path, by default beside this one.
    pub(crate) fn new(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = match path {
            Some(path) => fs::canonicalize(&path).with_context(|| path.display().to_string())?,
            None => std::env::current_exe()?.with_file_name("codex-network-proxy"),
        };
        ensure!(
            path.exists(),
            "{} does not exist; build it: cargo build --release -p codex-network-proxy",
            path.display()
        );
        Ok(Self { path })
    }

    /// Starts it.
    pub(crate) fn start(&self, lab: &Lab, setup: Setup) -> anyhow::Result<Started> {
        let folder = lab.new_folder("ours-")?;
        self.prepare(lab, folder.path(), setup)?.start(folder)
    }

    /// The setups that take part in the comparison.
    pub(crate) fn programs(&self) -> anyhow::Result<Vec<Program>> {
        let path = self
            .path
            .to_str()
            .context("the path of the proxy is text")?;
        let version = machine::version(path, "--version").unwrap_or_default();
        let program = |name, side, works, setup| {
            let proxy = self.clone();
            Program {
                name,
                side,
                works,
                version: version.clone(),
                prepare: Box::new(move |lab, folder| proxy.prepare(lab, folder, setup)),
            }
        };
        let plain: &[Work] = &[Work::Http, Work::Refusal, Work::Tunnel, Work::Socks5];
        let setup = Setup::default();
        let audited = Setup {
            audit: Audit::On,
            ..setup
        };
        let intercepting = Setup {
            tls: Tls::Intercepted,
            ..setup
        };
        Ok(vec![
            program(OURS, Side::Ours, plain, setup),
            program(AUDITED, Side::Audited, plain, audited),
            program(
                "this proxy",
                Side::Ours,
                &[Work::Interception],
                intercepting,
            ),
        ])
    }

    /// The same as peers, for another build than the one that is compared.
    pub(crate) fn programs_beside(&self) -> anyhow::Result<Vec<Program>> {
        let mut programs = self.programs()?;
        programs.retain(|program| program.side == Side::Ours);
        for program in &mut programs {
            (program.name, program.side) = (BESIDE, Side::Peer);
        }
        Ok(programs)
    }

    fn prepare(&self, lab: &Lab, folder: &Path, setup: Setup) -> anyhow::Result<Launch> {
        let (http, socks5) = (free_port()?, free_port()?);
        let admin = match setup.admin {
            AdminApi::On => Some(free_port()?),
            AdminApi::Off => None,
        };
        let hosts = format!("127.0.0.1 {HOST} {NAME}\n");
        fs::write(folder.join("hosts"), hosts)?;
        let path = folder.join("config.toml");
        fs::write(
            &path,
            configuration(lab, folder, [http, socks5], admin, setup)?,
        )?;
        let mut command = command(&self.path, folder);
        command
            .arg("--config")
            .arg(path)
            .env("SSL_CERT_FILE", lab.origin_ca())
            .env("CODEX_HOME", folder);
        Ok(Launch {
            command,
            log: Log::File,
            doors: Doors {
                http: Some(http),
                socks5: Some(socks5),
                admin,
                fixed: None,
            },
        })
    }
}

fn configuration(
    lab: &Lab,
    folder: &Path,
    [http, socks5]: [u16; 2],
    admin: Option<u16>,
    setup: Setup,
) -> anyhow::Result<String> {
    let folder = folder.display();
    let level = match setup.audit {
        Audit::On => "info",
        Audit::Off => "warn",
    };
    let mode = match setup.tls {
        Tls::Intercepted => "limited",
        Tls::Tunnelled | Tls::Brokered => "full",
    };
    let mut patterns = format!("\"{HOST}\", \"{NAME}\"");
    for number in 0..setup.patterns {
        write!(patterns, ", \"*.host-{number}.example\"")?;
    }
    let sessions = setup.sessions.map_or_else(String::new, |most| {
        format!("\n[daemon.sessions]\nmax_per_user = {most}\n")
    });
    let telemetry = setup.collector.map_or_else(String::new, |port| {
        format!("\n[daemon.telemetry]\notlp = \"http://127.0.0.1:{port}\"\n")
    });
    let credential = match setup.tls {
        Tls::Brokered => format!(
            "\n[network.credentials.bench]\nenv = \"{CREDENTIAL}\"\nurl_prefixes = [\"https://{HOST}:{}\"]\n",
            lab.ports().https
        ),
        Tls::Tunnelled | Tls::Intercepted => String::new(),
    };
    let admin_url = admin.map_or_else(String::new, |port| {
        format!("admin_url = \"http://127.0.0.1:{port}\"\n")
    });
    let admin = admin.is_some();
    let broker = match setup.tls {
        Tls::Brokered => "credential_broker = true\n",
        Tls::Tunnelled | Tls::Intercepted => "",
    };
    Ok(format!(
        r#"[network]
proxy_url = "http://127.0.0.1:{http}"
socks_url = "socks5h://127.0.0.1:{socks5}"
mode = "{mode}"
allow_local_binding = true
allowed_domains = [{patterns}]
{broker}{admin_url}
[network.mitm]
ca_cert_path = "{ca}"
ca_key_path = "{key}"

[daemon]
log = "{level}"
log_format = "json"
state_dir = "{folder}/state"

[daemon.control]
socket = "{folder}/control.sock"

[daemon.admin]
enabled = {admin}

[daemon.limits]
max_connections = 20000

[daemon.resolver]
hosts_file = "{folder}/hosts"
{sessions}{telemetry}{credential}"#,
        ca = lab.ca().display(),
        key = lab.ca_key().display(),
    ))
}
