//! The options of `proxyctl run` (SPEC J1, J4).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use codex_network_policy::Authority;

use super::pattern;

pub(super) const RUN_EXAMPLES: &str = "Examples:\n  \
    proxyctl run -- curl -sS https://example.com/\n  \
    proxyctl run --preset npm,github -- npm ci\n  \
    proxyctl run --ask -- ./agent\n  \
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
    #[arg(long, value_name = "PATTERN", value_parser = pattern::denied)]
    pub(crate) deny: Vec<String>,

    /// Refuse all hosts but these; can be repeated. The policy must allow them as well.
    #[arg(long, value_name = "PATTERN", value_parser = pattern::allowed)]
    pub(crate) only: Vec<String>,

    /// Allow these hosts too; can be repeated. Only with a private proxy, or for an administrator of the
    /// service. Deny rules, the protection of local addresses and requirements stay above it.
    #[arg(long, value_name = "PATTERN", value_parser = pattern::allowed)]
    pub(crate) allow: Vec<String>,

    /// Allow the hosts of these presets too, as --allow does. `proxyctl presets` lists them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) preset: Vec<String>,

    /// Let hosts through that the policy merely does not allow, and write at the end the policy that the program
    /// needs. Only with a private proxy, or for an administrator of the service. Deny rules, the protection of local
    /// addresses, mode, hooks and requirements stay above it.
    #[arg(long, conflicts_with = "mode")]
    pub(crate) learn: bool,

    /// Write the policy of --learn to this new file instead of to standard error.
    #[arg(long, value_name = "FILE", requires = "learn")]
    pub(crate) output: Option<PathBuf>,

    /// Ask on this terminal, while the program runs, whether it may reach a host that the policy merely does not allow.
    /// A private proxy then asks by itself; the service needs `[daemon.approvals] enabled`. The program gets a terminal
    /// of its own, so that it can neither read nor give the answers.
    #[arg(long, conflicts_with_all = ["learn", "allow_unix_sockets"])]
    pub(crate) ask: bool,

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

    /// When to write at the end, to standard error, what was allowed and refused. `auto` does so on a terminal, and
    /// wherever something was refused.
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
    use clap::Parser as _;

    use super::super::{Args, Command};
    use super::*;

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
            &["--ask", "--learn"],
            &["--ask", "--allow-unix-sockets"],
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
