//! Listening sockets on macOS, from `lsof(8)` with its output for programs (`-F`).

use std::net::SocketAddr;

use super::super::tool;
use super::{Held, Holder};

/// The listening sockets on these ports.
pub(super) fn listeners(ports: &[u16]) -> Result<Vec<Held>, String> {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let selection = format!("-iTCP:{}", ports.join(","));
    let arguments = ["-nP", &selection, "-sTCP:LISTEN", "+c15", "-Fpcun"];
    // It also fails when it finds nothing.
    let (text, _) = tool::run("/usr/sbin/lsof", &arguments)?;
    Ok(read(&text))
}

/// One field a line, marked by its first character: process, command, user, then each file's name.
fn read(text: &str) -> Vec<Held> {
    let (mut pid, mut name, mut uid) = (None, String::new(), None);
    let mut held: Vec<Held> = Vec::new();
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
                let holders = pid.map(|pid| Holder { pid, name }).into_iter().collect();
                held.push(Held {
                    address,
                    uid,
                    holders,
                });
            }
            _ => {}
        }
    }
    held
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
    fn k1_what_lsof_says_is_understood() {
        let held = read(
            "p417\ncnginx\nu0\nf6\nn*:3128\nf7\nn[::1]:8080\np500\ncssh\nu501\nf3\nnodd\nf4\nn127.0.0.1:8081\n",
        );
        let told: Vec<_> = held
            .iter()
            .map(|held| {
                let holder = &held.holders[0];
                (
                    held.address.to_string(),
                    holder.pid,
                    holder.name.as_str(),
                    held.uid,
                )
            })
            .collect();
        let wanted = [
            ("0.0.0.0:3128".to_owned(), 417, "nginx", Some(0)),
            ("[::1]:8080".to_owned(), 417, "nginx", Some(0)),
            ("127.0.0.1:8081".to_owned(), 500, "ssh", Some(501)),
        ];
        assert_eq!(told, wanted);
        assert!(read("").is_empty());
    }
}
