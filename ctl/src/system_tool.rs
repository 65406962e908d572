//! Runs tools of the system. As root, it runs only those in the system's directories.
//!
//! `PATH` survives `su`, and so do other variables that scripts read (`BASH_ENV`, `OPENSSL_CONF`).
//! So a tool that root runs, and the tools that it starts, are looked up only in the system's
//! directories. It sees no variable of the caller except those for a language, a terminal and a
//! time zone.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

use nix::unistd::Uid;

/// Directories that only root may write to. The last one is that of NixOS.
pub(crate) const DIRECTORIES: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/// Variables that affect only the output of a tool.
const KEPT_VARIABLES: [&str; 4] = ["LANG", "LC_ALL", "TERM", "TZ"];

/// A tool, by name or by path.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if Uid::effective().is_root() {
        confine(&mut command);
    }
    command
}

fn confine(command: &mut Command) {
    let kept = KEPT_VARIABLES.map(|name| (name, env::var_os(name)));
    command.env_clear().env("PATH", DIRECTORIES);
    for (name, value) in kept {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn k2_a_tool_that_root_runs_is_the_systems_and_sees_no_variable_of_the_caller() {
        let directory = tempfile::tempdir().expect("a directory");
        let other = directory.path().join("a-tool-of-a-user");
        fs::write(&other, "#!/bin/sh\n").expect("a new file");
        fs::set_permissions(&other, Permissions::from_mode(0o755)).expect("our own file");
        let mut planted = Command::new("a-tool-of-a-user");
        planted.env("PATH", directory.path());
        confine(&mut planted);
        planted.spawn().expect_err("it is not the system's");

        let mut shown = Command::new("env");
        shown.env("BASH_ENV", &other).env("CERTSDIR", "/tmp");
        confine(&mut shown);
        let shown = shown.output().expect("every system has env");
        let shown = String::from_utf8(shown.stdout).expect("text");
        let names = shown.lines().filter_map(|line| line.split('=').next());
        let others: Vec<&str> = names
            .filter(|name| *name != "PATH" && !KEPT_VARIABLES.contains(name))
            .collect();
        assert_eq!(others, [""; 0]);
        assert!(shown.contains(DIRECTORIES), "{shown}");
    }

    #[test]
    fn k2_every_tool_of_root_is_confined() {
        let variables = command("env").get_envs().count();
        assert_eq!(variables > 0, Uid::effective().is_root());
    }
}
