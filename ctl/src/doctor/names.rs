//! Name servers: whether the proxy has any, whether they answer, and whether `/etc/resolv.conf` names
//! the same.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use codex_network_config::ResolvConf;
use codex_network_control::message::Names;
use codex_network_files::ReadError;

use super::facts::Facts;
use super::finding::Finding;
use crate::name_servers::health;
use crate::output::printable;

const RESOLV_CONF: &str = ResolvConf::PATH;
/// A file that changed a moment ago may not have reached the proxy yet.
const RECENT: Duration = Duration::from_secs(10);

/// The name servers of `/etc/resolv.conf` now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SystemServers {
    Names(Vec<IpAddr>),
    /// The file changed a moment ago, so the proxy may not have read it yet.
    Changing,
    Unreadable(String),
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let answers = facts.proxy.running();
    match answers.and_then(|answers| answers.status.names.as_ref()) {
        None => vec![Finding::skipped(
            "no proxy reports which name servers it uses",
        )],
        Some(names) => judge(names, &SystemServers::read()),
    }
}

impl SystemServers {
    fn read() -> Self {
        let path = Path::new(RESOLV_CONF);
        let changes = [path.symlink_metadata(), path.metadata()];
        let has_changed = changes.into_iter().flatten().any(|metadata| {
            let at = metadata.modified().ok();
            let age = at.and_then(|at| SystemTime::now().duration_since(at).ok());
            age.is_some_and(|age| age < RECENT)
        });
        if has_changed {
            return Self::Changing;
        }
        match ResolvConf::READING.read_text(path) {
            Ok(text) => Self::Names(ResolvConf::parse(&text).servers),
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                Self::Names(Vec::new())
            }
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

fn judge(names: &Names, system: &SystemServers) -> Vec<Finding> {
    let is_of_system = names.from == Names::SYSTEM;
    let mut found = Vec::new();
    if names.servers.is_empty() {
        let why = names.problem.as_deref().map(printable);
        let found = format!(
            "the proxy knows no name server ({}), so only names in the hosts file resolve",
            why.unwrap_or_default()
        );
        return vec![match system {
            SystemServers::Names(now) if !now.is_empty() => differs(&found, now),
            _ => Finding::note(found).advise(format!(
                "connect this machine to its network; the proxy notices when {RESOLV_CONF} names a server"
            )),
        }];
    }
    let servers = names.servers.iter();
    let failing: Vec<_> = servers.filter(|server| server.failures > 0).collect();
    let failures: Vec<String> = failing
        .iter()
        .map(|server| format!("{}: {}", printable(&server.address), health(server)))
        .collect();
    let advice = if is_of_system {
        "check whether this machine reaches them: resolvectl status, or cat /etc/resolv.conf"
    } else {
        "check [daemon.resolver] nameservers, and whether this machine reaches them"
    };
    if failing.is_empty() {
        let all: Vec<String> = names
            .servers
            .iter()
            .map(|server| format!("{} {}", printable(&server.address), health(server)))
            .collect();
        found.push(Finding::ok(format!("name server {}", all.join(", "))));
    } else if names.servers.iter().all(|it| it.failing_since.is_some()) {
        found.push(Finding::problem(
            format!("no name server works: {}", failures.join("; ")),
            advice,
        ));
    } else {
        found.push(
            Finding::note(format!(
                "not every lookup is answered: {}",
                failures.join("; ")
            ))
            .advise(advice),
        );
    }
    if is_of_system {
        found.extend(compare(names, system));
    }
    found
}

/// Whether the proxy uses the servers that the system names now.
fn compare(names: &Names, system: &SystemServers) -> Option<Finding> {
    let in_use = names.servers.iter();
    let in_use: Vec<IpAddr> = in_use
        .filter_map(|server| Some(server.address.parse::<SocketAddr>().ok()?.ip()))
        .collect();
    match system {
        SystemServers::Names(now) if *now == in_use => None,
        SystemServers::Names(now) => Some(differs("the proxy uses other name servers", now)),
        SystemServers::Changing => Some(Finding::note(format!(
            "{RESOLV_CONF} has just changed; whether the proxy has noticed is not known yet"
        ))),
        SystemServers::Unreadable(why) => {
            Some(Finding::note(format!("cannot read {RESOLV_CONF}: {why}")))
        }
    }
}

/// The service may not see the file as this process does: its view of `/run` is its own.
fn differs(found: &str, now: &[IpAddr]) -> Finding {
    let now: Vec<String> = now.iter().map(IpAddr::to_string).collect();
    let now = match now.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    Finding::problem(
        format!("{found}, but {RESOLV_CONF} names {now}"),
        "proxyctl reload; if that does not help, systemctl restart codex-network-proxy",
    )
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::NameServer;

    use super::super::finding::Verdict::{self, Note, Ok, Problem};
    use super::*;

    fn names(from: &str, servers: &[(&str, u32)]) -> Names {
        let servers = servers.iter().map(|(address, failures)| NameServer {
            address: (*address).to_owned(),
            failures: *failures,
            // From ten on, in this test.
            failing_since: (*failures > 9).then_some(1_800_000_000),
            ..NameServer::default()
        });
        Names {
            from: from.to_owned(),
            servers: servers.collect(),
            problem: None,
        }
    }

    fn system(servers: &[&str]) -> SystemServers {
        let servers = servers.iter().map(|text| text.parse().expect("an address"));
        SystemServers::Names(servers.collect())
    }

    fn verdicts(names: &Names, system: &SystemServers) -> Vec<Verdict> {
        let found = judge(names, system);
        found.iter().map(|found| found.verdict).collect()
    }

    #[test]
    fn l14_the_servers_in_use_are_compared_with_the_file_and_must_answer() {
        let (one, two) = ("192.0.2.1:53", "[2001:db8::1]:53");
        let now = system(&["192.0.2.1", "2001:db8::1"]);
        let of_system = |servers: &[(&str, u32)]| names(Names::SYSTEM, servers);
        for (in_use, now, wanted) in [
            (of_system(&[(one, 0), (two, 0)]), now.clone(), &[Ok][..]),
            (of_system(&[(one, 0), (two, 3)]), now.clone(), &[Note]),
            (of_system(&[(one, 1), (two, 13)]), now.clone(), &[Note]),
            // A client asked for names of a broken zone.
            (of_system(&[(one, 4), (two, 3)]), now.clone(), &[Note]),
            (of_system(&[(one, 14), (two, 13)]), now.clone(), &[Problem]),
            (of_system(&[(one, 0)]), now.clone(), &[Ok, Problem]),
            (
                of_system(&[(two, 0), (one, 0)]),
                now.clone(),
                &[Ok, Problem],
            ),
            (of_system(&[(one, 0)]), system(&[]), &[Ok, Problem]),
            (of_system(&[(one, 0)]), SystemServers::Changing, &[Ok, Note]),
            (of_system(&[]), system(&[]), &[Note]),
            (of_system(&[]), now.clone(), &[Problem]),
            // The settings name them, whatever the system says.
            (names(Names::SETTINGS, &[(one, 0)]), now.clone(), &[Ok]),
            (names(Names::SETTINGS, &[(one, 10)]), now, &[Problem]),
        ] {
            assert_eq!(verdicts(&in_use, &now), wanted, "{in_use:?} {now:?}");
        }
    }
}
