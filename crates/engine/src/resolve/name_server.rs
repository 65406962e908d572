//! One name server: queries for a name, and whether the server answers at all.

mod outcomes;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, Record, RecordType},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use self::outcomes::{Failure, Outcomes};
use super::cache::{DnsCache, DnsQuestion};
use super::health::NameServerHealth;
use super::{MAX_ADDRESSES, ResolveError};
use crate::address_family::AddressFamily;

/// The longest time that addresses are kept, also with a longer TTL.
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time that "no such name" is kept: short, because people fix such names and retry.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long to wait for IPv6 addresses once the IPv4 ones are there, so that a name server that
/// drops AAAA queries does not delay every connection for the whole limit. RFC 8305 section 3 suggests
/// 50 ms, but lets late addresses join a race that has begun. Here the set of addresses is final when it
/// is vetted, so the wait is longer. The wait for IPv4 addresses has no such limit: on a machine without
/// a route for IPv6, only IPv4 works.
const RESOLUTION_DELAY: Duration = Duration::from_millis(300);
/// How long a name server that did not answer is queried only after all others.
const SILENCE_PENALTY: Duration = Duration::from_secs(30);
/// The name of a query that a live server answers at once, since every resolver serves this zone itself
/// (RFC 6303 section 4.2).
const PROBE_NAME: &str = "0.in-addr.arpa.";
/// Most aliases that are followed within an answer. hickory queries at most eight further ones.
const MAX_ALIASES: usize = 16;

/// A name server and its cached answers.
#[derive(Debug)]
pub(super) struct NameServer {
    address: SocketAddr,
    /// Its index in the settings, which separates its answers from those of other servers.
    index: usize,
    client: TokioResolver,
    answers: Arc<DnsCache>,
    since: Instant,
    /// When it last answered anything, in microseconds after `since`; 0 before that.
    last_answer: AtomicU64,
    /// Until when this server is queried last, in microseconds after `since`.
    silent_until: AtomicU64,
    outcomes: Mutex<Outcomes>,
}

/// The answer about one family, and how long it may be kept.
struct FamilyAnswer {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

impl NameServer {
    pub(super) fn new(
        index: usize,
        config: NameServerConfig,
        options: ResolverOpts,
        answers: Arc<DnsCache>,
    ) -> Result<Self, NetError> {
        let address = address(&config);
        let config = ResolverConfig::from_name_servers(vec![config]);
        let client = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Self {
            address,
            index,
            client,
            answers,
            since: Instant::now(),
            last_answer: AtomicU64::new(0),
            silent_until: AtomicU64::new(0),
            outcomes: Mutex::default(),
        })
    }

    /// Its health, for a report.
    pub(super) fn health(&self) -> NameServerHealth {
        let outcomes = self.outcomes.lock();
        outcomes.health(self.address, Instant::now())
    }

    /// Whether it recently answered no query at all.
    pub(super) fn is_silent(&self) -> bool {
        self.now() < self.silent_until.load(Ordering::Relaxed)
    }

