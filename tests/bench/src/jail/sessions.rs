//! The memory of sessions at rest: open, with the doors that `proxyctl run` opens, and without clients.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use codex_network_control::Client;
use codex_network_control::TrustedListeners;
use codex_network_control::message::{DoorKind, Isolation, SessionRequest};

use crate::programs::Started;
use crate::report::Table;

/// The first sessions make what all of them share.
const WARM_UP: usize = 64;
const SESSIONS: [usize; 2] = [200, 600];
/// Memory is measured once the work of opening is over. Nothing signals its end.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// Opens sessions, and divides the growth of the proxy's memory by their number.
pub(super) fn table(started: &Started) -> anyhow::Result<String> {
    let socket = started.folder().join("control.sock");
    let memory = || {
        sleep(SETTLE_TIME);
        started
            .running
            .memory()
            .context("only root may read its memory")
    };
    let mut table = Table::new(["sessions at rest", "KiB each"]);
    // The caller's side of the connections needs threads to drive it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut open = Vec::new();
    for _ in 0..WARM_UP {
        open.push(runtime.block_on(session(&socket))?);
    }
    let before = memory()?;
    let mut count = 0_u32;
    for wanted in SESSIONS {
        while open.len() < WARM_UP + wanted {
            open.push(runtime.block_on(session(&socket))?);
            count += 1;
        }
        let each = (memory()? - before) / f64::from(count);
        table.add(vec![wanted.to_string(), format!("{each:.1}")]);
    }
    Ok(format!("Memory of sessions\n\n{table}\n"))
}

/// A session, which lives as long as its connection.
async fn session(socket: &Path) -> anyhow::Result<Client> {
    let (doors, sockets): (Vec<_>, Vec<_>) = doors()?.into_iter().unzip();
    let client = Client::connect(socket, TrustedListeners::Any, "bench").await?;
    let request = SessionRequest {
        command: "bench".to_owned(),
        isolation: Isolation::Jail,
        doors,
        sockets: sockets.into(),
        ..SessionRequest::default()
    };
    client.open_session(request).await?;
    Ok(client)
}

/// The doors of a jail.
fn doors() -> anyhow::Result<Vec<(DoorKind, OwnedFd)>> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let tcp = |address: SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        anyhow::Ok(OwnedFd::from(listener))
    };
    let udp = UdpSocket::bind(v4)?;
    udp.set_nonblocking(true)?;
    let mut doors = vec![
        (DoorKind::Http, tcp(v4)?),
        (DoorKind::Socks5, tcp(v4)?),
        (DoorKind::DnsUdp, udp.into()),
        (DoorKind::DnsTcp, tcp(v4)?),
        (DoorKind::Transparent, tcp(v4)?),
    ];
    // A machine without IPv6 has one door less.
    doors.extend(tcp(v6).ok().map(|door| (DoorKind::Transparent, door)));
    Ok(doors)
}
