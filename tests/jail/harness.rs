//! A program for the tests of the jail: runs a command in a jail without a proxy. Each door answers a
//! connection with one line that names the door, where the connection came from, and where it wanted to
//! go; a datagram comes back as it is.
//!
//! Usage: `jail-under-test [--env] [--not-transparent] [--unix-sockets] [--forward PORT]… -- COMMAND…`.
//! Exits with the command's status, or with 125.

#[path = "../../ctl/src"]
mod ctl {
    #[expect(
        dead_code,
        unused_imports,
        reason = "the jail's whole face, of which this uses a part"
    )]
    pub(crate) mod jail;
    pub(crate) mod system_tool;
}

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;

use ctl::{jail, system_tool};
use jail::{Confinement, Door, JailError, JailPlan};
use socket2::SockRef;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == jail::STAGE_ARGUMENT)
    {
        return jail::run_stage();
    }
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, JailError> {
    let mut plan = JailPlan {
        confinement: Confinement::Jail,
        forwards: Vec::new(),
        transparent: true,
        allow_unix_sockets: false,
        hidden_terminal: None,
    };
    let mut pauses = false;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--env") => plan.confinement = Confinement::Environment,
            Some("--pause") => pauses = true,
            Some("--not-transparent") => plan.transparent = false,
            Some("--unix-sockets") => plan.allow_unix_sockets = true,
            Some("--forward") => {
                let port = arguments
                    .next()
                    .and_then(|port| port.to_str()?.parse().ok());
                plan.forwards.push(port.expect("a port"));
            }
            Some("--") => break,
            _ => panic!("an unknown option: {}", argument.display()),
        }
    }
    let command: Vec<OsString> = arguments.collect();
    let mut prepared = jail::prepare(&plan)?;
    if let Some(reason) = &prepared.not_transparent {
        let _ = writeln!(std::io::stderr(), "no transparent door: {reason}");
    }
    if let Some(which) = prepared.signals_leave {
        let _ = writeln!(std::io::stderr(), "{which}");
    }
    let mut environment: Vec<_> = std::env::vars_os().collect();
    for (door, socket) in std::mem::take(&mut prepared.doors) {
        match door {
            Door::DnsUdp => {
                let socket = UdpSocket::from(socket);
                thread::spawn(move || echo(&socket));
            }
            door => {
                let listener = TcpListener::from(socket);
                let address = listener.local_addr().expect("its address");
                let name = format!("JAIL_TEST_{door:?}").to_uppercase();
                environment.push((name.into(), address.to_string().into()));
                thread::spawn(move || accept(&door, &listener));
            }
        }
    }
    if pauses {
        let _ = writeln!(std::io::stdout(), "ready");
        let _ = std::io::stdin().read_line(&mut String::new());
    }
    let mut running = prepared.start(&command, environment)?;
    if pauses {
        let _ = writeln!(std::io::stdout(), "started");
    }
    let ended = running.wait(None)?;
    if let jail::Ended::NotStarted(error) = &ended {
        let _ = writeln!(std::io::stderr(), "cannot start the command: {error}");
    }
    Ok(ended.exit_code())
}

fn accept(door: &Door, listener: &TcpListener) {
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        let wanted = wanted(&stream);
        let _ = writeln!(&stream, "{door:?} from {} to {wanted}", peer.ip());
    }
}

/// Where a redirected connection wanted to go.
fn wanted(stream: &TcpStream) -> String {
    let socket = SockRef::from(stream);
    let asked = match stream.local_addr() {
        Ok(address) if address.is_ipv4() => socket.original_dst_v4(),
        _ => socket.original_dst_v6(),
    };
    match asked.map(|address| address.as_socket()) {
        Ok(Some(address)) => address.to_string(),
        Ok(None) => "nowhere".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn echo(socket: &UdpSocket) {
    let mut bytes = [0; 2048];
    while let Ok((read, from)) = socket.recv_from(&mut bytes) {
        let _ = socket.send_to(&bytes[..read], from);
    }
}