    /// Queries the addresses of both families at once, within a limit. A failure of one family does not
    /// fail the other.
    ///
    /// A missing answer for one name does not prove that the server is down: the servers of that name's
    /// zone may be silent, and a client may have chosen the name for that. So a silent server also gets a
    /// query that it can answer alone. If it answers nothing at all, it is queried last from then on.
    pub(super) async fn addresses(
        &self,
        name: &Name,
        text: &Arc<str>,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let began = self.now();
        let lookup = pin!(self.both_families(name, text, limit));
        let probe = pin!(async {
            sleep(limit / 2).await;
            if !self.has_answered_since(began) {
                self.probe(limit / 2).await;
            }
        });
        let outcome = match select(lookup, probe).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), lookup)) => lookup.await,
        };
        match &outcome {
            // The name's own servers are silent.
            Err(ResolveError::Timeout) if self.has_answered_since(began) => {}
            Err(ResolveError::Timeout) => {
                self.note_silence();
                self.note_failure(Failure::NoAnswer, "no answer in time");
            }
            Err(ResolveError::Unavailable(detail)) => {
                let failure = if self.has_answered_since(began) {
                    Failure::OfName(text)
                } else {
                    Failure::NoAnswer
                };
                self.note_failure(failure, detail);
            }
            _ => {}
        }
        outcome
    }

    async fn both_families(
        &self,
        name: &Name,
        text: &Arc<str>,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let ipv6 = pin!(self.records(name, text, AddressFamily::Ipv6, limit));
        let ipv4 = pin!(self.records(name, text, AddressFamily::Ipv4, limit));
        let both = match select(ipv6, ipv4).await {
            Either::Left((ipv6, ipv4)) => (ipv6, ipv4.await),
            Either::Right((Err(ipv4), ipv6)) => (ipv6.await, Err(ipv4)),
            Either::Right((Ok(ipv4), ipv6)) => {
                let ipv6 = timeout(RESOLUTION_DELAY, ipv6).await;
                (ipv6.unwrap_or(Err(ResolveError::Timeout)), Ok(ipv4))
            }
        };
        match both {
            (Ok(ipv6), Ok(ipv4)) => Ok([ipv6, ipv4].concat()),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.to_vec()),
            // "No such name" holds only if neither family can have an address.
            (Err(ResolveError::NotFound), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    /// The addresses of one family, from the cache while their TTL lasts; never an empty list.
    async fn records(
        &self,
        name: &Name,
        text: &Arc<str>,
        family: AddressFamily,
        limit: Duration,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        let question = DnsQuestion {
            server: self.index,
            family,
            name: Arc::clone(text),
        };
        let addresses = if let Some(kept) = self.answers.get(&question) {
            kept
        } else {
            let answer = self.query(name, family, limit).await?;
            self.answers.keep(question, &answer.addresses, answer.ttl);
            answer.addresses.into()
        };
        if addresses.is_empty() {
            return Err(ResolveError::NotFound);
        }
        Ok(addresses)
    }

    async fn query(
        &self,
        name: &Name,
        family: AddressFamily,
        limit: Duration,
    ) -> Result<FamilyAnswer, ResolveError> {
        let kind = match family {
            AddressFamily::Ipv4 => RecordType::A,
            AddressFamily::Ipv6 => RecordType::AAAA,
        };
        let answer = timeout(limit, self.client.lookup(name.clone(), kind)).await;
        let answer = answer.map_err(|_| ResolveError::Timeout)?;
        self.note_answer(&answer);
        if matches!(
            answer,
            Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_)))
        ) {
            self.note_success();
        }
        let unavailable = |why: &dyn std::fmt::Display| {
            ResolveError::Unavailable(format!("{}: {why}", self.address.ip()))
        };
        match answer {
            Ok(lookup) => {
                family_answer(name, lookup.answers()).map_err(|error| unavailable(&error))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let ttl = Duration::from_secs(none.negative_ttl.unwrap_or_default().into());
                Ok(FamilyAnswer {
                    addresses: Vec::new(),
                    ttl: ttl.min(MAX_NEGATIVE_TTL),
                })
            }
            Err(NetError::Timeout) => Err(ResolveError::Timeout),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Sends a query that a live server answers at once. The content of the answer does not matter.
    async fn probe(&self, limit: Duration) {
        let Ok(name) = Name::from_ascii(PROBE_NAME) else {
            return;
        };
        if let Ok(answer) = timeout(limit, self.client.lookup(name, RecordType::SOA)).await {
            self.note_answer(&answer);
        }
    }

    /// Every answer shows that the server is alive, even a DNS error or one that cannot be read.
    fn note_answer<T>(&self, answer: &Result<T, NetError>) {
        if matches!(
            answer,
            Ok(_) | Err(NetError::Dns(_) | NetError::Proto(_) | NetError::Busy)
        ) {
            self.last_answer.fetch_max(self.now(), Ordering::Relaxed);
        }
    }

    fn note_success(&self) {
        self.outcomes.lock().succeeded(SystemTime::now());
    }

    /// Notes a lookup that got neither an answer nor "no such name" for either family.
    fn note_failure(&self, failure: Failure<'_>, error: &str) {
        let (wall, now) = (SystemTime::now(), Instant::now());
        self.outcomes.lock().failed(failure, error, wall, now);
    }

    fn has_answered_since(&self, then: u64) -> bool {
        self.last_answer.load(Ordering::Relaxed) >= then
    }

    fn note_silence(&self) {
        let until = self.since.elapsed() + SILENCE_PENALTY;
        self.silent_until.store(micros(until), Ordering::Relaxed);
        tracing::debug!(server = %self.address.ip(), "the name server answers nothing");
    }

    /// Microseconds after `since`, at least 1.
    fn now(&self) -> u64 {
        micros(self.since.elapsed()).max(1)
    }
}

