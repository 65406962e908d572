//! The service manager's view of the proxy: systemd's units, or launchd's job.

use std::collections::HashMap;
use std::path::Path;

use super::tool::{self, Success};

/// systemd's name of the service.
pub(super) const SERVICE: &str = "codex-network-proxy.service";
/// The socket units, by the name of the listener.
pub(super) const SOCKETS: [(&str, &str); 4] = [
    ("http", "codex-network-proxy-http.socket"),
    ("socks5", "codex-network-proxy-socks5.socket"),
    ("admin", "codex-network-proxy-admin.socket"),
    ("control", "codex-network-proxy-control.socket"),
];
/// launchd's name of the job.
pub(super) const JOB: &str = "system/com.openai.codex-network-proxy";

const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID,ExecMainStatus,NeedDaemonReload,Listen";

/// The service manager of this system.
#[derive(Debug)]
pub(super) enum InitSystem {
    Systemd(Units),
    Launchd(Job),
    /// Neither of them, as in most containers.
    None,
    /// It exists but gives no answer.
    Unanswered(String),
}

/// Our units.
#[derive(Clone, Debug, Default)]
pub(super) struct Units(pub(super) Vec<Unit>);

/// A unit, from `systemctl show`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) id: String,
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    /// `enabled`, `disabled`, …
    pub(super) file: String,
    pub(super) result: String,
    pub(super) main_pid: Option<u32>,
    pub(super) exit_status: Option<i32>,
    /// Whether its file has changed since systemd read it.
    pub(super) is_stale: bool,
    /// The addresses and paths that a socket unit listens on.
    pub(super) listens: Vec<String>,
}

/// A job, from `launchctl print`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) is_loaded: bool,
    pub(super) state: String,
    pub(super) pid: Option<u32>,
    pub(super) last_exit: Option<String>,
}

impl InitSystem {
    pub(super) fn ask() -> Self {
        if cfg!(target_os = "macos") {
            return match tool::run("/bin/launchctl", &["print", JOB]) {
                Ok((text, Success::Yes)) => Self::Launchd(Job::read(&text)),
                Ok((_, Success::No)) => Self::Launchd(Job::default()),
                Err(why) => Self::Unanswered(why),
            };
        }
        // The test of sd_booted(3).
        if !Path::new("/run/systemd/system").is_dir() {
            return Self::None;
        }
        let units = std::iter::once(SERVICE).chain(SOCKETS.map(|(_, unit)| unit));
        let arguments: Vec<&str> = ["show", PROPERTIES].into_iter().chain(units).collect();
        match tool::run("systemctl", &arguments) {
            Ok((text, Success::Yes)) => Self::Systemd(Units::read(&text)),
            Ok((_, Success::No)) => Self::Unanswered("systemctl show fails".to_owned()),
            Err(why) => Self::Unanswered(why),
        }
    }

    /// Whether the proxy is installed as a service of the whole system.
    pub(super) fn has_service(&self) -> bool {
        match self {
            Self::Systemd(units) => units.service().is_some_and(Unit::is_installed),
            Self::Launchd(job) => job.is_loaded,
            Self::None | Self::Unanswered(_) => false,
        }
    }

    /// The service's process that keeps the sockets.
    pub(super) fn main_pid(&self) -> Option<u32> {
        match self {
            Self::Systemd(units) => units.service()?.main_pid,
            Self::Launchd(job) => job.pid,
            Self::None | Self::Unanswered(_) => None,
        }
    }

    /// How to start the service.
    pub(super) fn start(&self) -> String {
        match self {
            Self::Systemd(units) if units.service().is_some_and(Unit::is_installed) => {
                "systemctl start codex-network-proxy".to_owned()
            }
            Self::Launchd(job) if job.is_loaded => format!("sudo launchctl kickstart {JOB}"),
            _ => "start it: codex-network-proxy (or name its control socket with --socket)"
                .to_owned(),
        }
    }

    /// How to restart the proxy.
    pub(super) fn restart(&self) -> String {
        match self {
            Self::Systemd(_) if self.has_service() => {
                "systemctl restart codex-network-proxy".to_owned()
            }
            Self::Launchd(job) if job.is_loaded => format!("sudo launchctl kickstart -k {JOB}"),
            _ => "stop it and start it again".to_owned(),
        }
    }
}

