//! Leaf certificates: one per host, issued once for any number of concurrent requests (SPEC M4).
//!
//! All leaves share one key pair, which is made with the engine and never leaves this process. The
//! cache is bounded: beyond [`MAX_LEAVES`] hosts, the least recently requested one is forgotten with its
//! session ticket keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use codex_network_policy::Host;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use tokio::sync::OnceCell;

use super::issuer::{IssueError, LeafIssuer};
use super::leaf_budget::LeafBudget;
use crate::clock::Clock;
use crate::cryptography;
use crate::measurements::LeafCounters;
use crate::owner::ConnectionHandle;

/// Most hosts in the cache.
const MAX_LEAVES: usize = 1024;
/// A leaf that expires sooner than this is issued anew, so that no client sees it expire.
const RENEW_BEFORE: Duration = Duration::from_secs(3600);

/// The protocol of the origin, which is offered to a client in ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferedAlpn {
    /// No protocol, since the client did not negotiate.
    None = 0,
    /// `http/1.1`.
    Http1 = 1,
    /// `h2`.
    Http2 = 2,
}

/// An issuer, the key of all leaves, and the clock for their validity. An issuer sees the same public
/// key for the life of the engine, even when the CA changes.
#[derive(Clone)]
pub(crate) struct LeafSource {
    issuer: Arc<dyn LeafIssuer>,
    key: Arc<dyn SigningKey>,
    public_key: [u8; 65],
    clock: Arc<dyn Clock>,
    counters: Arc<LeafCounters>,
}

/// The leaves.
pub(crate) struct LeafCache {
    source: LeafSource,
    provider: Arc<CryptoProvider>,
    leaves: Mutex<HashMap<Host, Arc<LeafSlot>>>,
    /// Numbers the requests, to find the leaf that was requested least recently.
    requests: AtomicU64,
}

/// The entry of a host. The first request fills it while the others wait.
#[derive(Default)]
struct LeafSlot {
    leaf: OnceCell<Arc<Leaf>>,
    last_request: AtomicU64,
}

/// A certificate, and the server configurations made from it.
pub(crate) struct Leaf {
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// Makes the tickets of all configurations. Its keys change every six hours. A ticket resumes only a
    /// session for this host, and only while this leaf is in use.
    ticketer: Arc<dyn ProducesTickets>,
    /// One for each [`OfferedAlpn`], made when it is first needed.
    configs: [OnceLock<Arc<ServerConfig>>; 3],
}

/// Why there is no leaf.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LeafError {
    /// The issuer did not issue it.
    #[error("{0}")]
    Issue(#[from] IssueError),
    /// The issued certificate cannot be used.
    #[error("the issued certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// No key pair can be made, since the system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key can be made for intercepted connections")]
pub struct KeyError;

impl LeafSource {
    /// Makes the key.
    ///
    /// # Errors
    ///
    /// Returns an error if the system has no randomness.
    pub(crate) fn new(
        issuer: Arc<dyn LeafIssuer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| KeyError)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
                .map_err(|_| KeyError)?;
        let public_key = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| KeyError)?;
        let key = cryptography::provider()
            .key_provider
            .load_private_key(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()).into())
            .map_err(|_| KeyError)?;
        Ok(Self {
            issuer,
            key,
            public_key,
            clock,
            counters: Arc::default(),
        })
    }

    /// How often clients got leaves.
    pub(crate) fn counters(&self) -> &LeafCounters {
        &self.counters
    }
}

