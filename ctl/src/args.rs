//! The command line of `proxyctl` (SPEC K1).
//!
//! `packaging/man` compiles this file too, and generates man pages and completions from it. So it
//! uses no other module of this crate.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use codex_network_control::message::HeaderField;
use codex_network_policy::{HeaderNameText, Mode};
use serde::Serialize;

/// Inspect and control a running codex-network-proxy.
#[derive(Debug, Parser)]
#[command(
    name = "proxyctl",
    version,
    after_help = "The proxy's control socket is the one that --socket or CODEX_NETWORK_PROXY_CONTROL names; without them, \
                  $XDG_RUNTIME_DIR/codex-network-proxy/control.sock, ~/.local/state/codex-network-proxy/control.sock, \
                  then /run/codex-network-proxy/control.sock (on macOS $TMPDIR stands for the first directory, \
                  and the last is /var/run/codex-network-proxy.sock). \
                  Where --socket does not name it, root talks only to a proxy of root, and other users to their own \
                  or root's; `ca install` talks to a proxy of root in any case.\n\n\
                  Exit codes: 0 done, 1 failed, or `doctor` found a problem; 2 the command line was not understood; 3 no proxy \
                  answers; 4 not permitted."
)]
pub(crate) struct Args {
    /// The control socket of the proxy.
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,

    /// Write JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the state of the proxy: version, listeners, policy, last reload, counts.
    Status,
    /// Show the mode, or change it: full mode until the next reload, limited mode until it is changed
    /// again or the service restarts.
    Mode {
        /// The mode to change to.
        mode: Option<ModeWord>,
    },
    /// Read the configuration again and put all of it in force, or nothing.
    Reload,
    /// List the last refused requests, the oldest first.
    Blocked {
        /// Keep listing new refusals, until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// List only entries after this sequence number. Its last six digits, as the list shows them, do.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        since: u64,
    },
    /// List the patterns of both lists, and where each is written.
    Patterns,
    /// Show the settings in force.
    Config,
    /// Show the decision of the policy in force on a URL, the rule behind it, and how to change it.
    Explain {
        /// http://…, https://…, ws://…, wss://…, socks5h://HOST:PORT, udp://HOST:PORT, HOST or HOST:PORT.
        url: String,
        /// The method of the HTTP request, in plain HTTP or inside intercepted TLS.
        #[arg(long, short = 'X', value_name = "METHOD")]
        method: Option<String>,
        /// A header field of the HTTP request, as in 'Name: value'. May be given several times.
        #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
        headers: Vec<HeaderField>,
        /// Look the name up as the proxy does, if the policy permits the name, and show how each
        /// address is judged.
        #[arg(long)]
        resolve: bool,
    },
    /// Check everything that a working proxy needs, and say what is wrong and what to do. Needs no
    /// running proxy, changes nothing, and sends nothing off this machine. Exits with 1 if there is
    /// a problem.
    Doctor {
        /// The checks to make; all, if none is named.
        #[arg(value_name = "CHECK")]
        checks: Vec<Check>,
    },
    /// Show the CA that signs certificates for intercepted connections, and make this system trust
    /// it.
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
}

/// What to do with the CA.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show its fingerprint, validity and files, and how to make programs trust it.
    Show,
    /// Write its certificate as PEM.
    Export {
        /// Write the system's root certificates as well, for programs that take one list.
        #[arg(long)]
        bundle: bool,
        /// Write into this new file instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make this system trust it, with the system's own tools. Needs root.
    Install,
    /// Undo what `install` did. Needs root, and no running proxy.
    Uninstall,
}

/// A check of `doctor`, in the order of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Check {
    /// The service: systemd's unit, or launchd's job.
    Service,
    /// The socket units of systemd.
    Sockets,
    /// The control socket: which process answers, and who owns its file.
    Control,
    /// Whether every door of the running proxy answers.
    Listeners,
    /// Which processes hold the ports that the proxy needs. Needs no proxy.
    Ports,
    /// The user that the worker runs as.
    User,
    /// How the kernel confines the worker.
    Confinement,
    /// Which users may change the configuration, the requirements and the CA.
    Permissions,
    /// Whether this system trusts the CA, where it is used.
    Ca,
    /// The proxy and CA variables of the calling shell.
    Environment,
    /// The name servers: whether one is known, whether they answer, and whether this system names them.
    Names,
    /// The settings in force, and the last reload.
    Settings,
    /// Whether proxyctl and the proxy have the same version.
    Version,
}

/// A mode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeWord {
    /// Allowed hosts may be reached in any way.
    Full,
    /// Only requests that read are permitted.
    Limited,
}

/// As on the command line.
impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Full => Self::Full,
            ModeWord::Limited => Self::Limited,
        }
    }
}

/// Reads a header field. No message repeats its value, which may be a secret.
fn header(text: &str) -> Result<HeaderField, String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| "a header field is written 'Name: value'".to_owned())?;
    HeaderNameText::parse(name).map_err(|error| format!("the name of the field: {error}"))?;
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("the value of {name} holds a control character"));
    }
    Ok(HeaderField {
        name: name.to_owned(),
        value: value.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn k1_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn k1_options_stand_anywhere() {
        let args =
            Args::try_parse_from(["proxyctl", "explain", "x.test", "--json", "--socket", "/s"]);
        let args = args.expect("a command line");
        assert!(args.json);
        assert!(args.socket.is_some());
    }
}