impl Units {
    fn read(text: &str) -> Self {
        let units = text.split("\n\n").filter(|block| !block.trim().is_empty());
        Self(units.map(Unit::read).collect())
    }

    pub(super) fn service(&self) -> Option<&Unit> {
        self.named(SERVICE)
    }

    pub(super) fn named(&self, id: &str) -> Option<&Unit> {
        self.0.iter().find(|unit| unit.id == id)
    }
}

impl Unit {
    /// One block of `KEY=VALUE` lines.
    fn read(block: &str) -> Self {
        let mut unit = Self::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            match key {
                "Id" => value.clone_into(&mut unit.id),
                "LoadState" => value.clone_into(&mut unit.load),
                "ActiveState" => value.clone_into(&mut unit.active),
                "SubState" => value.clone_into(&mut unit.sub),
                "UnitFileState" => value.clone_into(&mut unit.file),
                "Result" => value.clone_into(&mut unit.result),
                "MainPID" => unit.main_pid = value.parse().ok().filter(|pid| *pid > 0),
                "NeedDaemonReload" => unit.is_stale = value == "yes",
                "ExecMainStatus" => unit.exit_status = value.parse().ok(),
                // As in `127.0.0.1:3128 (Stream)`.
                "Listen" => {
                    let address = value
                        .rsplit_once(" (")
                        .map_or(value, |(address, _)| address);
                    unit.listens.push(address.to_owned());
                }
                _ => {}
            }
        }
        unit
    }

    /// Whether it exists, even if it is masked or broken.
    pub(super) fn is_installed(&self) -> bool {
        !matches!(self.load.as_str(), "" | "not-found")
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading")
    }
}

impl Job {
    /// Nested blocks of `key = value`, of which only the outermost is used.
    fn read(text: &str) -> Self {
        let mut depth = 0_usize;
        let mut values = HashMap::new();
        for line in text.lines().map(str::trim) {
            if line.ends_with('{') {
                depth += 1;
            } else if line == "}" {
                depth = depth.saturating_sub(1);
            } else if depth == 1
                && let Some((key, value)) = line.split_once(" = ")
            {
                values.entry(key).or_insert(value);
            }
        }
        let value = |key: &str| values.get(key).map(|value| (*value).to_owned());
        Self {
            is_loaded: true,
            state: value("state").unwrap_or_default(),
            pid: value("pid").and_then(|pid| pid.parse().ok()),
            last_exit: value("last exit code").filter(|code| !code.starts_with('(')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_the_output_of_systemctl_show_is_parsed() {
        let units = Units::read(
            "Id=codex-network-proxy.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\
             UnitFileState=enabled\nNeedDaemonReload=yes\nResult=exit-code\nMainPID=0\nExecMainStatus=78\n\n\
             Listen=127.0.0.1:3128 (Stream)\nListen=/run/a b.sock (Stream)\nId=codex-network-proxy-http.socket\n\
             LoadState=loaded\nActiveState=active\nSubState=running\n",
        );
        let service = units.service().expect("it is there");
        assert_eq!((service.main_pid, service.exit_status), (None, Some(78)));
        assert_eq!(service.result, "exit-code");
        assert!(service.is_stale);
        let http = units.named(SOCKETS[0].1).expect("it is there");
        assert_eq!(http.listens, ["127.0.0.1:3128", "/run/a b.sock"]);
        assert!(http.is_active() && http.is_installed());
        assert!(Units::read("\n").0.is_empty());
    }

    #[test]
    fn k1_the_output_of_launchctl_print_is_parsed() {
        let job = Job::read(
            "system/com.openai.codex-network-proxy = {\n\tactive count = 5\n\tstate = running\n\n\
             \tprogram = /usr/local/bin/codex-network-proxy\n\tsockets = {\n\t\t\"http\" = {\n\
             \t\t\tstate = other\n\t\t\tpid = 9\n\t\t}\n\t}\n\tpid = 417\n\tlast exit code = (never exited)\n}\n",
        );
        let running = Job {
            is_loaded: true,
            state: "running".to_owned(),
            pid: Some(417),
            last_exit: None,
        };
        assert_eq!(job, running);
        let ended =
            Job::read("x = {\n\tstate = not running\n\tlast exit code = 78: EX_CONFIG\n}\n");
        assert_eq!(ended.last_exit.as_deref(), Some("78: EX_CONFIG"));
        assert_eq!(ended.pid, None);
    }
}