/// The address of the first query to a server.
pub(super) fn address(config: &NameServerConfig) -> SocketAddr {
    let first = config.connections.first();
    SocketAddr::new(config.ip, first.map_or(53, |connection| connection.port))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An answer has more addresses than any host needs.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {MAX_ADDRESSES} addresses")]
struct TooManyAddresses;

/// The addresses of the queried name, or of the name that its aliases lead to. Records of other
/// names are ignored.
fn family_answer(name: &Name, records: &[Record]) -> Result<FamilyAnswer, TooManyAddresses> {
    let mut owner = name;
    let mut ttl = u32::MAX;
    for _ in 0..MAX_ALIASES {
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name == *owner => Some((&alias.0, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else {
            break;
        };
        (owner, ttl) = (target, ttl.min(alias_ttl));
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|record| record.name == *owner) {
        let Some(address) = record.data.ip_addr() else {
            continue;
        };
        ttl = ttl.min(record.ttl);
        if addresses.contains(&address) {
            continue;
        }
        if addresses.len() == MAX_ADDRESSES {
            return Err(TooManyAddresses);
        }
        addresses.push(address);
    }
    // An answer without an address of the name is not kept.
    let ttl = if addresses.is_empty() { 0 } else { ttl };
    Ok(FamilyAnswer {
        addresses,
        ttl: Duration::from_secs(ttl.into()).min(MAX_POSITIVE_TTL),
    })
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::CNAME;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn address(owner: &str, address: [u8; 4]) -> Record {
        Record::from_rdata(name(owner), 60, IpAddr::from(address).into())
    }

    fn alias(owner: &str, target: &str, ttl: u32) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    fn read(records: &[Record]) -> (Vec<String>, u64) {
        let answer = family_answer(&name("site.test."), records).expect("few addresses");
        let addresses = answer.addresses.iter().map(ToString::to_string).collect();
        (addresses, answer.ttl.as_secs())
    }

    #[test]
    fn p4_addresses_of_other_names_do_not_count() {
        let records = [
            address("other.test.", [127, 0, 0, 1]),
            address("SITE.test.", [192, 0, 2, 1]),
            alias("other.test.", "site.test.", 1),
        ];
        assert_eq!(read(&records), (vec!["192.0.2.1".to_owned()], 60));
        assert_eq!(read(&records[..1]), (vec![], 0));
    }

    #[test]
    fn p4_aliases_lead_to_their_target_in_any_order_for_the_shortest_ttl() {
        let records = [
            address("edge.test.", [192, 0, 2, 1]),
            alias("cdn.test.", "edge.test.", 7),
            alias("site.test.", "cdn.test.", 30),
            // A name with an alias has no addresses of its own (RFC 1034 section 3.6.2).
            address("site.test.", [192, 0, 2, 9]),
        ];
        assert_eq!(read(&records), (vec!["192.0.2.1".to_owned()], 7));
        let round = [alias("site.test.", "site.test.", 30)];
        assert_eq!(read(&round), (vec![], 0));
    }

    #[test]
    fn p4_a_chain_of_aliases_is_followed_up_to_a_limit() {
        for (aliases, wanted) in [(16, vec!["192.0.2.1".to_owned()]), (17, vec![])] {
            let owner = |number: usize| match number {
                0 => "site.test.".to_owned(),
                number => format!("alias{number}.test."),
            };
            let chain = (0..aliases).map(|number| alias(&owner(number), &owner(number + 1), 60));
            let mut records: Vec<_> = chain.collect();
            records.push(address(&owner(aliases), [192, 0, 2, 1]));
            assert_eq!(read(&records).0, wanted, "{aliases}");
        }
    }

    #[test]
    fn p4_an_answer_with_too_many_addresses_is_none_and_repeated_ones_count_once() {
        let [most, more] = [MAX_ADDRESSES, MAX_ADDRESSES + 1].map(|count| {
            let numbered = (0..count).map(|number| {
                let [.., high, low] = number.to_be_bytes();
                address("site.test.", [10, 0, high, low])
            });
            numbered.collect::<Vec<_>>()
        });
        assert_eq!(read(&most).0.len(), MAX_ADDRESSES);
        assert!(family_answer(&name("site.test."), &more).is_err());
        let repeated = vec![address("site.test.", [192, 0, 2, 1]); 4000];
        assert_eq!(read(&repeated).0, ["192.0.2.1"]);
    }
}
