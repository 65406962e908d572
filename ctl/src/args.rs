//! The command line of `proxyctl` (SPEC K1).
//!
//! `packaging/man` compiles this file too, and generates man pages and completions from it. So it
//! uses no other module of this crate.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use codex_network_config::parse_duration;
use codex_network_control::message::HeaderField;
use codex_network_policy::{Authority, HeaderNameText, ListKind, Mode, Pattern};
use serde::Serialize;

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
                  own proxy or root's. `ca install` always requires a proxy of root.\n\n\
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
    },
    /// Approve a question: the host and port that it names, for its session. A rejection wins over an approval.
    Approve(ApproveArgs),
    /// Reject a question, for the rest of the session. If it was approved, the grant ends.
    Reject {
        /// The question's id, as `approvals` shows it.
        id: String,
    },
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
    /// List the last refused requests, the oldest first.
    Blocked {
        /// Keep listing new refusals, until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// List only entries after this sequence number. Its last six digits, as the list shows
        /// them, are enough.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        since: u64,
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
        #[arg(value_name = "PATTERN", value_parser = allowed)]
        pattern: String,
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
        #[arg(value_name = "PATTERN", value_parser = denied)]
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
        #[arg(value_name = "PATTERN", value_parser = allowed)]
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

const CHANGE_RULES: &str = "The file that changes is the strongest one that has the list and that this user may \
    change, else the main file: the one that the running proxy was started with (--config), \
    /etc/codex-network-proxy/config.toml of the service, or the user's ~/.codex/config.toml. Without a running \
    proxy, the files that a proxy of this user would read count. If the proxy refuses the reload, the file gets \
    its old content back.";

/// The options of a new entry.
#[derive(Debug, clap::Args)]
pub(crate) struct EntryArgs {
    /// Why; becomes a comment beside the entry, with the date and the user.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
}

/// The options of a change of the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Show the change, and make none.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The configuration file to change, instead of those of the running proxy.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

const RUN_EXAMPLES: &str = "Examples:\n  \
    proxyctl run -- curl -sS https://example.com/\n  \
    proxyctl run --preset npm,github -- npm ci\n  \
    proxyctl run --only '**.example.com' --mode limited -- ./agent\n  \
    proxyctl run --forward 5432=db.example.com:5432 -- psql -h 127.0.0.1";

/// The options of `run`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of a command line, each on its own"
)]
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The permission profile of this machine's configuration to use, instead of the policy in force.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// `limited` lets only requests that read through, for this program.
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<SessionMode>,

    /// Refuse these hosts too; can be repeated.
    #[arg(long, value_name = "PATTERN", value_parser = denied)]
    pub(crate) deny: Vec<String>,

    /// Refuse all hosts but these; can be repeated. The policy must allow them as well.
    #[arg(long, value_name = "PATTERN", value_parser = allowed)]
    pub(crate) only: Vec<String>,

    /// Allow these hosts too; can be repeated. Only with a private proxy, or for an administrator of the
    /// service. Deny rules, the protection of local addresses and requirements stay above it.
    #[arg(long, value_name = "PATTERN", value_parser = allowed)]
    pub(crate) allow: Vec<String>,

    /// Allow the hosts of these presets too, as --allow does. `proxyctl presets` lists them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) preset: Vec<String>,

    /// Make a port of the program's loopback lead to a host and port, through the policy; can be repeated.
    #[arg(long, value_name = "PORT=HOST:PORT", value_parser = forward)]
    pub(crate) forward: Vec<Forward>,

    /// How the program is kept from going past the proxy.
    #[arg(long, value_name = "LEVEL", default_value = "jail")]
    pub(crate) isolation: IsolationLevel,

    /// Let unix sockets lead to processes outside the jail, such as an ssh agent, D-Bus or Docker, which
    /// may use the network for the program. Without it, they lead only to sockets made in the jail.
    #[arg(long)]
    pub(crate) allow_unix_sockets: bool,

    /// Give the program a dummy of this credential, and take the real one where this machine has it: for
    /// `github` from `gh auth token`, else from the keyring; can be repeated.
    #[arg(long, value_name = "NAME", conflicts_with = "no_credentials")]
    pub(crate) credential: Vec<String>,

    /// Give the program no credentials: the variables of known ones are removed from its environment.
    #[arg(long)]
    pub(crate) no_credentials: bool,

    /// Use the service, and fail if none answers.
    #[arg(long)]
    pub(crate) service: bool,

    /// Start a private proxy even if a service answers.
    #[arg(long, conflicts_with_all = ["service", "socket"])]
    pub(crate) private: bool,

    /// The configuration file of a private proxy, instead of all others. Implies --private.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "socket"])]
    pub(crate) config: Option<PathBuf>,

    /// Set one value on top of the files of a private proxy; can be repeated. Implies --private.
    #[arg(short = 'c', value_name = "KEY=VALUE", conflicts_with_all = ["service", "socket"])]
    pub(crate) overrides: Vec<String>,

    /// When to write at the end, to standard error, what was allowed and refused. `auto` is always on a
    /// terminal.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        default_missing_value = "always",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(crate) summary: SummaryWhen,

    /// The program and its arguments.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// The options of `approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The question's id, as `approvals` shows it.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) scope: ApproveScope,
    /// Approve all ports of the host.
    #[arg(long)]
    pub(crate) any_port: bool,
}

