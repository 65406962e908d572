//! Which processes listen on a TCP port, on Linux.
//!
//! `/proc/net/tcp` and `/proc/net/tcp6` list the sockets, and the descriptors of every process show
//! which process has each (`proc_net_tcp(5)`, `proc_pid_fd(5)`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::read::Reading;

/// The state of a socket that listens.
const LISTEN: &str = "0A";
/// The limit is larger than any machine's socket table.
const KERNEL_TABLE: Reading = Reading::up_to(64 << 20);

/// A listening TCP socket of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningSocket {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Its user id.
    pub uid: Option<u32>,
    /// The processes that have it open, as far as this user may see them.
    pub processes: Vec<SocketProcess>,
}

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name, which Linux cuts to 15 bytes. A process chooses its own name, so it may have any
    /// characters.
    pub name: String,
}

/// The listening TCP sockets on these ports, with the processes that have each. `None` on a system
/// without `/proc/net/tcp`.
pub fn listening_sockets(ports: &[u16]) -> Option<Vec<ListeningSocket>> {
    let tables: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| KERNEL_TABLE.read_text(Path::new(table)).ok())
        .collect();
    if tables.is_empty() {
        return None;
    }
    let sockets = tables.iter().flat_map(|table| sockets(table));
    let mut found: Vec<(u64, ListeningSocket)> = sockets
        .filter(|(_, socket)| ports.contains(&socket.address.port()))
        .collect();
    if !found.is_empty() {
        let mut processes = processes();
        for (inode, socket) in &mut found {
            socket.processes = processes.remove(inode).unwrap_or_default();
        }
    }
    Some(found.into_iter().map(|(_, socket)| socket).collect())
}

/// The listening sockets of a table, and their inodes.
fn sockets(table: &str) -> impl Iterator<Item = (u64, ListeningSocket)> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if *fields.get(3)? != LISTEN {
            return None;
        }
        let socket = ListeningSocket {
            address: address(fields.get(1)?)?,
            uid: fields.get(7)?.parse().ok(),
            processes: Vec::new(),
        };
        Some((fields.get(9)?.parse().ok()?, socket))
    })
}

/// `0100007F:0C38`: each word of the address, printed as a number of this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port))
}

/// The processes by the inodes of their sockets, as far as this user may see them.
fn processes() -> HashMap<u64, Vec<SocketProcess>> {
    let mut found: HashMap<u64, Vec<SocketProcess>> = HashMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return found;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut inodes: Vec<u64> = descriptors
            .flatten()
            .filter_map(|descriptor| inode(std::fs::read_link(descriptor.path()).ok()?.to_str()?))
            .collect();
        inodes.sort_unstable();
        inodes.dedup();
        if inodes.is_empty() {
            continue;
        }
        let name = KERNEL_TABLE
            .read_text(&process.path().join("comm"))
            .unwrap_or_default();
        for inode in inodes {
            found.entry(inode).or_default().push(SocketProcess {
                pid,
                name: name.trim_end().to_owned(),
            });
        }
    }
    found
}

/// `socket:[4711]`.
fn inode(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn l1_k1_a_listening_socket_is_found_with_its_process() {
        // The second is in the table of IPv6, on a machine without ::1 too.
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"] {
            let ip: IpAddr = ip.parse().expect("an address");
            let listener = TcpListener::bind((ip, 0)).expect("a free port");
            let address = listener.local_addr().expect("an address");
            let found = listening_sockets(&[address.port()]).expect("there is a table");
            let ours = found.iter().find(|socket| socket.address == address);
            let ours = ours.unwrap_or_else(|| panic!("{address} is not in {found:?}"));
            let pids: Vec<u32> = ours.processes.iter().map(|process| process.pid).collect();
            assert!(pids.contains(&std::process::id()), "{ours:?}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn l1_k1_connections_and_malformed_lines_are_ignored() {
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000    13        0 11 1\n   \
            1: 0100007F:0C38 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n   \
            2: 0100007F:0C38\n   \
            3: 0100007FFF:0C38 00000000:0000 0A 0:0 00:0 0 0 0 14 1\n";
        let found: Vec<_> = sockets(table).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, 11);
        assert_eq!(found[0].1.address.to_string(), "127.0.0.1:3128");
        assert_eq!(found[0].1.uid, Some(13));
        let six = address("00000000000000000000000001000000:0C38");
        assert_eq!(
            six.map(|six| six.to_string()).as_deref(),
            Some("[::1]:3128")
        );
    }
}
