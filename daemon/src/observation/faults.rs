//! The degraded parts of the proxy, each with its time (SPEC O4). Every program on the machine may see it, so no text has a part of a file
//! or a name that a client looked up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use codex_network_config::CaCertificate;
use codex_network_engine::NameServers;
use serde::Serialize;

use super::{Condition, LogLosses, TelemetryCounts, unix_seconds};
use crate::ca::certificate::describe;

/// How long lost log lines are shown.
const LOSS_SHOWN: Duration = Duration::from_secs(5 * 60);
/// How long the restart of a worker is shown.
const RESTART_SHOWN: Duration = Duration::from_secs(10 * 60);
/// How long a refused certificate is shown, in seconds.
const REFUSAL_SHOWN: i64 = 10 * 60;
/// 2025-01-01. No clock that was set is earlier.
const EARLIEST: i64 = 1_735_689_600;

/// The part that is degraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// The configuration in the files is not in force.
    Configuration,
    /// Few descriptors are left.
    Descriptors,
    /// Names do not resolve.
    Resolver,
    /// Log lines were lost.
    Log,
    /// Audit events do not reach their collector.
    Telemetry,
    /// The clock is wrong.
    Clock,
    /// The worker was restarted.
    Worker,
    /// Certificates are refused, since too many hosts that no list has got one.
    Certificates,
}

/// A degraded part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) part: Part,
    /// When it began, or was first noticed, in seconds since 1970.
    pub(crate) since: i64,
    /// A sentence.
    pub(crate) detail: String,
}

/// The facts that are judged.
pub(super) struct Facts {
    pub(super) condition: Condition,
    pub(super) reloads_failing_since: Option<i64>,
    pub(super) descriptors: Option<(u64, u64)>,
    pub(super) name_servers: Option<NameServers>,
    pub(super) losses: Option<LogLosses>,
    pub(super) telemetry: Option<TelemetryCounts>,
    pub(super) ca: Option<Arc<CaCertificate>>,
    pub(super) restarts: Option<u32>,
    pub(super) started: SystemTime,
    pub(super) uptime: Duration,
    /// When a certificate was last refused since too many hosts got one.
    pub(super) leaf_over_bound: Option<i64>,
}

/// A fault that was found, with the time when it began, if that is known.
pub(super) struct Found {
    part: Part,
    since: Option<i64>,
    detail: String,
}

/// When each fault was first noticed.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<Part, i64>);

impl Part {
    /// Every part.
    pub(crate) const ALL: [Self; 8] = [
        Self::Configuration,
        Self::Descriptors,
        Self::Resolver,
        Self::Log,
        Self::Telemetry,
        Self::Clock,
        Self::Worker,
        Self::Certificates,
    ];

    /// The name in `/health?verbose` and the label in `/metrics`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Descriptors => "descriptors",
            Self::Resolver => "resolver",
            Self::Log => "log",
            Self::Telemetry => "telemetry",
            Self::Clock => "clock",
            Self::Worker => "worker",
            Self::Certificates => "certificates",
        }
    }
}

impl Facts {
    /// The faults at this time, in the order of their parts.
    pub(super) fn found(&self, now: SystemTime) -> Vec<Found> {
        let found = [
            self.configuration(),
            self.few_descriptors(),
            self.resolver(),
            self.log(now),
            self.telemetry(now),
            self.clock(now),
            self.worker(),
            self.certificates(now),
        ];
        found.into_iter().flatten().collect()
    }

    fn configuration(&self) -> Option<Found> {
        let start = Some(unix_seconds(self.started));
        let (since, detail) = match (self.condition, self.reloads_failing_since) {
            (Condition::Closed, _) => (
                start,
                "the configuration cannot be used, and everything is refused",
            ),
            (Condition::LastGood, _) => (
                start,
                "the configuration cannot be used, and the last good one is in force",
            ),
            (Condition::Sound, Some(since)) => (
                Some(since),
                "the last reload failed, and the old settings stay in force",
            ),
            (Condition::Sound, None) => return None,
        };
        Some(Found {
            part: Part::Configuration,
            since,
            detail: detail.to_owned(),
        })
    }

    fn few_descriptors(&self) -> Option<Found> {
        let (open, limit) = self.descriptors?;
        let is_much = open >= limit - limit / 10;
        is_much.then(|| Found {
            part: Part::Descriptors,
            since: None,
            detail: format!("{open} of {limit} descriptors are open"),
        })
    }