impl LeafCache {
    pub(crate) fn new(source: LeafSource, provider: Arc<CryptoProvider>) -> Self {
        Self {
            source,
            provider,
            leaves: Mutex::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// The leaf of a host. It is issued now if the cache has none and the client's budget has room.
    /// Concurrent calls for one host issue one certificate. If the call that issues it is cancelled,
    /// another call takes over.
    pub(crate) async fn leaf(
        &self,
        host: &Host,
        client: &ConnectionHandle,
        budget: &LeafBudget,
    ) -> Result<Arc<Leaf>, LeafError> {
        let slot = self.slot(host);
        let counters = self.source.counters();
        if let Some(leaf) = slot.leaf.get() {
            LeafCounters::note(&counters.cached);
            return Ok(Arc::clone(leaf));
        }
        let issued = async {
            // Taken before the leaf's slot, so that other clients do not wait for this client's budget.
            let _issue_slot = budget.acquire(client).await?;
            let issue = || self.issue(host, client.user());
            slot.leaf.get_or_try_init(issue).await
        };
        let issued = issued.await;
        LeafCounters::note(match issued {
            Ok(_) => &counters.issued,
            Err(_) => &counters.failed,
        });
        if let Err(LeafError::Issue(IssueError::TooManyHosts)) = issued {
            counters.note_too_many_hosts(self.source.clock.now().unix_timestamp());
        }
        issued.map(Arc::clone)
    }

    fn slot(&self, host: &Host) -> Arc<LeafSlot> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::from(self.source.clock.now());
        let mut leaves = self.leaves.lock();
        let known = leaves.get(host).filter(|slot| slot.is_usable(now));
        let slot = if let Some(slot) = known {
            Arc::clone(slot)
        } else {
            if leaves.len() >= MAX_LEAVES && !leaves.contains_key(host) {
                let oldest = leaves
                    .iter()
                    .min_by_key(|(_, slot)| slot.last_request.load(Ordering::Relaxed))
                    .map(|(host, _)| host.clone());
                oldest.map(|host| leaves.remove(&host));
            }
            let slot = Arc::<LeafSlot>::default();
            leaves.insert(host.clone(), Arc::clone(&slot));
            slot
        };
        slot.last_request.store(requests, Ordering::Relaxed);
        slot
    }

    async fn issue(&self, host: &Host, user: Option<u32>) -> Result<Arc<Leaf>, LeafError> {
        let LeafSource {
            issuer,
            key,
            public_key,
            clock: _,
            counters: _,
        } = &self.source;
        let issued = issuer.issue_for(host, public_key, user).await?;
        let certified = CertifiedKey::new(issued.chain, Arc::clone(key));
        certified.keys_match()?;
        Ok(Arc::new(Leaf {
            certified: Arc::new(certified),
            provider: Arc::clone(&self.provider),
            not_before: issued.not_before,
            not_after: issued.not_after,
            ticketer: Ticketer::new()?,
            configs: Default::default(),
        }))
    }
}

impl LeafSlot {
    /// Whether a client may get the leaf, if there is one. After the clock was set, the leaf may be
    /// invalid.
    fn is_usable(&self, now: SystemTime) -> bool {
        self.leaf.get().is_none_or(|leaf| {
            let ends_soon = leaf.not_after < now + RENEW_BEFORE;
            leaf.not_before <= now && !ends_soon
        })
    }
}

impl Leaf {
    /// The server's side of a handshake that offers this protocol.
    pub(crate) fn server(&self, alpn: OfferedAlpn) -> Result<Arc<ServerConfig>, LeafError> {
        let made = &self.configs[alpn as usize];
        if let Some(config) = made.get() {
            return Ok(Arc::clone(config));
        }
        let key = SingleCertAndKey::from(Arc::clone(&self.certified));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(key));
        config.alpn_protocols = match alpn {
            OfferedAlpn::None => Vec::new(),
            OfferedAlpn::Http1 => vec![b"http/1.1".to_vec()],
            OfferedAlpn::Http2 => vec![b"h2".to_vec()],
        };
        // The suite that costs least among those that the client offers.
        config.ignore_client_order = true;
        // Sessions resume by tickets, which the client keeps. The server stores nothing.
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::clone(made.get_or_init(|| Arc::new(config))))
    }
}