/// How long a grant lasts. The default is the session, or 15 minutes without one.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct ApproveScope {
    /// Approve one connection: the one that waits, or the next one.
    #[arg(long)]
    pub(crate) once: bool,

    /// Approve until the session ends.
    #[arg(long)]
    pub(crate) session: bool,

    /// Approve for this long, at most 24 hours.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) time: Option<Duration>,
}

/// The mode of a session. It can only be narrower than the mode in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SessionMode {
    /// Only requests that read are permitted: GET, HEAD and OPTIONS.
    Limited,
}

/// A level of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsolationLevel {
    /// A network of its own, in which there is only the proxy.
    Jail,
    /// Only the variables that most programs read. Nothing stops a program that ignores them.
    Env,
}

/// When a summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryWhen {
    Auto,
    Always,
    Never,
}

/// A port of the program's loopback, and the host and port that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) to: u16,
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

/// Checks a pattern of an allow list.
fn allowed(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Allow)
}

/// Checks a pattern of a deny list.
fn denied(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Deny)
}

fn pattern(text: &str, list: ListKind) -> Result<String, String> {
    if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("`approve ID` and `reject ID` answer the question with this ID".to_owned());
    }
    let parsed = Pattern::parse(text, list).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

/// Checks the text of a comment in a file.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a reason is one line of text without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads `PORT=HOST:PORT`.
fn forward(text: &str) -> Result<Forward, String> {
    let form = "a forwarded port is written PORT=HOST:PORT, as in 5432=db.example.com:5432";
    let (port, destination) = text.split_once('=').ok_or(form)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(form)?;
    let authority =
        Authority::parse(destination, None).map_err(|error| format!("{error}; {form}"))?;
    Ok(Forward {
        port,
        host: authority.host.to_string(),
        to: authority.port,
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

    fn run(words: &[&str]) -> Result<RunArgs, clap::Error> {
        let args = Args::try_parse_from([&["proxyctl", "run"], words].concat())?;
        match args.command {
            Command::Run(run) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn j1_everything_from_the_command_on_is_the_commands() {
        for words in [
            &["curl", "--json", "{}", "--socket", "x", "--", "-v"][..],
            &["--", "curl", "--json", "{}", "--socket", "x", "--", "-v"],
        ] {
            let run = run(words).expect("a command line");
            assert_eq!(run.command[0], "curl");
            assert_eq!(run.command.len(), 7, "{:?}", run.command);
        }
        run(&[]).expect_err("no command");
        run(&["--no-such-option", "true"]).expect_err("no such option");
    }

    #[test]
    fn j4_options_that_contradict_each_other_or_are_malformed_are_refused() {
        for words in [
            &["--service", "--private"][..],
            &["--service", "-c", "a=b"],
            &["--service", "--config", "f"],
            &["--mode", "full"],
            &["--deny", "*"],
            &["--only", "https://x"],
            &["--allow", "a/b"],
            &["--isolation", "none"],
            &["--forward", "5432"],
            &["--forward", "0=db.test:1"],
            &["--forward", "5432=db.test"],
            &["--forward", "5432=d b:1"],
        ] {
            run(&[words, &["--", "true"]].concat()).expect_err(&words.join(" "));
        }
        let forward = run(&["--forward", "5432=[::1]:1", "true"])
            .expect("a port")
            .forward;
        assert_eq!(forward[0].to, 1);
    }
}
