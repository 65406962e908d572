//! Answers of name servers, kept for their TTL within a bound in bytes.
//!
//! hickory's cache is not used: it counts whole messages, and a message may take a megabyte. This cache
//! keeps only addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use crate::address_family::AddressFamily;

/// Most bytes of all answers together, by [`weight`]. An answer with one address takes about 256 bytes, so
/// there is room for about sixteen thousand of those, or for nine hundred of the largest.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The bytes that an entry takes besides its name and its addresses: our types and the cache's
/// tables.
const ENTRY_BYTES: usize = 224;

/// The answers of all name servers of one resolver.
#[derive(Debug)]
pub(super) struct DnsCache(Cache<DnsQuestion, CachedAnswer>);

/// The key of an answer. It names the server, since answers differ with split DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DnsQuestion {
    pub(super) server: usize,
    pub(super) family: AddressFamily,
    pub(super) name: Arc<str>,
}

/// The addresses of one family; empty if the name does not exist or has no such address.
#[derive(Clone, Debug)]
struct CachedAnswer {
    addresses: Arc<[IpAddr]>,
    ttl: Duration,
}

struct TtlExpiry;

impl Expiry<DnsQuestion, CachedAnswer> for TtlExpiry {
    fn expire_after_create(
        &self,
        _: &DnsQuestion,
        answer: &CachedAnswer,
        _: Instant,
    ) -> Option<Duration> {
        Some(answer.ttl)
    }

    fn expire_after_update(
        &self,
        _: &DnsQuestion,
        answer: &CachedAnswer,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.ttl)
    }
}

impl Default for DnsCache {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(weight)
            .expire_after(TtlExpiry)
            .build();
        Self(cache)
    }
}

impl DnsCache {
    /// The answer to a question, unless it has expired or was evicted.
    pub(super) fn get(&self, question: &DnsQuestion) -> Option<Arc<[IpAddr]>> {
        self.0.get(question).map(|answer| answer.addresses)
    }

    /// Keeps an answer for its lifetime. An answer with a lifetime of zero is not kept.
    pub(super) fn keep(&self, question: DnsQuestion, addresses: &[IpAddr], ttl: Duration) {
        if !ttl.is_zero() {
            let addresses = addresses.into();
            self.0.insert(question, CachedAnswer { addresses, ttl });
        }
    }
}

fn weight(question: &DnsQuestion, answer: &CachedAnswer) -> u32 {
    let bytes = ENTRY_BYTES + question.name.len() + size_of_val(&*answer.addresses);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::MAX_ADDRESSES;
    use super::*;

    fn question(number: usize) -> DnsQuestion {
        DnsQuestion {
            server: 0,
            family: AddressFamily::Ipv6,
            name: format!("{number:0>253}").into(),
        }
    }

    const AN_HOUR: Duration = Duration::from_secs(3600);

    /// A past bug: a thousand answers of any size were kept, a gigabyte of memory.
    #[test]
    fn p4_answers_of_the_largest_size_stay_within_the_bound_in_bytes() {
        let answers = DnsCache::default();
        let largest = [IpAddr::from([0xff; 16]); MAX_ADDRESSES];
        for number in 0..10_000 {
            answers.keep(question(number), &largest, AN_HOUR);
        }
        answers.0.run_pending_tasks();
        assert!(answers.0.weighted_size() <= MAX_BYTES);
        let bytes = answers.0.entry_count() * (size_of_val(&largest) as u64);
        assert!((1..=MAX_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn p4_an_answer_without_a_ttl_is_not_kept_and_the_last_answer_counts() {
        let answers = DnsCache::default();
        let one = [IpAddr::from([192, 0, 2, 1])];
        answers.keep(question(1), &one, Duration::ZERO);
        assert!(answers.get(&question(1)).is_none());
        answers.keep(question(1), &one, AN_HOUR);
        assert_eq!(answers.get(&question(1)).as_deref(), Some(&one[..]));
        answers.keep(question(1), &[], AN_HOUR);
        assert_eq!(answers.get(&question(1)).as_deref(), Some(&[][..]));
    }
}