impl fmt::Debug for LeafSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafSource")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaves = self.leaves.lock();
        f.debug_struct("LeafCache")
            .field("source", &self.source)
            .field("leaves", &leaves.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::{BoxFuture, join_all};
    use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};

    use super::super::issuer::IssuedLeaf;
    use super::*;
    use crate::budget::Rate;
    use crate::owner::Owners;

    /// Issues one certificate for all hosts, which no client would accept. The test only counts how
    /// often it is called.
    #[derive(Debug)]
    struct Counting {
        requests: AtomicUsize,
        lasts: Duration,
        clock: Arc<Settable>,
    }

    /// A clock that a test sets.
    #[derive(Debug)]
    struct Settable(Mutex<SystemTime>);

    impl Settable {
        fn set(&self, now: SystemTime) {
            *self.0.lock() = now;
        }

        fn get(&self) -> SystemTime {
            *self.0.lock()
        }
    }

    impl Clock for Settable {
        fn now(&self) -> time::OffsetDateTime {
            self.get().into()
        }
    }

    struct Point([u8; 65]);

    impl PublicKeyData for Point {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &PKCS_ECDSA_P256_SHA256
        }
    }

    impl LeafIssuer for Counting {
        fn issue<'a>(
            &'a self,
            _host: &'a Host,
            public_key: &'a [u8; 65],
        ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
            Box::pin(async move {
                self.requests.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                let key = rcgen::KeyPair::generate().expect("a key");
                let issuer = rcgen::Issuer::new(CertificateParams::default(), key);
                let leaf = CertificateParams::default()
                    .signed_by(&Point(*public_key), &issuer)
                    .expect("a leaf");
                Ok(IssuedLeaf {
                    chain: vec![leaf.der().clone()],
                    not_before: self.clock.get() - DAY,
                    not_after: self.clock.get() + self.lasts,
                })
            })
        }
    }

    fn cache(lasts: Duration) -> (Arc<Counting>, LeafCache) {
        let clock = Arc::new(Settable(Mutex::new(SystemTime::now())));
        let issuer = Arc::new(Counting {
            requests: AtomicUsize::new(0),
            lasts,
            clock: Arc::clone(&clock),
        });
        let provider = cryptography::provider();
        let source = LeafSource::new(Arc::<Counting>::clone(&issuer), clock).expect("a key");
        let cache = LeafCache::new(source, provider);
        (issuer, cache)
    }

    fn client(number: u16) -> ConnectionHandle {
        let local = ([127, 0, 0, 1], 3128).into();
        ConnectionHandle::new(([192, 0, 2, 1], number).into(), local)
    }

    /// A budget that no test uses up.
    fn plenty() -> LeafBudget {
        let rate = Rate {
            burst: 100_000,
            per_second: 1000,
        };
        LeafBudget::with_rate(Arc::new(Owners::new(None)), rate)
    }

    fn host(number: usize) -> Host {
        Host::parse(&format!("h{number}.test")).expect("a host")
    }

    const DAY: Duration = Duration::from_secs(86_400);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    #[tokio::test]
    async fn m4_ten_thousand_names_leave_a_bounded_cache() {
        let (issuer, cache) = cache(WEEK);
        let (client, budget) = (client(1), plenty());
        for number in 0..10_000 {
            let leaf = cache.leaf(&host(number), &client, &budget).await;
            leaf.expect("a leaf");
            // A leaf that is requested again and again stays.
            let leaf = cache.leaf(&host(0), &client, &budget).await;
            leaf.expect("a leaf");
        }
        assert_eq!(cache.leaves.lock().len(), MAX_LEAVES);
        assert_eq!(issuer.requests.load(Ordering::Relaxed), 10_000);
    }

    #[tokio::test]
    async fn m4_concurrent_requests_wait_for_the_same_leaf() {
        let (issuer, cache) = cache(WEEK);
        let name = host(0);
        let (client, budget) = (client(1), plenty());
        let leaves = join_all((0..64).map(|_| cache.leaf(&name, &client, &budget))).await;
        let first = leaves[0].as_ref().expect("a leaf");
        assert!(
            leaves
                .iter()
                .all(|leaf| leaf.as_ref().is_ok_and(|leaf| Arc::ptr_eq(leaf, first)))
        );
        assert_eq!(issuer.requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn m4_a_leaf_that_ends_soon_is_issued_anew() {
        let (issuer, cache) = cache(RENEW_BEFORE / 2);
        let (client, budget) = (client(1), plenty());
        for _ in 0..3 {
            let leaf = cache.leaf(&host(0), &client, &budget).await;
            leaf.expect("a leaf");
        }
        assert_eq!(issuer.requests.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn m4_a_leaf_that_is_not_valid_after_the_clock_was_set_is_issued_anew() {
        let (issuer, cache) = cache(WEEK);
        let (client, budget) = (client(1), plenty());
        let start = issuer.clock.get();
        for (now, issued) in [
            (start, 1),
            // Within the validity.
            (start - DAY / 2, 1),
            (start + DAY, 1),
            // Before and behind it.
            (start - 2 * DAY, 2),
            (start - 2 * DAY, 2),
            (start + 30 * DAY, 3),
            (start, 4),
        ] {
            issuer.clock.set(now);
            let leaf = cache.leaf(&host(0), &client, &budget).await;
            leaf.expect("a leaf");
            assert_eq!(issuer.requests.load(Ordering::Relaxed), issued, "{now:?}");
        }
    }

    #[tokio::test]
    async fn m4_a_client_that_requests_thousands_of_names_uses_up_only_its_own_budget() {
        let (issuer, cache) = cache(WEEK);
        let budget = LeafBudget::new(Arc::new(Owners::new(None)));
        let greedy = client(1);
        let mut count = 0;
        for number in 0..5000 {
            match cache.leaf(&host(number), &greedy, &budget).await {
                Ok(_) => count += 1,
                Err(LeafError::Issue(IssueError::Busy)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(count < 1000, "{count}");
        // A cached leaf is not requested again.
        cache
            .leaf(&host(0), &greedy, &budget)
            .await
            .expect("a leaf");
        let other = ConnectionHandle::new(([192, 0, 2, 2], 1).into(), ([127, 0, 0, 1], 1).into());
        let before = issuer.requests.load(Ordering::Relaxed);
        for number in 5000..5100 {
            cache
                .leaf(&host(number), &other, &budget)
                .await
                .expect("a leaf");
        }
        assert_eq!(issuer.requests.load(Ordering::Relaxed), before + 100);
    }

    /// An issuer that waits for permission to answer.
    #[derive(Debug, Default)]
    struct Stuck {
        requests: AtomicUsize,
    }

    impl LeafIssuer for Stuck {
        fn issue<'a>(
            &'a self,
            _host: &'a Host,
            _public_key: &'a [u8; 65],
        ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn m4_a_client_does_not_wait_for_another_clients_budget() {
        use futures_util::FutureExt as _;

        let issuer = Arc::new(Stuck::default());
        let provider = cryptography::provider();
        let clock = Arc::new(crate::clock::SystemClock);
        let source = LeafSource::new(Arc::<Stuck>::clone(&issuer), clock).expect("a key");
        let cache = LeafCache::new(source, provider);
        let budget = LeafBudget::new(Arc::new(Owners::new(None)));
        let names: Vec<_> = (0..200).map(host).collect();
        let greedy = client(1);
        let asking = join_all(names.iter().map(|name| cache.leaf(name, &greedy, &budget)));
        tokio::pin!(asking);
        assert!(asking.as_mut().now_or_never().is_none());
        let requests = issuer.requests.load(Ordering::Relaxed);
        assert!(requests < 64, "{requests} are under way");
        // Another client requests a name that the first one waits for.
        let other = ConnectionHandle::new(([192, 0, 2, 2], 1).into(), ([127, 0, 0, 1], 1).into());
        assert!(
            cache
                .leaf(&names[199], &other, &budget)
                .now_or_never()
                .is_none()
        );
        assert_eq!(issuer.requests.load(Ordering::Relaxed), requests + 1);
    }
}
