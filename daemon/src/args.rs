//! The command line of `codex-network-proxy` (SPEC L5, C1).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
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
    /// Read this file instead of all others. Managed constraints (`requirements.toml` in /etc/codex and
    /// /etc/codex-network-proxy) hold in any case.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Set one value on top of the files, as in `-c network.mode=limited`; can be repeated.
    #[arg(short = 'c', value_name = "KEY=VALUE", global = true)]
    pub(crate) overrides: Vec<String>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run in the foreground; the same as no command.
    Proxy,
    /// Make the CA with which intercepted connections are signed, and keep it: in the files that
    /// `ca_cert_path` and `ca_key_path` name, else in the state directory. Without it a CA is made at
    /// each start. Changes nothing where a good one is.
    Init,
    /// Judge a configuration: print every problem with its file, line and column, and how to mend
    /// it. Exits with 1 if there is an error.
    Check {
        /// The file to judge; without it, the configuration that the proxy would start with.
        file: Option<PathBuf>,
    },
    /// Judge the configuration for the monitor; not for people.
    #[command(hide = true)]
    Load,
    /// Serve for the monitor; not for people.
    #[command(hide = true)]
    Work,
}

impl Args {
    /// Reads the command line. One that is not understood is told, and ends the program with 2.
    pub(crate) fn read() -> Self {
        let understood = Self::try_parse().and_then(Self::checked);
        understood.unwrap_or_else(|error| error.exit())
    }

    /// clap cannot tell that an option of all commands and an argument of one exclude each other.
    fn checked(self) -> Result<Self, clap::Error> {
        if self.config.is_some() && matches!(self.command, Some(Command::Check { file: Some(_) })) {
            return Err(Self::command().error(
                ErrorKind::ArgumentConflict,
                "`check FILE` and `--config FILE` both name the file to judge; give one of them",
            ));
        }
        Ok(self)
    }

    /// The arguments with which a loader finds the same configuration.
    pub(crate) fn for_loader(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.clone().into_os_string()]);
        }
        for assignment in &self.overrides {
            arguments.extend(["-c".into(), assignment.into()]);
        }
        arguments
    }

    /// Where the configuration comes from; `file` stands for everything else.
    pub(crate) fn sources(&self, file: Option<&Path>) -> Sources {
        let layers = match file.or(self.config.as_deref()) {
            Some(file) => Sources::file(file),
            None if is_system_service() => Sources::system(),
            None => Sources::system_and_user(|name| std::env::var_os(name)),
        };
        self.overrides.iter().fold(layers, |layers, assignment| {
            layers.with_override(assignment)
        })
    }
}

/// Whether an init system runs us for the whole machine: then no user's files count.
fn is_system_service() -> bool {
    nix::unistd::Uid::effective().is_root() && is_started_by_init()
}

/// systemd tells every service its invocation.
#[cfg(not(target_os = "macos"))]
fn is_started_by_init() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

/// launchd tells a job its label; in a terminal the variable is there too, with another value.
#[cfg(target_os = "macos")]
fn is_started_by_init() -> bool {
    std::env::var_os("XPC_SERVICE_NAME")
        .is_some_and(|label| label == "com.openai.codex-network-proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn l5_no_command_is_proxy_and_options_stand_anywhere() {
        let parse = |words: &[&str]| Args::try_parse_from(words).expect("a command line");
        assert!(parse(&["codex-network-proxy"]).command.is_none());
        let args = parse(&[
            "codex-network-proxy",
            "check",
            "a.toml",
            "-c",
            "network.mode=limited",
        ]);
        assert_eq!(args.overrides, ["network.mode=limited"]);
        assert!(matches!(
            args.command,
            Some(Command::Check { file: Some(_) })
        ));
    }
}
