//! Binds the listeners of the doors: inside a jail on fixed ports, outside on free ones.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::{DNS_PORT, Door, HTTP_PORT, JailPlan, SOCKS5_PORT, TRANSPARENT_PORT};

/// The listeners of a jail, on the loopback addresses of the calling process's network. Those on
/// `::1` are missing without IPv6.
pub(super) fn in_jail(plan: &JailPlan) -> io::Result<Vec<(Door, OwnedFd)>> {
    let mut doors = vec![
        (Door::Http, tcp((Ipv4Addr::LOCALHOST, HTTP_PORT).into())?),
        (
            Door::Socks5,
            tcp((Ipv4Addr::LOCALHOST, SOCKS5_PORT).into())?,
        ),
    ];
    if plan.transparent {
        doors.push((
            Door::Transparent,
            tcp((Ipv4Addr::LOCALHOST, TRANSPARENT_PORT).into())?,
        ));
        if let Ok(listener) = tcp((Ipv6Addr::LOCALHOST, TRANSPARENT_PORT).into()) {
            doors.push((Door::Transparent, listener));
        }
    }
    doors.push((
        Door::DnsUdp,
        UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?.into(),
    ));
    doors.push((Door::DnsTcp, tcp((Ipv4Addr::LOCALHOST, DNS_PORT).into())?));
    for (place, port) in plan.forwards.iter().enumerate() {
        let listener =
            tcp((Ipv4Addr::LOCALHOST, *port).into()).map_err(|error| at_port(*port, &error))?;
        doors.push((Door::Forward(place), listener));
    }
    Ok(doors)
}

/// The listeners for `--isolation env`: the proxy doors on free ports, the forwarded ones as requested.
pub(super) fn outside(plan: &JailPlan) -> io::Result<Vec<(Door, OwnedFd)>> {
    let mut doors = vec![
        (Door::Http, tcp((Ipv4Addr::LOCALHOST, 0).into())?),
        (Door::Socks5, tcp((Ipv4Addr::LOCALHOST, 0).into())?),
    ];
    for (place, port) in plan.forwards.iter().enumerate() {
        let listener =
            tcp((Ipv4Addr::LOCALHOST, *port).into()).map_err(|error| at_port(*port, &error))?;
        doors.push((Door::Forward(place), listener));
    }
    Ok(doors)
}

fn at_port(port: u16, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it; choose another one".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "only root may listen there; choose one from 1024 on".to_owned()
        }
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("port {port} of --forward: {why}"))
}

fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    Ok(TcpListener::bind(address)?.into())
}
