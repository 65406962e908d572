//! The loader: judges a configuration and is gone (DESIGN section 1).
//!
//! It runs with the monitor's privilege, so that it may read what the administrator wrote, for
//! milliseconds and without the network. To its standard output it writes what the monitor has to
//! know in a fixed layout, and the configuration itself as a blob that the monitor does not look
//! into: the files as they were read at this moment, so that every worker of this configuration
//! sees the same.

use std::io::Write as _;
use std::process::ExitCode;

use codex_network_config::{LogFormat, Sandbox, Settings, Sources, load};
use nix::unistd::{Group, Uid, User};

use crate::privsep::message::{Account, Confinement, Lines, Loaded, Power, Reach, Settled};

/// The user that a worker runs as when root started the service and nobody said otherwise.
const DEFAULT_USER: &str = "codex-network-proxy";
/// Who it is where that user does not exist, as in a checkout: anybody rather than root.
const NOBODY: &str = "nobody";

/// Loads, and writes the outcome to standard output.
pub(crate) fn run(sources: &Sources) -> ExitCode {
    let loaded = settle(sources).unwrap_or_else(Loaded::Problems);
    match std::io::stdout().lock().write_all(&loaded.encode()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn settle(sources: &Sources) -> Result<Loaded, String> {
    let captured = sources.capture().map_err(|problems| problems.to_string())?;
    let settings = load(&captured)
        .map_err(|problems| problems.to_string())?
        .settings;
    let listen = &settings.listen;
    Ok(Loaded::Settled(Settled {
        listen: [Some(listen.http), listen.socks5, listen.admin],
        reach: [listen.proxy_reach, listen.proxy_reach, listen.admin_reach].map(
            |reach| match reach {
                codex_network_config::Reach::Anywhere => Reach::Anywhere,
                codex_network_config::Reach::Loopback
                | codex_network_config::Reach::ForcedLoopback => Reach::Loopback,
            },
        ),
        power: if settings.policy.is_enabled() {
            Power::On
        } else {
            Power::Off
        },
        account: account(&settings)?,
        confinement: match settings.daemon.sandbox {
            Sandbox::Off => Confinement::Off,
            Sandbox::Try => Confinement::Try,
            Sandbox::Require => Confinement::Require,
        },
        drain_limit: settings.daemon.limits.drain_timeout,
        lines: match settings.daemon.log_format {
            LogFormat::Json => Lines::Json,
            LogFormat::Auto | LogFormat::Journal | LogFormat::Text => Lines::Text,
        },
        blob: captured.to_bytes(),
    }))
}

/// Whom the worker becomes. Only root can make it somebody else.
fn account(settings: &Settings) -> Result<Option<Account>, String> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let daemon = &settings.daemon;
    let user = match &daemon.user {
        Some(name) => find_user(name)?.ok_or_else(|| no_such("user", name))?,
        None => match find_user(DEFAULT_USER)? {
            Some(user) => user,
            None => find_user(NOBODY)?.ok_or_else(|| no_such("user", DEFAULT_USER))?,
        },
    };
    let gid = match &daemon.group {
        Some(name) => {
            let group = Group::from_name(name)
                .map_err(|error| format!("cannot look up the group {name:?}: {error}"))?;
            group.ok_or_else(|| no_such("group", name))?.gid
        }
        None => user.gid,
    };
    Ok(Some(Account {
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
    }))
}

fn find_user(name: &str) -> Result<Option<User>, String> {
    User::from_name(name).map_err(|error| format!("cannot look up the user {name:?}: {error}"))
}

fn no_such(kind: &str, name: &str) -> String {
    format!(
        "error: there is no {kind} {name:?} on this machine; make it, or set [daemon] {kind} to one that exists"
    )
}
