//! Listening sockets on macOS, from `lsof(8)` with its output for programs (`-F`).

use std::net::SocketAddr;

use codex_network_files::{ListeningSocket, SocketProcess};

use super::super::tool;

/// The listening sockets on these ports.
pub(super) fn listeners(ports: &[u16]) -> Result<Vec<ListeningSocket>, String> {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let selection = format!("-iTCP:{}", ports.join(","));
    let arguments = ["-nP", &selection, "-sTCP:LISTEN", "+c15", "-Fpcun"];
    // It also fails when it finds nothing.
    let (text, _) = tool::run("/usr/sbin/lsof", &arguments)?;
    Ok(read(&text))
}

/// One field a line, marked by its first character: process, command, user, then each file's name.
fn read(text: &str) -> Vec<ListeningSocket> {
    let (mut pid, mut name, mut uid) = (None, String::new(), None);
    let mut found: Vec<ListeningSocket> = Vec::new();
    for line in text.lines() {
        let Some((mark, value)) = line.split_at_checked(1) else {
            continue;
        };
        match mark {
            "p" => (pid, name, uid) = (value.parse().ok(), String::new(), None),
            "c" => value.clone_into(&mut name),
            "u" => uid = value.parse().ok(),
            "n" => {
                let Some(address) = address(value) else {
                    continue;
                };
                let name = name.clone();
                let processes = pid
                    .map(|pid| SocketProcess { pid, name })
                    .into_iter()
                    .collect();
                found.push(ListeningSocket {
                    address,
                    uid,
                    processes,
                });
            }
            _ => {}
        }
    }
    found
}

/// `127.0.0.1:3128`, `[::1]:3128`, `*:3128`.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("*:") {
        Some(port) => format!("0.0.0.0:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_the_output_of_lsof_is_parsed() {
        let found = read(
            "p417\ncnginx\nu0\nf6\nn*:3128\nf7\nn[::1]:8080\np500\ncssh\nu501\nf3\nnodd\nf4\nn127.0.0.1:8081\n",
        );
        let shown: Vec<_> = found
            .iter()
            .map(|socket| {
                let process = &socket.processes[0];
                (
                    socket.address.to_string(),
                    process.pid,
                    process.name.as_str(),
                    socket.uid,
                )
            })
            .collect();
        let wanted = [
            ("0.0.0.0:3128".to_owned(), 417, "nginx", Some(0)),
            ("[::1]:8080".to_owned(), 417, "nginx", Some(0)),
            ("127.0.0.1:8081".to_owned(), 500, "ssh", Some(501)),
        ];
        assert_eq!(shown, wanted);
        assert!(read("").is_empty());
    }
}