    fn resolver(&self) -> Option<Found> {
        let servers = self.name_servers.as_ref()?;
        if servers.problem.is_some() || servers.servers.is_empty() {
            return Some(Found {
                part: Part::Resolver,
                since: None,
                detail: "no name server is known".to_owned(),
            });
        }
        // Failures for single names are no fault of the resolver: a client can cause them.
        let fail = servers.servers.iter().map(|server| server.failing_since);
        let last = fail.collect::<Option<Vec<_>>>()?.into_iter().max();
        Some(Found {
            part: Part::Resolver,
            since: last.map(unix_seconds),
            detail: format!("none of {} name servers works", servers.servers.len()),
        })
    }

    fn log(&self, now: SystemTime) -> Option<Found> {
        let losses = self.losses?;
        let age = now.duration_since(losses.last?).unwrap_or_default();
        (age < LOSS_SHOWN).then(|| Found {
            part: Part::Log,
            since: None,
            detail: format!("{} log lines were lost since the start", losses.lines),
        })
    }

    fn telemetry(&self, now: SystemTime) -> Option<Found> {
        let counts = self.telemetry.as_ref()?;
        let lost = match counts.lost {
            0 => String::new(),
            lost => format!("{lost} audit events were lost since the start"),
        };
        if let Some((since, why)) = &counts.failing {
            let lost = if lost.is_empty() {
                lost
            } else {
                format!("; {lost}")
            };
            return Some(Found {
                part: Part::Telemetry,
                since: Some(*since),
                detail: format!("the collector does not take audit events: {why}{lost}"),
            });
        }
        let age = now.duration_since(counts.last_lost?).unwrap_or_default();
        (age < LOSS_SHOWN).then_some(Found {
            part: Part::Telemetry,
            since: None,
            detail: lost,
        })
    }

    fn clock(&self, now: SystemTime) -> Option<Found> {
        let now = unix_seconds(now);
        let ca = self.ca.as_ref().and_then(|ca| describe(&ca.der));
        let detail = match ca {
            _ if now < EARLIEST => "the clock is before 2025",
            Some(ca) if now < ca.not_before => "the clock is before the validity of the CA",
            Some(ca) if now > ca.not_after => "the clock is after the validity of the CA",
            _ => return None,
        };
        Some(Found {
            part: Part::Clock,
            since: None,
            detail: detail.to_owned(),
        })
    }

