//! `proxyctl`: inspects and controls a running codex-network-proxy (SPEC K1, K2).
//!
//! The running proxy answers over its control socket, so the answers are about the settings in force
//! and not about files. Only `doctor` also inspects the machine.
//!
//! - `args`: the command line.
//! - `find`: finds the control socket, and decides whose proxy to trust.
//! - `jail`: the jail of `run`.
//! - `listener`: names the owner of the socket's listener.
//! - `commands`: one module per command.
//! - `doctor`: one module per check.
//! - `edit`: changes the lists in the configuration files.
//! - `presets`: the allow lists of `run --preset`.
//! - `private_proxy`: the proxy that `run` starts for one session.
//! - `private_instances`: the private proxies that run now.
//! - `name_servers`, `capabilities`: facts in words, for `status` and `doctor`.
//! - `terminal`: the terminals of `run --ask`.
//! - `trust_store`: the system's list of trusted certificates, for `ca` and `doctor`.
//! - `system_tool`: runs tools of the system.
//! - `seatbelt`: the profile that confines a program on macOS, as text.
//! - `watch`: the full screen of `watch`.
//! - `output`: writes for people and for programs.
//! - `ending_signals`: signals that end a command which has something to do before.
//! - `failure`: why a command failed, and its exit code.

mod args;
mod capabilities;
mod commands;
mod doctor;
mod edit;
mod ending_signals;
mod failure;
mod find;
#[cfg(target_os = "linux")]
mod jail;
mod listener;
mod name_servers;
mod output;
mod presets;
mod private_instances;
#[cfg(target_os = "linux")]
mod private_proxy;
mod proposal;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "`run` does not use it yet: it needs a Mac to be tested on"
    )
)]
mod seatbelt;
mod system_tool;
#[cfg(target_os = "linux")]
mod terminal;
mod trust_store;
mod watch;

use std::process::ExitCode;

use args::Args;
use clap::Parser as _;
use output::{Output, OutputFormat};

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == jail::STAGE_ARGUMENT)
    {
        return jail::run_stage();
    }
    #[cfg(target_os = "linux")]
    if let Some(ended) = private_proxy::stage(&std::env::args_os().collect::<Vec<_>>()) {
        return ended;
    }
    #[cfg(target_os = "linux")]
    if let Err(failure) = keep_private() {
        return failure.report(&Output::new(OutputFormat::Text));
    }
    let args = Args::parse();
    let format = if args.json {
        OutputFormat::Json
    } else {
        OutputFormat::Text
    };
    let output = Output::new(format);
    match commands::run(args, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&output),
    }
}

/// Keeps other processes of the user out of the memory and the environment of `run`, which have credentials (SPEC B4).
/// Words of other commands that are the same do no harm.
#[cfg(target_os = "linux")]
fn keep_private() -> Result<(), failure::Failure> {
    if !std::env::args_os().any(|word| word == "run") {
        return Ok(());
    }
    nix::sys::prctl::set_dumpable(false).map_err(|error| {
        failure::Failure::NoSession(format!("cannot keep credentials private: {error}"))
    })
}
