//! The jail that the options ask for, and the ports that they forward (SPEC J6, J10).

use std::collections::HashSet;

use codex_network_control::message::MAX_DOORS;

use crate::args::run::{IsolationLevel, RunArgs};
use crate::failure::{EndedSession, Failure};
use crate::jail::{
    Confinement, DNS_PORT, HTTP_PORT, JailError, JailPlan, SOCKS5_PORT, TRANSPARENT_PORT,
};

/// The exit code of an invalid command line.
const USAGE: u8 = 2;

/// Reads the options. The ports of `--forward` must be free beside the doors.
pub(super) fn read(args: &RunArgs) -> Result<JailPlan, Failure> {
    if args.ask && args.isolation == IsolationLevel::Env {
        return Err(usage(
            "--ask needs the jail: with --isolation env the program reaches the terminal, and could answer itself"
                .to_owned(),
        ));
    }
    let confinement = match args.isolation {
        IsolationLevel::Jail => Confinement::Jail,
        IsolationLevel::Env => Confinement::Environment,
    };
    let mut ports = HashSet::new();
    for forward in &args.forward {
        let port = forward.port;
        if let Some(door) = doors_at(confinement, port) {
            return Err(usage(format!(
                "--forward {port}=...: port {port} of the jail is the {door} door of the session; choose another one"
            )));
        }
        if !ports.insert(port) {
            return Err(usage(format!(
                "--forward {port}=...: port {port} is given twice; choose another one for the second destination"
            )));
        }
    }
    let most = MAX_DOORS - own_doors(confinement);
    if ports.len() > most {
        return Err(usage(format!(
            "there are {} options --forward; a session has at most {most} forwarded ports",
            ports.len()
        )));
    }
    Ok(JailPlan {
        confinement,
        forwards: args.forward.iter().map(|forward| forward.port).collect(),
        transparent: true,
        allow_unix_sockets: args.allow_unix_sockets,
        hidden_terminal: None,
    })
}

/// Why there is no jail, or there are no ports outside one.
pub(super) fn failure(args: &RunArgs, error: &JailError) -> Failure {
    Failure::NoSession(match args.isolation {
        IsolationLevel::Jail => error.to_string(),
        IsolationLevel::Env => format!("cannot open the ports of the session: {}", error.cause),
    })
}

fn usage(message: String) -> Failure {
    Failure::Session(EndedSession::said(USAGE, message))
}

/// How many doors a session has without forwarded ports.
fn own_doors(confinement: Confinement) -> usize {
    match confinement {
        // HTTP, SOCKS5, two for redirected connections, and two for DNS.
        Confinement::Jail => 6,
        Confinement::Environment => 2,
    }
}

/// The door on a port of a jail, if one is there. Outside a jail their ports are free ones.
fn doors_at(confinement: Confinement, port: u16) -> Option<&'static str> {
    match (confinement, port) {
        (Confinement::Jail, HTTP_PORT) => Some("HTTP"),
        (Confinement::Jail, SOCKS5_PORT) => Some("SOCKS5"),
        (Confinement::Jail, TRANSPARENT_PORT) => Some("transparent"),
        (Confinement::Jail, DNS_PORT) => Some("DNS"),
        (Confinement::Jail | Confinement::Environment, _) => None,
    }
}
