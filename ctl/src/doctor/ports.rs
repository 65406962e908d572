//! Which processes use the ports that the proxy needs. Useful before the proxy is installed.

mod lsof;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use codex_network_files::{ListeningSocket, SocketProcess, listening_sockets};

use super::facts::Facts;
use super::finding::Finding;
use super::init_system::{InitSystem, SOCKETS};
use super::proxy::Proxy;
use crate::listener::user_or_uid;

/// Facts that identify our own sockets.
#[derive(Debug, Default)]
struct OwnSockets {
    /// Our processes.
    pids: Vec<u32>,
    /// The addresses of the socket units that systemd has open for us.
    activated: Vec<String>,
    /// The addresses that the running proxy reports.
    reported: Vec<SocketAddr>,
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let wanted = wanted(facts);
    if wanted.is_empty() {
        return vec![Finding::ok(
            "the proxy has no listener, so it needs no port",
        )];
    }
    let ports: Vec<u16> = wanted.iter().map(|(_, address)| address.port()).collect();
    let held = if cfg!(target_os = "macos") {
        lsof::listeners(&ports)
    } else {
        listening_sockets(&ports).ok_or_else(|| "this system has no /proc/net/tcp".to_owned())
    };
    let held = match held {
        Ok(held) => held,
        Err(why) => return vec![Finding::skipped(&why)],
    };
    let ours = ours(facts);
    wanted
        .iter()
        .map(|(name, address)| {
            let here = held.iter().filter(|held| conflicts(held.address, *address));
            judge(name, *address, &here.collect::<Vec<_>>(), &ours)
        })
        .collect()
}

/// The addresses that the proxy needs, by the name of the listener: those of the running proxy, else
/// of the socket units, else of the configuration.
fn wanted(facts: &Facts) -> Vec<(&'static str, SocketAddr)> {
    if let Some(answers) = facts.proxy.running() {
        let mut listeners = answers.listener_addresses();
        listeners.extend(answers.missing_listeners());
        return listeners;
    }
    let listen = facts.configured().listen();
    let configured = [Some(listen.http), listen.socks5, listen.admin];
    let listeners = SOCKETS.iter().zip(configured);
    listeners
        .filter_map(|((name, unit), configured)| {
            let unit = match &facts.init_system {
                InitSystem::Systemd(units) => units.named(unit),
                _ => None,
            };
            let address = unit.and_then(|unit| unit.listens.first()?.parse().ok());
            Some((*name, address.or(configured)?))
        })
        .filter(|(_, address)| address.port() != 0)
        .collect()
}

fn ours(facts: &Facts) -> OwnSockets {
    let answers = facts.proxy.running();
    let roles = answers.iter().flat_map(|answers| &answers.status.roles);
    let mut pids: Vec<u32> = roles.map(|role| role.pid).collect();
    pids.extend(facts.init_system.main_pid());
    let activated = match &facts.init_system {
        InitSystem::Systemd(units) => SOCKETS
            .iter()
            .filter_map(|(_, unit)| units.named(unit))
            .filter(|unit| unit.is_active())
            .flat_map(|unit| unit.listens.clone())
            .collect(),
        _ => Vec::new(),
    };
    let reported = match &facts.proxy {
        Proxy::Running(answers) => answers
            .listener_addresses()
            .into_iter()
            .map(|(_, address)| address)
            .collect(),
        _ => Vec::new(),
    };
    OwnSockets {
        pids,
        activated,
        reported,
    }
}

