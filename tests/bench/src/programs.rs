//! The programs that are compared: how each is configured and started. All get the same policy where they can
//! express it: the origin's name is allowed, and everything else is refused.

mod ours;
mod peers;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::process::{Log, Running};

pub(crate) use ours::{AUDITED, AdminApi, Audit, BESIDE, CREDENTIAL, OURS, Proxy, Setup, Tls};

/// The kinds of work. A program takes part in the scenarios of those that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Plain HTTP requests.
    Http,
    /// Requests and CONNECTs that the policy refuses.
    Refusal,
    /// Tunnels to one fixed port, or by CONNECT.
    Tunnel,
    Socks5,
    /// HTTPS that the program decrypts.
    Interception,
}

/// The kind of column that a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// Ours with the audit on, which only some scenarios measure.
    Audited,
    Peer,
}

/// A program that can be started.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) works: &'static [Work],
    /// Its version.
    pub(crate) version: String,
    prepare: Prepare,
}

/// Writes the configuration of a program into its folder.
type Prepare = Box<dyn Fn(&Lab, &Path) -> anyhow::Result<Launch>>;

/// A program that this machine does not have.
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    /// The Debian package that it is in.
    pub(crate) package: &'static str,
}

/// A command that starts a program, and the ports that it listens on.
pub(crate) struct Launch {
    command: Command,
    log: Log,
    doors: Doors,
}

/// The ports of a program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doors {
    /// HTTP proxy.
    pub(crate) http: Option<u16>,
    /// SOCKS5 proxy.
    pub(crate) socks5: Option<u16>,
    /// The admin API of ours.
    pub(crate) admin: Option<u16>,
    /// Forwarders to ports of the origin.
    pub(crate) fixed: Option<Fixed>,
}

/// The ports of a program that forwards to fixed ports of the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    pub(crate) source: u16,
    pub(crate) sink: u16,
    pub(crate) echo: u16,
}

/// A program that runs. Its folder lives as long.
pub(crate) struct Started {
    pub(crate) running: Running,
    pub(crate) doors: Doors,
    folder: TempDir,
}

impl Program {
    /// Starts it in a new folder.
    pub(crate) fn start(&self, lab: &Lab) -> anyhow::Result<Started> {
        let start = || {
            let folder = lab.new_folder("program-")?;
            (self.prepare)(lab, folder.path())?.start(folder)
        };
        start().with_context(|| format!("{} does not start", self.name))
    }
}

impl Started {
    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last line of its log, if it has one.
    pub(crate) fn last_log_line(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }

    /// The lines of its log that contain a text.
    pub(crate) fn log_lines(&self, text: &str) -> anyhow::Result<u64> {
        let log = File::open(self.folder.path().join("log"))?;
        let mut count = 0;
        for line in BufReader::new(log).lines() {
            count += u64::from(line?.contains(text));
        }
        Ok(count)
    }
}

impl Launch {
    /// Starts it in its folder, with a bare environment.
    fn start(mut self, folder: TempDir) -> anyhow::Result<Started> {
        let Doors {
            http,
            socks5,
            admin,
            fixed,
        } = self.doors;
        let fixed = fixed.map(|fixed| [fixed.source, fixed.sink, fixed.echo]);
        let ports: Vec<u16> = http
            .into_iter()
            .chain(socks5)
            .chain(admin)
            .chain(fixed.into_iter().flatten())
            .collect();
        let running = Running::start(&mut self.command, folder.path(), self.log, &ports)?;
        Ok(Started {
            running,
            doors: self.doors,
            folder,
        })
    }
}

/// A command with no environment but a search path and a home.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", folder);
    command
}

/// Our proxy in each setup and the peers that this machine has; and the peers that it does not have.
pub(crate) fn all(proxy: &Proxy) -> anyhow::Result<(Vec<Program>, Vec<Missing>)> {
    let mut programs = proxy.programs()?;
    let mut missing = Vec::new();
    for peer in peers::all() {
        match peer {
            Ok(peer) => programs.push(peer),
            Err(peer) => missing.push(peer),
        }
    }
    Ok((programs, missing))
}
