//! Which processes hold the ports that the proxy needs. Useful before the proxy is installed.

mod lsof;
mod procfs;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::facts::Facts;
use super::finding::Finding;
use super::init_system::{InitSystem, SOCKETS};
use super::proxy::Proxy;
use crate::listener::user_or_uid;

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    address: SocketAddr,
    /// Its user.
    uid: Option<u32>,
    /// The processes that have it open, if this user may see them.
    holders: Vec<Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
}

/// Facts that identify our own sockets.
#[derive(Debug, Default)]
struct Ours {
    /// Our processes.
    pids: Vec<u32>,
    /// The sockets that the service manager holds for us.
    kept: Vec<String>,
    /// The addresses that the running proxy reports.
    told: Vec<SocketAddr>,
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let wanted = wanted(facts);
    if wanted.is_empty() {
        return vec![Finding::ok("the proxy needs none")];
    }
    let ports: Vec<u16> = wanted.iter().map(|(_, address)| address.port()).collect();
    let held = if cfg!(target_os = "macos") {
        lsof::listeners(&ports)
    } else {
        procfs::listeners(&ports)
    };
    let held = match held {
        Ok(held) => held,
        Err(why) => return vec![Finding::skipped(&why)],
    };
    let ours = ours(facts);
    wanted
        .iter()
        .map(|(name, address)| {
            let here = held
                .iter()
                .filter(|held| is_in_the_way(held.address, *address));
            judge(name, *address, &here.collect::<Vec<_>>(), &ours)
        })
        .collect()
}