/// Whether a listening socket prevents another from being bound. A wildcard conflicts with every
/// address.
fn conflicts(held: SocketAddr, wanted: SocketAddr) -> bool {
    let canonical = |ip: IpAddr| ip.to_canonical();
    let is_wildcard = |ip: IpAddr| {
        ip == IpAddr::from(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::from(Ipv6Addr::UNSPECIFIED)
    };
    let (held_ip, wanted_ip) = (canonical(held.ip()), canonical(wanted.ip()));
    held.port() == wanted.port()
        && (held_ip == wanted_ip || is_wildcard(held_ip) || is_wildcard(wanted_ip))
}

fn judge(name: &str, address: SocketAddr, held: &[&ListeningSocket], ours: &OwnSockets) -> Finding {
    let what = format!("{name} {address}");
    if held.is_empty() {
        return Finding::ok(format!("{what} is free"));
    }
    let holders: Vec<&SocketProcess> = held.iter().flat_map(|held| &held.processes).collect();
    let is_reported = ours.reported.contains(&address);
    // The kernel cuts names to 15 bytes.
    let is_a_proxy = |holder: &SocketProcess| holder.name.starts_with("codex-network-p");
    // Process numbers differ if the proxy is in a container of its own.
    let is_ours = |holder: &SocketProcess| {
        ours.pids.contains(&holder.pid) || (is_reported && is_a_proxy(holder))
    };
    if let Some(holder) = holders.iter().find(|holder| is_ours(holder)) {
        return Finding::ok(format!(
            "{what} is in use by the proxy, process {}",
            holder.pid
        ));
    }
    // It may be the proxy that was meant, or the reason why that one cannot start.
    if let Some(holder) = holders.iter().find(|holder| is_a_proxy(holder)) {
        return Finding::note(format!(
            "{what} is in use by another codex-network-proxy, process {}",
            holder.pid
        ))
        .advise("name its control socket with --socket, or stop it if another proxy should have the port");
    }
    if ours.activated.contains(&address.to_string()) && holders.iter().all(|holder| holder.pid == 1)
    {
        return Finding::ok(format!("{what} is in use by systemd for the proxy"));
    }
    match holders.as_slice() {
        [] if is_reported => Finding::ok(format!("{what} is in use by the proxy, as it reports")),
        [] => {
            let owner = held.iter().find_map(|held| held.uid);
            let owner = owner.map_or_else(String::new, |uid| format!(" of {}", user_or_uid(uid)));
            Finding::problem(
                format!("{what} is in use by a process{owner} that only root can name"),
                "sudo proxyctl doctor ports",
            )
        }
        [systemd, ..] if systemd.pid == 1 => Finding::problem(
            format!("{what} is in use by systemd (process 1), for another unit"),
            "systemctl list-sockets --all",
        ),
        [holder, ..] => Finding::problem(
            format!(
                "{what} is in use by process {} ({})",
                holder.pid, holder.name
            ),
            format!("stop that process, or {}", move_listener(name)),
        ),
    }
}

/// How to move a listener to another address.
fn move_listener(name: &str) -> String {
    let key = match name {
        "http" => "proxy_url",
        "socks5" => "socks_url",
        _ => "admin_url",
    };
    format!(
        "move the listener: `systemctl edit codex-network-proxy-{name}.socket` (ListenStream=), or {key} where it is masked"
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok as Good, Problem};
    use super::*;

    fn held(address: &str, holders: &[(u32, &str)]) -> ListeningSocket {
        ListeningSocket {
            address: address.parse().expect("an address"),
            uid: Some(0),
            processes: holders
                .iter()
                .map(|(pid, name)| SocketProcess {
                    pid: *pid,
                    name: (*name).to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn k1_the_process_on_a_port_is_judged() {
        let address: SocketAddr = "127.0.0.1:3128".parse().expect("an address");
        let ours = OwnSockets {
            pids: vec![40],
            activated: vec!["127.0.0.1:3128".to_owned()],
            reported: Vec::new(),
        };
        let reported = OwnSockets {
            reported: vec![address],
            ..OwnSockets::default()
        };
        let none = OwnSockets::default();
        for (holders, ours, verdict, text) in [
            (&[][..], &none, Problem, "only root can name"),
            (&[], &reported, Good, "as it reports"),
            (&[(40, "x")], &ours, Good, "the proxy, process 40"),
            (&[(1, "systemd"), (40, "x")], &ours, Good, "process 40"),
            (&[(1, "systemd")], &ours, Good, "systemd for the proxy"),
            (&[(1, "systemd")], &none, Problem, "another unit"),
            (
                &[(50, "codex-network-p")],
                &none,
                Note,
                "another codex-network-proxy, process 50",
            ),
            (
                &[(50, "codex-network-p")],
                &ours,
                Note,
                "another codex-network-proxy, process 50",
            ),
            (
                &[(50, "codex-network-p")],
                &reported,
                Good,
                "the proxy, process 50",
            ),
            (&[(50, "nginx")], &ours, Problem, "process 50 (nginx)"),
            (&[(50, "nginx")], &reported, Problem, "process 50 (nginx)"),
        ] {
            let held = held("127.0.0.1:3128", holders);
            let found = judge("http", address, &[&held], ours);
            assert_eq!(found.verdict, verdict, "{holders:?}: {found:?}");
            assert!(found.found.contains(text), "{text}: {found:?}");
        }
        let free = judge("http", address, &[], &none);
        assert_eq!(
            (free.verdict, free.found.as_str()),
            (Good, "http 127.0.0.1:3128 is free")
        );
    }

    #[test]
    fn k1_sockets_that_keep_an_address_from_being_bound_are_found() {
        for (held, wanted, expected) in [
            ("127.0.0.1:3128", "127.0.0.1:3128", true),
            ("0.0.0.0:3128", "127.0.0.1:3128", true),
            ("[::]:3128", "127.0.0.1:3128", true),
            ("[::ffff:127.0.0.1]:3128", "127.0.0.1:3128", true),
            ("10.0.0.1:3128", "0.0.0.0:3128", true),
            ("127.0.0.2:3128", "127.0.0.1:3128", false),
            ("[::1]:3128", "127.0.0.1:3128", false),
            ("127.0.0.1:3129", "127.0.0.1:3128", false),
        ] {
            let (held, wanted) = (held.parse().expect("one"), wanted.parse().expect("one"));
            assert_eq!(conflicts(held, wanted), expected, "{held} {wanted}");
        }
    }
}
