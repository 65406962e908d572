//! The command line of `codex-network-proxy` (SPEC L5, C1).
//!
//! `packaging/man` compiles this file too, and generates the man page and completions from it. So it
//! uses no other module of this crate.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use codex_network_config::Sources;

/// Decides which hosts the programs on this machine may talk to: an HTTP and SOCKS5 proxy that
/// enforces an allow list and a deny list, deny wins.
#[derive(Debug, Parser)]
#[command(
    name = "codex-network-proxy",
    version,
    after_help = "Without a command the proxy runs in the foreground. It needs no configuration: on its built-in \
                  defaults it refuses everything and says how to allow a host.\n\n\
                  Signals: SIGHUP reloads, SIGTERM and SIGINT drain and stop (a second one stops at once).\n\n\
                  Exit codes: 0 asked to stop, or `check` found no error; 1 could not start, or `check` found an \
                  error; 2 the command line was not understood; 78 the configuration cannot be used."
)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The options before a command and after it. clap's `global` is not used: it drops the options
/// before a command if there are options after it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Read this file instead of all others. Managed constraints (`requirements.toml` in /etc/codex and
    /// /etc/codex-network-proxy) hold in any case.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one value on top of the files, as in `-c network.mode=limited`; can be repeated.
    #[arg(short = 'c', value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// The input of `check`, and the form of its report.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct CheckArgs {
    /// The file to check, `-` for standard input, or a directory whose `*.toml` are read in the order of
    /// their names; without it, the configuration that the proxy would start with. A file named
    /// `requirements.toml` is checked as managed constraints.
    pub(crate) file: Option<PathBuf>,

    /// Check this file as managed constraints. With a configuration, check that under these constraints
    /// instead of those of this machine.
    #[arg(long, value_name = "FILE")]
    pub(crate) requirements: Option<PathBuf>,

    /// Check the configuration of the system service of another machine, whose files are below this
    /// directory, as in an image: DIR/etc/codex/config.toml and so on.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "requirements"])]
    pub(crate) root: Option<PathBuf>,

    /// Check both, and print what the new one changes: rules, mode, listeners and all other settings. Each
    /// is a file, `-` or a directory.
    #[arg(long, action = ArgAction::Set, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with_all = ["file", "root"])]
    pub(crate) diff: Vec<PathBuf>,

    /// Judge recorded decisions by the configuration, and print what it would newly block, newly allow, and which
    /// of its rules decide about no record: a log in JSON, or the output of `proxyctl blocked --json`. `-` is standard
    /// input.
    #[arg(long, value_name = "RECORDS", conflicts_with = "diff")]
    pub(crate) against: Option<PathBuf>,

    /// Exit with 1 if there is a warning, too.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print the result as JSON to standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run in the foreground; the same as no command.
    Proxy(Options),
    /// Make the CA that signs certificates for intercepted connections, and keep it in the files that
    /// `ca_cert_path` and `ca_key_path` name, else in the state directory. Without this command and those
    /// keys the proxy makes a CA at each start. Changes nothing if a valid CA exists.
    Init(Options),
    /// Check a configuration: print every problem with its file, line and column, and how to fix
    /// it. Exits with 1 if there is an error.
    Check {
        #[command(flatten)]
        check: CheckArgs,
        #[command(flatten)]
        options: Options,
    },
    /// Load the configuration for the monitor; not for people.
    #[command(hide = true)]
    Load(Options),
    /// Serve for the monitor; not for people.
    #[command(hide = true)]
    Work,
}

impl Args {
    /// Reads the command line. If it is invalid, prints why and ends the program with 2.
    pub(crate) fn read() -> Self {
        let understood = Self::try_parse().and_then(Self::gathered);
        understood.unwrap_or_else(|error| error.exit())
    }

    /// Combines the options before the command and after it, in this order.
    fn gathered(mut self) -> Result<Self, clap::Error> {
        let conflict =
            |message: &str| Err(Self::command().error(ErrorKind::ArgumentConflict, message));
        let after = self.command.as_mut().and_then(Command::options);
        let Options { config, overrides } = after.map(std::mem::take).unwrap_or_default();
        if config.is_some() && self.options.config.is_some() {
            return conflict("`--config FILE` is given before the command and after it; give one");
        }
        self.options.config = self.options.config.or(config);
        self.options.overrides.extend(overrides);
        if let Some(Command::Check { check, .. }) = &self.command {
            let other = [
                ("check FILE", check.file.as_ref()),
                ("--root DIR", check.root.as_ref()),
                ("--diff OLD NEW", check.diff.first()),
            ];
            if self.options.config.is_some()
                && let Some((other, _)) = other.iter().find(|(_, path)| path.is_some())
            {
                return conflict(&format!(
                    "`{other}` and `--config FILE` both name the file to check; give one of them"
                ));
            }
            if check.names_standard_input() > 1 {
                return conflict("`-` is given twice; standard input can be read once");
            }
        }
        Ok(self)
    }

