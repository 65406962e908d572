//! Names the program that listens on a port, for an error message.

use std::net::SocketAddr;

use codex_network_files::listening_sockets;

/// Names a process that listens on the address's port, if this user may see it and the system lists
/// its sockets in `/proc`.
pub(super) fn find(address: SocketAddr) -> Option<String> {
    let sockets = listening_sockets(&[address.port()])?.into_iter();
    let process = sockets.flat_map(|socket| socket.processes).next()?;
    Some(format!(
        "process {} ({})",
        process.pid,
        process.name.escape_debug()
    ))
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
}