    fn worker(&self) -> Option<Found> {
        let restarts = self.restarts.filter(|restarts| *restarts > 0)?;
        let times = match restarts {
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        (self.uptime < RESTART_SHOWN).then(|| Found {
            part: Part::Worker,
            since: Some(unix_seconds(self.started)),
            detail: format!("the worker was restarted {times}"),
        })
    }

    fn certificates(&self, now: SystemTime) -> Option<Found> {
        let age = unix_seconds(now).saturating_sub(self.leaf_over_bound?);
        (age < REFUSAL_SHOWN).then(|| Found {
            part: Part::Certificates,
            since: None,
            detail: "hosts that no list has get no certificates, since a user has too many of them"
                .to_owned(),
        })
    }
}

impl Memory {
    /// Adds the time when each fault was first noticed, and forgets those that are over.
    pub(super) fn note(&mut self, found: Vec<Found>) -> Vec<Fault> {
        self.0
            .retain(|part, _| found.iter().any(|found| found.part == *part));
        let now = unix_seconds(SystemTime::now());
        let mut since = |found: &Found| {
            let noticed = *self.0.entry(found.part).or_insert(now);
            found.since.unwrap_or(noticed)
        };
        let faults = found.into_iter();
        faults
            .map(|found| Fault {
                part: found.part,
                since: since(&found),
                detail: found.detail,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use codex_network_engine::{NameServerHealth, NameServersFrom};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> SystemTime {
        let seconds = u64::try_from(seconds).expect("after 1970");
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sound() -> Facts {
        Facts {
            condition: Condition::Sound,
            reloads_failing_since: None,
            descriptors: Some((10, 1024)),
            name_servers: Some(servers(&[(0, None)])),
            losses: Some(LogLosses::default()),
            telemetry: Some(TelemetryCounts::default()),
            ca: None,
            restarts: Some(0),
            started: at(NOW - 30),
            uptime: Duration::from_secs(30),
            leaf_over_bound: None,
        }
    }

    fn servers(health: &[(u32, Option<i64>)]) -> NameServers {
        let servers = health.iter().map(|(failures, since)| NameServerHealth {
            address: SocketAddr::from(([192, 0, 2, 1], 53)),
            last_success: None,
            failures: *failures,
            failing_since: since.map(at),
            last_error: Some("of secret.test".to_owned()),
        });
        NameServers {
            from: NameServersFrom::Settings,
            servers: servers.collect(),
            problem: None,
        }
    }

    fn faults(facts: &Facts) -> Vec<(Part, Option<i64>)> {
        let found = facts.found(at(NOW)).into_iter();
        found.map(|found| (found.part, found.since)).collect()
    }

    /// A change of facts that is a fault.
    type Change = fn(&mut Facts);

    #[test]
    fn o4_a_sound_proxy_has_no_fault_and_each_fault_is_found_alone() {
        assert_eq!(faults(&sound()), []);
        let cases: [(Change, Part, Option<i64>); 12] = [
            (
                |facts| facts.condition = Condition::Closed,
                Part::Configuration,
                Some(NOW - 30),
            ),
            (
                |facts| facts.condition = Condition::LastGood,
                Part::Configuration,
                Some(NOW - 30),
            ),
            (
                |facts| facts.reloads_failing_since = Some(NOW - 7),
                Part::Configuration,
                Some(NOW - 7),
            ),
            (
                |facts| facts.descriptors = Some((922, 1024)),
                Part::Descriptors,
                None,
            ),
            (
                |facts| facts.descriptors = Some((1024, 1024)),
                Part::Descriptors,
                None,
            ),
            (
                |facts| {
                    facts.name_servers = Some(servers(&[(3, Some(NOW - 9)), (5, Some(NOW - 4))]));
                },
                Part::Resolver,
                Some(NOW - 4),
            ),
            (
                |facts| facts.name_servers = Some(servers(&[])),
                Part::Resolver,
                None,
            ),
            (
                |facts| {
                    facts.losses = Some(LogLosses {
                        lines: 4,
                        last: Some(at(NOW - 299)),
                    });
                },
                Part::Log,
                None,
            ),
            (
                |facts| facts.restarts = Some(1),
                Part::Worker,
                Some(NOW - 30),
            ),
            (|facts| facts.ca = Some(ca(1, 2)), Part::Clock, None),
            (
                |facts| facts.leaf_over_bound = Some(NOW - 599),
                Part::Certificates,
                None,
            ),
            (
                |facts| facts.ca = Some(ca(4_000_000_000, 4_100_000_000)),
                Part::Clock,
                None,
            ),
        ];
        for (number, (change, part, since)) in cases.into_iter().enumerate() {
            let mut facts = sound();
            change(&mut facts);
            assert_eq!(faults(&facts), [(part, since)], "{number}");
        }
    }

    #[test]
    fn o4_what_is_over_or_small_is_no_fault() {
        let cases: [fn(&mut Facts); 8] = [
            |facts| facts.leaf_over_bound = Some(NOW - 600),
            |facts| facts.descriptors = Some((921, 1024)),
            |facts| facts.descriptors = None,
            // One of two servers answers.
            |facts| facts.name_servers = Some(servers(&[(9, Some(NOW - 9)), (0, None)])),
            // Names may have broken servers of their own.
            |facts| facts.name_servers = Some(servers(&[(99, None)])),
            |facts| {
                facts.losses = Some(LogLosses {
                    lines: 4,
                    last: Some(at(NOW - 300)),
                });
            },
            |facts| {
                facts.restarts = Some(1);
                facts.uptime = RESTART_SHOWN;
            },
            |facts| facts.ca = Some(ca(1_700_000_000, 1_900_000_000)),
        ];
        for (number, change) in cases.into_iter().enumerate() {
            let mut facts = sound();
            change(&mut facts);
            assert_eq!(faults(&facts), [], "{number}");
        }
        let early = sound().found(at(1));
        assert_eq!(early.first().map(|found| found.part), Some(Part::Clock));
    }

    #[test]
    fn o4_no_detail_has_an_error_of_a_name_server() {
        let mut facts = sound();
        facts.name_servers = Some(servers(&[(3, Some(NOW))]));
        let found = facts.found(at(NOW));
        assert!(!found[0].detail.contains("secret"), "{}", found[0].detail);
    }

    #[test]
    fn o4_a_fault_keeps_its_time_while_it_lasts_and_gets_another_when_it_returns() {
        let found = || {
            let mut facts = sound();
            facts.descriptors = Some((1024, 1024));
            facts.found(at(NOW))
        };
        let mut memory = Memory::default();
        memory.0.insert(Part::Descriptors, 77);
        assert_eq!(memory.note(found())[0].since, 77);
        assert_eq!(memory.note(Vec::new()), []);
        assert!(memory.note(found())[0].since > 77);
    }

    fn ca(not_before: i64, not_after: i64) -> Arc<CaCertificate> {
        let time = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = time(not_before);
        parameters.not_after = time(not_after);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Arc::new(CaCertificate {
            der: Arc::from(&certificate.der()[..]),
            ..CaCertificate::default()
        })
    }
}