    /// The arguments with which a loader finds the same configuration.
    pub(crate) fn for_loader(&self) -> Vec<OsString> {
        // As one argument each: a value that begins with `-` would look like an option.
        let joined = |option: &str, value: &OsStr| {
            let mut word = OsString::from(option);
            word.push(value);
            word
        };
        let config = self.options.config.iter();
        let mut arguments: Vec<_> = config
            .map(|config| joined("--config=", config.as_os_str()))
            .collect();
        let overrides = self.options.overrides.iter();
        arguments.extend(overrides.map(|assignment| joined("-c=", assignment.as_ref())));
        arguments
    }

    /// The sources of the configuration. `environment` looks a variable up.
    pub(crate) fn sources(&self, environment: impl Fn(&str) -> Option<OsString>) -> Sources {
        let layers = match self.options.config.as_deref() {
            Some(file) => Sources::file(file),
            None if is_system_service(&environment) => Sources::system(),
            None => Sources::system_and_user(environment),
        };
        self.with_overrides(layers)
    }

    /// Adds the values of `-c`.
    pub(crate) fn with_overrides(&self, sources: Sources) -> Sources {
        let overrides = self.options.overrides.iter();
        overrides.fold(sources, |sources, assignment| {
            sources.with_override(assignment)
        })
    }

    /// Whether there is a `--config`.
    pub(crate) fn names_a_file(&self) -> bool {
        self.options.config.is_some()
    }
}

impl CheckArgs {
    fn names_standard_input(&self) -> usize {
        let paths = self.file.iter().chain(&self.requirements);
        let paths = paths.chain(&self.diff).chain(&self.against);
        paths.filter(|path| path.as_os_str() == "-").count()
    }
}

impl Command {
    fn options(&mut self) -> Option<&mut Options> {
        match self {
            Self::Proxy(options)
            | Self::Init(options)
            | Self::Check { options, .. }
            | Self::Load(options) => Some(options),
            Self::Work => None,
        }
    }
}

/// Whether an init system runs the process for the whole machine. Then no user's files count.
fn is_system_service(environment: impl Fn(&str) -> Option<OsString>) -> bool {
    nix::unistd::Uid::effective().is_root() && is_started_by_init(environment)
}

/// systemd gives every service an invocation id.
#[cfg(not(target_os = "macos"))]
fn is_started_by_init(environment: impl Fn(&str) -> Option<OsString>) -> bool {
    environment("INVOCATION_ID").is_some()
}

/// launchd gives a job its label. In a terminal the variable is set too, with another value.
#[cfg(target_os = "macos")]
fn is_started_by_init(environment: impl Fn(&str) -> Option<OsString>) -> bool {
    environment("XPC_SERVICE_NAME").is_some_and(|label| label == "com.openai.codex-network-proxy")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn l5_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let program = std::iter::once(&"codex-network-proxy");
        Args::try_parse_from(program.chain(words)).and_then(Args::gathered)
    }

    #[test]
    fn l5_no_command_is_proxy() {
        assert!(parse(&[]).expect("a command line").command.is_none());
    }

    #[test]
    fn c1_options_before_the_command_and_after_it_all_count_in_order() {
        for command in ["proxy", "init", "check", "load"] {
            let args = parse(&["-c", "a=1", "-c", "b=2", command, "-c", "a=3"]);
            let args = args.expect("a command line");
            assert_eq!(args.options.overrides, ["a=1", "b=2", "a=3"], "{command}");
        }
        let args = parse(&["--config", "a.toml", "check"]).expect("a command line");
        assert_eq!(args.options.config.as_deref(), Some(Path::new("a.toml")));
    }

    #[test]
    fn c1_a_loader_gets_the_very_same_options() {
        let given = [
            "--config=-a b.toml",
            "-c=-a=1",
            "-c==",
            "-c=",
            "-c",
            "b=\"-\"",
        ];
        let args = parse(&given).expect("a command line");
        assert_eq!(args.options.overrides, ["-a=1", "=", "", "b=\"-\""]);
        let words = args.for_loader();
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        let loader = parse(&[&["load"], &*words].concat()).expect("a command line");
        assert_eq!(loader.options.config, args.options.config);
        assert_eq!(loader.options.overrides, args.options.overrides);
    }

    #[test]
    fn c1_two_files_are_one_too_many() {
        for words in [
            &["--config", "a", "check", "--config", "b"][..],
            &["--config", "a", "check", "b"],
            &["check", "b", "--config", "a"],
        ] {
            let error = parse(words).expect_err("two files");
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{words:?}");
        }
    }
}
