//! Finds the program that listens on a port, for an error message. It may not find it.

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::path::Path;

#[cfg(target_os = "linux")]
use codex_network_files::Reading;

/// Larger than any machine's socket table, and than a process's name.
#[cfg(target_os = "linux")]
const KERNEL_TABLE: Reading = Reading::up_to(64 << 20);

/// Names a process that listens on the address's port, if this user may see it.
#[cfg(target_os = "linux")]
pub(super) fn find(address: SocketAddr) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| KERNEL_TABLE.read_text(Path::new(table)).ok())
        .flat_map(|table| {
            let inodes = listeners(&table, address.port());
            inodes
                .into_iter()
                .map(|inode| format!("socket:[{inode}]"))
                .collect::<Vec<_>>()
        })
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|target| {
                inodes
                    .iter()
                    .any(|inode| target.as_os_str() == inode.as_str())
            })
        });
        if holds {
            let command = KERNEL_TABLE
                .read_text(&process.path().join("comm"))
                .unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim().escape_debug()));
        }
    }
    None
}

/// Other systems tell it only through their own tools.
#[cfg(not(target_os = "linux"))]
pub(super) fn find(_address: SocketAddr) -> Option<String> {
    None
}

/// The inodes of listening sockets on a port, out of a table in the form of `proc_net_tcp(5)`.
#[cfg(target_os = "linux")]
fn listeners(table: &str, port: u16) -> Vec<&str> {
    const LISTEN: &str = "0A";
    let requested = format!("{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
            let listening = *fields.get(3)? == LISTEN && local_port == requested;
            listening.then(|| fields.get(9).copied()).flatten()
        })
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn l1_the_holder_of_a_port_is_named() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let holder = find(held.local_addr().expect("an address")).expect("it is us");
        assert!(
            holder.contains(&format!("process {}", std::process::id())),
            "{holder}"
        );
    }

    #[test]
    fn l1_connections_are_no_listeners() {
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n   \
            1: 0100007F:0C38 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n";
        assert_eq!(listeners(table, 3128), ["11"]);
        assert!(listeners(table, 3129).is_empty());
    }
}