/// The addresses of the doors: of the running proxy, else of the socket units, else of the
/// configuration.
fn wanted(facts: &Facts) -> Vec<(&'static str, SocketAddr)> {
    if let Some(answers) = facts.proxy.answers() {
        let mut doors = answers.doors();
        doors.extend(answers.missing_doors());
        return doors;
    }
    let listen = facts.configured().listen();
    let configured = [Some(listen.http), listen.socks5, listen.admin];
    let doors = SOCKETS.iter().zip(configured);
    doors
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

fn ours(facts: &Facts) -> Ours {
    let answers = facts.proxy.answers();
    let roles = answers.iter().flat_map(|answers| &answers.status.roles);
    let mut pids: Vec<u32> = roles.map(|role| role.pid).collect();
    pids.extend(facts.init_system.main_pid());
    let kept = match &facts.init_system {
        InitSystem::Systemd(units) => SOCKETS
            .iter()
            .filter_map(|(_, unit)| units.named(unit))
            .filter(|unit| unit.is_active())
            .flat_map(|unit| unit.listens.clone())
            .collect(),
        _ => Vec::new(),
    };
    let told = match &facts.proxy {
        Proxy::Answers(answers) => answers
            .doors()
            .into_iter()
            .map(|(_, address)| address)
            .collect(),
        _ => Vec::new(),
    };
    Ours { pids, kept, told }
}

/// Whether a listening socket prevents another from being bound. A wildcard conflicts with every
/// address.
fn is_in_the_way(held: SocketAddr, wanted: SocketAddr) -> bool {
    let canonical = |ip: IpAddr| ip.to_canonical();
    let is_wildcard = |ip: IpAddr| {
        ip == IpAddr::from(Ipv4Addr::UNSPECIFIED) || ip == IpAddr::from(Ipv6Addr::UNSPECIFIED)
    };
    let (held_ip, wanted_ip) = (canonical(held.ip()), canonical(wanted.ip()));
    held.port() == wanted.port()
        && (held_ip == wanted_ip || is_wildcard(held_ip) || is_wildcard(wanted_ip))
}

fn judge(name: &str, address: SocketAddr, held: &[&Held], ours: &Ours) -> Finding {
    let what = format!("{name} {address}");
    if held.is_empty() {
        return Finding::ok(format!("{what} is free"));
    }
    let holders: Vec<&Holder> = held.iter().flat_map(|held| &held.holders).collect();
    let is_told = ours.told.contains(&address);
    // The kernel cuts names, so this is the whole prefix that we can compare.
    let is_a_proxy = |holder: &Holder| holder.name.starts_with("codex-network-p");
    // Process numbers differ if the proxy is in a container of its own.
    let is_ours =
        |holder: &Holder| ours.pids.contains(&holder.pid) || (is_told && is_a_proxy(holder));
    if let Some(holder) = holders.iter().find(|holder| is_ours(holder)) {
        return Finding::ok(format!(
            "{what} is held by the proxy, process {}",
            holder.pid
        ));
    }
    // Perhaps the right proxy, and perhaps the reason why that one cannot start.
    if let Some(holder) = holders.iter().find(|holder| is_a_proxy(holder)) {
        return Finding::note(format!(
            "{what} is held by a codex-network-proxy that was not asked, process {}",
            holder.pid
        ))
        .advise("name its control socket with --socket; or stop it, if another proxy is to have the port");
    }
    if ours.kept.contains(&address.to_string()) && holders.iter().all(|holder| holder.pid == 1) {
        return Finding::ok(format!("{what} is held by systemd for the proxy"));
    }
    match holders.as_slice() {
        [] if is_told => Finding::ok(format!("{what} is held by the proxy, by its own report")),
        [] => {
            let owner = held.iter().find_map(|held| held.uid);
            let owner = owner.map_or_else(String::new, |uid| format!(" of {}", user_or_uid(uid)));
            Finding::problem(
                format!("{what} is held by a process{owner} that only root can name"),
                "sudo proxyctl doctor ports",
            )
        }
        [systemd, ..] if systemd.pid == 1 => Finding::problem(
            format!("{what} is held by systemd (process 1), for another unit"),
            "systemctl list-sockets --all",
        ),
        [holder, ..] => Finding::problem(
            format!("{what} is held by process {} ({})", holder.pid, holder.name),
            format!("stop that process, or {}", elsewhere(name)),
        ),
    }
}

/// How to move a door.
fn elsewhere(name: &str) -> String {
    let key = match name {
        "http" => "proxy_url",
        "socks5" => "socks_url",
        _ => "admin_url",
    };
    format!(
        "move the door: `systemctl edit codex-network-proxy-{name}.socket` (ListenStream=), or {key} where it is masked"
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok as Good, Problem};
    use super::*;

    fn held(address: &str, holders: &[(u32, &str)]) -> Held {
        Held {
            address: address.parse().expect("an address"),
            uid: Some(0),
            holders: holders
                .iter()
                .map(|(pid, name)| Holder {
                    pid: *pid,
                    name: (*name).to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn k1_the_holder_of_a_port_is_judged() {
        let address: SocketAddr = "127.0.0.1:3128".parse().expect("an address");
        let ours = Ours {
            pids: vec![40],
            kept: vec!["127.0.0.1:3128".to_owned()],
            told: Vec::new(),
        };
        let told = Ours {
            told: vec![address],
            ..Ours::default()
        };
        let none = Ours::default();
        for (holders, ours, verdict, said) in [
            (&[][..], &none, Problem, "only root can name"),
            (&[], &told, Good, "by its own report"),
            (&[(40, "x")], &ours, Good, "the proxy, process 40"),
            (&[(1, "systemd"), (40, "x")], &ours, Good, "process 40"),
            (&[(1, "systemd")], &ours, Good, "systemd for the proxy"),
            (&[(1, "systemd")], &none, Problem, "another unit"),
            (
                &[(50, "codex-network-p")],
                &none,
                Note,
                "not asked, process 50",
            ),
            (
                &[(50, "codex-network-p")],
                &ours,
                Note,
                "not asked, process 50",
            ),
            (
                &[(50, "codex-network-p")],
                &told,
                Good,
                "the proxy, process 50",
            ),
            (&[(50, "nginx")], &ours, Problem, "process 50 (nginx)"),
            (&[(50, "nginx")], &told, Problem, "process 50 (nginx)"),
        ] {
            let held = held("127.0.0.1:3128", holders);
            let found = judge("http", address, &[&held], ours);
            assert_eq!(found.verdict, verdict, "{holders:?}: {found:?}");
            assert!(found.found.contains(said), "{said}: {found:?}");
        }
        let free = judge("http", address, &[], &none);
        assert_eq!(
            (free.verdict, free.found.as_str()),
            (Good, "http 127.0.0.1:3128 is free")
        );
    }

    #[test]
    fn k1_only_what_keeps_an_address_from_being_bound_is_in_the_way() {
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
            assert_eq!(is_in_the_way(held, wanted), expected, "{held} {wanted}");
        }
    }
}
