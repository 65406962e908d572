//! The command line of `proxyctl` (SPEC K1).
//!
//! `packaging/man` compiles this file too, and generates man pages and completions from it. So it
//! uses no other module of this crate.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use codex_network_config::parse_duration;
use codex_network_control::message::HeaderField;
use codex_network_policy::{HeaderNameText, Mode};
use serde::Serialize;

use self::approvals::{ApproveArgs, RejectArgs};
use self::change::{AllowTime, CHANGE_RULES, ChangeArgs, EntryArgs};
use self::run::{RUN_EXAMPLES, RunArgs};

// The paths are written out since `packaging/man` compiles this file from its own folder.
#[path = "args/approvals.rs"]
pub(crate) mod approvals;
#[path = "args/change.rs"]
pub(crate) mod change;
#[path = "args/pattern.rs"]
mod pattern;
#[path = "args/run.rs"]
pub(crate) mod run;

/// Inspect and control a running codex-network-proxy.
#[derive(Debug, Parser)]
#[command(
    name = "proxyctl",
    version,
    after_help = "The control socket is the one that --socket or CODEX_NETWORK_PROXY_CONTROL names. Without them, proxyctl \
                  tries $XDG_RUNTIME_DIR/codex-network-proxy/control.sock, \
                  ~/.local/state/codex-network-proxy/control.sock, then /run/codex-network-proxy/control.sock. \
                  On macOS the first is below $TMPDIR, and the last is /var/run/codex-network-proxy.sock. \
                  Unless --socket names the socket, root uses only a proxy of root, and other users use only their \
                  own proxy or root's. `ca install` always requires a proxy of root. If no proxy answers, commands about \
                  sessions and their questions use the private proxy of a running `run` of this user.\n\n\
                  Exit codes: 0 success; 1 failure, or `doctor` found a problem; 2 invalid command line; 3 no proxy \
                  answers; 4 not permitted. `run` exits as its command does, and with 128 and the number of the \
                  signal that ended it; 125 if the session cannot be made, 126 if the command cannot be started, \
                  127 if it is not found."
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

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program so that nothing it does reaches the network except through the policy, whether it
    /// knows what a proxy is or not. Uses the service if one answers, and else starts a private proxy for
    /// this program. Needs no root.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// List the sessions of `run`, or end one. Administrators and observers see all, others their own.
    Sessions {
        #[command(subcommand)]
        command: Option<SessionsCommand>,
    },
    /// List the open questions: requests to hosts that the policy merely does not allow. Administrators and
    /// observers see all, others their own. Nothing is asked without an `approvals --follow`.
    Approvals {
        /// Listen for questions, and list each change of one, until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// Run this command with the shell for each question, which is JSON on its standard input. Exit status 0
        /// approves, with the scope that it prints (`once`, `session`, a time such as `15m`; `any-port`), 1 rejects,
        /// and others leave the question open.
        #[arg(long, value_name = "COMMAND", requires = "follow")]
        exec: Option<String>,
    },
    /// Approve a question: the host and port that it names, until its session ends, or for 15 minutes without a
    /// session. A rejection wins over an approval.
    Approve(ApproveArgs),
    /// Reject a question, for the rest of the session. If it was approved, the grant ends.
    Reject(RejectArgs),
    /// List the grants in force.
    Grants,
    /// End a grant, and the connections that it permitted.
    Revoke {
        /// The grant's id, as `grants` shows it.
        id: String,
    },
    /// List the credentials that programs of `run` hold dummies of: where they may go, and how often they went
    /// there. Administrators and observers see all, others those of their own sessions. Nobody sees a value.
    Credentials,
    /// Watch the proxy on a full screen: rates, sessions, open questions and the newest decisions. Keys answer
    /// questions, filter and explain; `?` lists them. Administrators and observers see all, others their own
    /// sessions. While it runs, questions are asked as with `approvals --follow`.
    Watch,
    /// Show the state of the proxy: version, listeners, policy, last reload, counts.
    Status,
    /// Show or change the mode. Full mode lasts until the next reload, limited mode until it is changed
    /// again or the service restarts.
    Mode {
        /// The mode to change to.
        mode: Option<ModeWord>,
    },
    /// Reload the configuration. Either all of it takes effect, or nothing changes.
    Reload,
    /// List the last refused requests, the oldest first. Administrators and observers see all, others those of
    /// their own sessions.
    Blocked {
        /// Keep listing new refusals, until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// List only entries after this sequence number. Its last six digits, as the list shows
        /// them, are enough.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        since: u64,
        /// Count the refusals by host instead, with the command that would allow each host.
        #[arg(long, conflicts_with = "follow")]
        summary: bool,
    },
    /// Propose allow entries for what was refused because no list has it, and for what `enforcement = "report"` let
    /// through. Nothing is changed. Administrators and observers see all, others those of their own sessions.
    Suggest {
        /// Use only entries of `blocked` after this sequence number. Its last six digits are enough.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        since: u64,
        /// Use only the refusals of this session.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
    /// Judge the decisions of the running proxy by another configuration, as they are made, until interrupted: what it
    /// would newly block and newly allow, and which of its rules are never used. Nothing is changed.
    Shadow {
        /// The configuration, alone in this file. The requirements of this machine bound it.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// End after this time, such as `1h`.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        time: Option<std::time::Duration>,
    },
    /// List the patterns of the allow list and the deny list, with the file and line of each.
    Patterns,
    /// Show the settings in force.
    Config,
    /// Show the decision of the policy in force on a URL, the rule behind it, and how to change it.
    Explain {
        /// http://…, https://…, ws://…, wss://…, socks5h://HOST:PORT, udp://HOST:PORT, HOST or HOST:PORT; out of
        /// a jail also `tcp://HOST:PORT` and `dns://NAME`.
        url: String,
        /// The method of the HTTP request, in plain HTTP or inside intercepted TLS.
        #[arg(long, short = 'X', value_name = "METHOD")]
        method: Option<String>,
        /// A header field of the HTTP request, as in 'Name: value'. Can be repeated.
        #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
        headers: Vec<HeaderField>,
        /// Resolve the name as the proxy does, if the policy permits the name, and show the decision on
        /// each address.
        #[arg(long)]
        resolve: bool,
        /// Judge by the settings of this session (`proxyctl sessions`): its profile and its own rules.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
    /// Allow a host in the configuration, and reload the proxy. Only the entry changes: comments, order and
    /// form of the file stay. The new configuration is checked first. Deny entries and requirements stay
    /// above it.
    #[command(after_help = CHANGE_RULES)]
    Allow {
        /// The host: example.com, *.example.com (everything below), **.example.com (both) or an address.
        #[arg(value_name = "PATTERN", value_parser = pattern::allowed)]
        pattern: String,
        #[command(flatten)]
        time: AllowTime,
        #[command(flatten)]
        entry: EntryArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Deny a host in the configuration, and reload the proxy. An entry that allows the same pattern gives
    /// way to it. Deny entries win over all others.
    #[command(after_help = CHANGE_RULES)]
    Deny {
        /// The host: example.com, *.example.com (everything below), **.example.com (both) or an address.
        #[arg(value_name = "PATTERN", value_parser = pattern::denied)]
        pattern: String,
        #[command(flatten)]
        entry: EntryArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Remove the entry for a host from the configuration, and reload the proxy.
    #[command(after_help = CHANGE_RULES)]
    Unset {
        /// The pattern of the entry.
        #[arg(value_name = "PATTERN", value_parser = pattern::allowed)]
        pattern: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Check everything that a working proxy needs, and report problems and remedies. Needs no running
    /// proxy, changes nothing, and sends nothing to other machines. Exits with 1 if there is a
    /// problem.
    Doctor {
        /// The checks to make. Without any, all checks.
        #[arg(value_name = "CHECK")]
        checks: Vec<Check>,
    },
    /// Show the CA for intercepted connections, and make this system trust it.
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Write the variables that make programs use the running proxy, for a shell to evaluate:
    /// eval "$(proxyctl env)". They confine nothing: `proxyctl run` does.
    Env {
        /// The shell whose syntax to write. Without it, that of the login shell.
        #[arg(long, value_name = "SHELL")]
        shell: Option<ShellName>,
        /// Write what removes the variables. Needs no running proxy.
        #[arg(long)]
        unset: bool,
    },
    /// Show the allow lists that `run --preset` takes by name, or what one of them stands for on this
    /// machine. For a package manager, its own configuration is asked. Needs no running proxy.
    Presets {
        /// The preset to show.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// The command for sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// End a session: its connections are cut, and its program reaches nothing from then on.
    End {
        /// The session's id, as the list shows it.
        id: String,
    },
}

/// The command for the CA.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show the fingerprint, validity and files of the CA, and how to make programs trust it.
    Show,
    /// Write the certificate of the CA as PEM.
    Export {
        /// Write the system's root certificates too, for programs that use one list instead of the
        /// system's.
        #[arg(long)]
        bundle: bool,
        /// Write into this new file instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make this system trust the CA, with the system's own tools. Needs root.
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
    /// Whether every listener of the running proxy answers.
    Listeners,
    /// Which processes use the ports that the proxy needs. Needs no running proxy.
    Ports,
    /// The user that the worker runs as.
    User,
    /// How the kernel confines the worker.
    Confinement,
    /// Whether `run` can make a jail on this machine. Makes one, with `true` in it.
    Jail,
    /// Which users may change the configuration, the requirements and the CA.
    Permissions,
    /// Whether this system trusts the CA, where it is used.
    Ca,
    /// The proxy and CA variables of the calling shell.
    Environment,
    /// The name servers: whether the proxy has any, whether they answer, and whether /etc/resolv.conf
    /// names the same.
    Names,
    /// The settings in force, and the last reload.
    Settings,
    /// The credentials that the proxy reads itself, and the programs that `run --credential` asks.
    Credentials,
    /// Whether proxyctl and the proxy have the same version.
    Version,
}

/// A shell's name, or a form for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellName {
    /// bash, and any other shell with the syntax of sh.
    Bash,
    Zsh,
    Fish,
    Powershell,
    /// An object with the names and values.
    Json,
}

/// A mode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeWord {
    /// Requests to allowed hosts may have any method.
    Full,
    /// Only requests that read are permitted: GET, HEAD and OPTIONS.
    Limited,
}

/// Writes the name that the command line has for the check.
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
        return Err(format!("the value of {name} has a control character"));
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
