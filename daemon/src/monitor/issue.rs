//! Issues leaves for the worker (SPEC M4): with the CA and for the hosts of the settings in force,
//! or of those that the worker is about to put in force; for this worker's one key; and at a
//! limited rate.

use std::time::{Duration, Instant, SystemTime};

use super::people::PeoplesHosts;
use crate::ca::{self, Ca, Leaf, Lifetime, NotIssued, PublicKey};
use crate::privsep::interceptable::{Interceptable, Permission};
use crate::privsep::message::NoLeaf;
use crate::privsep::settled::Authority;

/// Leaves in a burst, after a quiet time.
const BURST: u32 = 1000;
/// Leaves per second in the long run. A browser that opens a hundred hosts stays far below it.
const RATE: u32 = 200;

/// Holds the CA that ends with the process, and counts.
#[derive(Debug)]
pub(super) struct Issuing {
    ephemeral: Ca,
    /// The one before, while the worker uses it.
    before: Option<Ca>,
    bucket: Bucket,
    /// Whether a worker was ever allowed to intercept.
    begun: bool,
    /// The key of the running worker, once it has requested a leaf.
    key: Option<PublicKey>,
    /// Whether it was logged that this worker requested a host that it may not intercept.
    refusal_is_logged: bool,
    /// The hosts of requests that only people can have allowed. A worker that is replaced does not
    /// begin anew.
    peoples_hosts: PeoplesHosts,
}

/// A worker's request.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafRequest<'a> {
    /// The CA that the worker uses, by the SHA-256 of its certificate: in the middle of a reload
    /// there are two.
    pub(super) authority: &'a [u8; 32],
    pub(super) public_key: &'a PublicKey,
    pub(super) name: &'a str,
    /// The user of the client, by the word of the worker.
    pub(super) user: Option<u32>,
}

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LeafAnswer {
    Leaf(Leaf),
    Refused(NoLeaf),
    /// A sound worker never sends this request.
    Unsound(Unsound),
}

/// Why a request cannot come from a sound worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsound {
    #[error(transparent)]
    Request(#[from] NotIssued),
    /// A worker has one key for all leaves.
    #[error("the public key differs from the one before")]
    SecondKey,
}

/// The CA and the hosts of some settings: a worker may have certificates for these.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafScope<'a> {
    pub(super) authority: &'a Authority,
    pub(super) interceptable: &'a Interceptable,
}

impl Issuing {
    /// Makes the CA that is used if none is in files. The key never leaves this value.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            ephemeral: Ca::generate(Lifetime::Ephemeral, SystemTime::now())?,
            before: None,
            bucket: Bucket::new(Instant::now()),
            begun: false,
            key: None,
            refusal_is_logged: false,
            peoples_hosts: PeoplesHosts::default(),
        })
    }

    /// The certificate of the CA that ends with the process.
    pub(super) fn certificate(&self) -> &[u8] {
        self.ephemeral.certificate()
    }

    /// Makes another CA if this one is old at this time, or not valid. Returns its certificate. The
    /// old one still issues, until it is forgotten.
    pub(super) fn renew(&mut self, now: SystemTime) -> anyhow::Result<Option<&[u8]>> {
        if !self.ephemeral.is_due(now) {
            return Ok(None);
        }
        let new = Ca::generate(Lifetime::Ephemeral, now)?;
        self.before = Some(std::mem::replace(&mut self.ephemeral, new));
        Ok(Some(self.ephemeral.certificate()))
    }

    /// The worker no longer uses the CA before this one, so nothing does.
    pub(super) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Whether a worker ever got settings with which it may intercept.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Notes that settings with this CA are in force.
    pub(super) fn note(&mut self, authority: &Authority) {
        self.begun |= *authority != Authority::None;
    }

    /// Forgets the previous worker's requests: the next one has a key of its own.
    pub(super) fn forget_worker(&mut self) {
        self.key = None;
        self.refusal_is_logged = false;
    }

    /// Issues with the requested CA, if it is permitted and its settings allow the host.
    pub(super) fn answer<'a>(
        &mut self,
        asked: LeafRequest<'_>,
        allowed: impl IntoIterator<Item = LeafScope<'a>>,
        now: Instant,
    ) -> LeafAnswer {
        if !self.bucket.take(now) {
            return LeafAnswer::Refused(NoLeaf::Busy);
        }
        if let Err(unsound) = ca::judge_request(asked.name, asked.public_key) {
            return LeafAnswer::Unsound(unsound.into());
        }
        if self.key.get_or_insert(*asked.public_key) != asked.public_key {
            return LeafAnswer::Unsound(Unsound::SecondKey);
        }
        let before = self.before.as_ref();
        let is_before = |ca: &&Ca| ca.fingerprint() == asked.authority;
        let ephemeral = before.filter(is_before).unwrap_or(&self.ephemeral);
        let mut permission = Permission::None;
        let mut chosen = None;
        for LeafScope {
            authority,
            interceptable,
        } in allowed
        {
            let ca = match authority {
                Authority::None => continue,
                Authority::Ephemeral => ephemeral,
                Authority::Kept(ca) => &**ca,
            };
            if ca.fingerprint() == asked.authority {
                permission = permission.max(interceptable.permission(asked.name));
                chosen = Some(ca);
            }
        }
        let Some(ca) = chosen else {
            return LeafAnswer::Refused(NoLeaf::OtherCa);
        };
        match permission {
            Permission::Listed => {}
            Permission::LeftToPeople => {
                if !self.peoples_hosts.admit(asked.name, asked.user, now) {
                    return LeafAnswer::Refused(NoLeaf::TooManyHosts);
                }
            }
            Permission::None => {
                // During a reload a worker may ask for a host of the previous settings, so this is not
                // yet a reason to replace it.
                if !std::mem::replace(&mut self.refusal_is_logged, true) {
                    tracing::warn!(
                        host = asked.name,
                        "the worker requested a certificate of a host that the settings do not permit intercepting; \
                         refused; further ones are refused without logging"
                    );
                }
                return LeafAnswer::Refused(NoLeaf::NotListed);
            }
        }
        match ca.issue(asked.name, asked.public_key, SystemTime::now()) {
            Ok(leaf) => LeafAnswer::Leaf(leaf),
            Err(unsound @ (NotIssued::Name | NotIssued::PublicKey | NotIssued::Scope)) => {
                LeafAnswer::Unsound(unsound.into())
            }
            Err(NotIssued::NotValidNow) => LeafAnswer::Refused(NoLeaf::NotValidNow),
            Err(NotIssued::Signing) => LeafAnswer::Refused(NoLeaf::Failed),
        }
    }
}

/// A token bucket: full at first, refilled evenly.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            refilled: now,
        }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let every = Duration::from_secs(1) / RATE;
        let due = now.saturating_duration_since(self.refilled).as_nanos() / every.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX).min(BURST);
        if due == BURST {
            self.refilled = now;
        } else {
            // The fraction of a token that is left counts towards the next one.
            self.refilled += every * due;
        }
        self.tokens = (self.tokens + due).min(BURST);
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::privsep::interceptable::HostSet;

    fn public_key(scalar: u8) -> PublicKey {
        let mut key = [0; 65];
        let secret = p256::SecretKey::from_slice(&[scalar; 32]).expect("a scalar");
        key.copy_from_slice(secret.public_key().to_sec1_bytes().as_ref());
        key
    }

    fn asked<'a>(
        authority: &'a [u8; 32],
        public_key: &'a PublicKey,
        name: &'a str,
    ) -> LeafRequest<'a> {
        LeafRequest {
            authority,
            public_key,
            name,
            user: None,
        }
    }

    /// Settings with this CA that allow every host.
    fn everything(authority: &Authority) -> LeafScope<'_> {
        static EVERYTHING: Interceptable = Interceptable {
            listed: HostSet::Everything,
            denied_to_people: Vec::new(),
        };
        LeafScope {
            authority,
            interceptable: &EVERYTHING,
        }
    }

    #[test]
    fn m4_a_burst_is_issued_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let taken = |bucket: &mut Bucket, at: Instant| {
            std::iter::from_fn(|| bucket.take(at).then_some(())).count()
        };
        assert_eq!(taken(&mut bucket, start), BURST as usize);
        assert!(!bucket.take(start), "and none more");
        let later = start + Duration::from_secs(1);
        assert_eq!(taken(&mut bucket, later), RATE as usize);
        // Asking often does not lose the time in between.
        let mut issued = 0;
        for step in 1..=1000 {
            issued += usize::from(bucket.take(later + Duration::from_millis(step)));
        }
        assert_eq!(issued, RATE as usize);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(taken(&mut bucket, much_later), BURST as usize);
    }

    #[test]
    fn m4_over_the_rate_the_answer_is_busy_and_nothing_is_signed() {
        let mut issuing = Issuing::new().expect("a CA");
        let now = Instant::now();
        while issuing.bucket.take(now) {}
        let authority = *issuing.ephemeral.fingerprint();
        let answer = issuing.answer(
            asked(&authority, &public_key(7), "a.test"),
            [everything(&Authority::Ephemeral)],
            now,
        );
        assert_eq!(answer, LeafAnswer::Refused(NoLeaf::Busy));
    }

    #[test]
    fn m4_only_the_ca_of_the_settings_is_used_and_only_if_it_is_the_requested_one() {
        let mut issuing = Issuing::new().expect("a CA");
        let ephemeral = *issuing.ephemeral.fingerprint();
        let kept = Ca::generate(Lifetime::Kept, SystemTime::now()).expect("a CA");
        let kept_print = *kept.fingerprint();
        let kept = Authority::Kept(Arc::new(kept));
        let key = public_key(7);
        let now = Instant::now();
        for (settings, authority, issued) in [
            (&[Authority::Ephemeral][..], ephemeral, true),
            (&[Authority::Ephemeral], kept_print, false),
            (&[Authority::None], ephemeral, false),
            (&[], ephemeral, false),
            (std::slice::from_ref(&kept), kept_print, true),
            (std::slice::from_ref(&kept), ephemeral, false),
            // In the middle of a reload.
            (&[Authority::Ephemeral, kept.clone()], ephemeral, true),
            (&[Authority::Ephemeral, kept.clone()], kept_print, true),
        ] {
            let answer = issuing.answer(
                asked(&authority, &key, "a.test"),
                settings.iter().map(everything),
                now,
            );
            match answer {
                LeafAnswer::Leaf(_) => assert!(issued, "{settings:?}"),
                LeafAnswer::Refused(NoLeaf::OtherCa) => assert!(!issued, "{settings:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn m3_a_ca_in_memory_is_renewed_at_two_thirds_of_its_life_and_when_the_clock_leaves_it() {
        let day = Duration::from_secs(24 * 60 * 60);
        let start = SystemTime::now();
        for (now, is_renewed) in [
            (start, false),
            (start + 240 * day, false),
            (start + 245 * day, true),
            (start + 4000 * day, true),
            (start - day / 2, false),
            (start - 2 * day, true),
        ] {
            let mut issuing = Issuing::new().expect("a CA");
            let first = *issuing.ephemeral.fingerprint();
            let renewed = issuing.renew(now).expect("a CA").is_some();
            assert_eq!(renewed, is_renewed, "{now:?}");
            assert_eq!(*issuing.ephemeral.fingerprint() != first, is_renewed);
            assert!(issuing.renew(now).expect("a CA").is_none(), "once");
        }
    }

    #[test]
    fn m3_the_ca_before_issues_until_the_worker_has_the_new_one_and_then_no_more() {
        let mut issuing = Issuing::new().expect("a CA");
        let first = *issuing.ephemeral.fingerprint();
        let key = public_key(7);
        let in_a_year = SystemTime::now() + Duration::from_secs(250 * 24 * 60 * 60);
        issuing.renew(in_a_year).expect("a CA").expect("another CA");
        let answer = |issuing: &mut Issuing| {
            let asked = asked(&first, &key, "a.test");
            issuing.answer(asked, [everything(&Authority::Ephemeral)], Instant::now())
        };
        assert!(matches!(answer(&mut issuing), LeafAnswer::Leaf(_)));
        issuing.forget_before();
        assert_eq!(answer(&mut issuing), LeafAnswer::Refused(NoLeaf::OtherCa));
    }

    #[test]
    fn m4_requests_that_no_sound_worker_sends_are_recognised() {
        let mut issuing = Issuing::new().expect("a CA");
        let authority = *issuing.ephemeral.fingerprint();
        let key = public_key(7);
        let mut bent = key;
        bent[40] ^= 1;
        for (name, key, why) in [
            ("A.test", &key, NotIssued::Name),
            ("*.test", &key, NotIssued::Name),
            ("a.test,b.test", &key, NotIssued::Name),
            ("", &key, NotIssued::Name),
            ("127.1", &key, NotIssued::Name),
            ("fe80::1%eth0", &key, NotIssued::Scope),
            ("a.test", &bent, NotIssued::PublicKey),
            ("a.test", &[0; 65], NotIssued::PublicKey),
        ] {
            let answer = issuing.answer(
                asked(&authority, key, name),
                [everything(&Authority::Ephemeral)],
                Instant::now(),
            );
            assert_eq!(answer, LeafAnswer::Unsound(why.into()), "{name}");
        }
    }

    #[test]
    fn m4_a_worker_has_one_key_and_the_next_worker_another() {
        let mut issuing = Issuing::new().expect("a CA");
        let authority = *issuing.ephemeral.fingerprint();
        let [first, second] = [public_key(7), public_key(8)];
        let answer = |issuing: &mut Issuing, key| {
            let asked = asked(&authority, key, "a.test");
            issuing.answer(asked, [everything(&Authority::Ephemeral)], Instant::now())
        };
        for (key, is_the_same) in [(&first, true), (&second, false), (&first, true)] {
            let answer = answer(&mut issuing, key);
            match answer {
                LeafAnswer::Leaf(_) => assert!(is_the_same),
                other => {
                    assert!(!is_the_same, "{other:?}");
                    assert_eq!(other, LeafAnswer::Unsound(Unsound::SecondKey));
                }
            }
        }
        issuing.forget_worker();
        assert!(matches!(answer(&mut issuing, &second), LeafAnswer::Leaf(_)));
        let old = answer(&mut issuing, &first);
        assert_eq!(old, LeafAnswer::Unsound(Unsound::SecondKey));
    }

    fn only(host: &str) -> HostSet {
        HostSet::Listed {
            hosts: std::iter::once(host.to_owned()).collect(),
            domains: std::iter::empty().collect(),
        }
    }

    #[test]
    fn m4_hosts_that_people_may_allow_are_bounded_and_the_next_worker_gets_no_more() {
        let mut issuing = Issuing::new().expect("a CA");
        let authority = *issuing.ephemeral.fingerprint();
        let key = public_key(7);
        let hosts = Interceptable {
            listed: only("a.test"),
            denied_to_people: vec![only("evil.test")],
        };
        let start = Instant::now();
        let mut answer = |name: &str, second: u64| {
            let scope = LeafScope {
                authority: &Authority::Ephemeral,
                interceptable: &hosts,
            };
            // A worker that is replaced before each request.
            issuing.forget_worker();
            let now = start + Duration::from_secs(second);
            let request = LeafRequest {
                user: u32::try_from(second % 2).ok(),
                ..asked(&authority, &key, name)
            };
            issuing.answer(request, [scope], now)
        };
        let refused = LeafAnswer::Refused(NoLeaf::NotListed);
        assert_eq!(answer("evil.test", 0), refused);
        for number in 0..1024 {
            let leaf = answer(&format!("n{number}.test"), number);
            assert!(matches!(leaf, LeafAnswer::Leaf(_)), "{number}: {leaf:?}");
        }
        let too_many = LeafAnswer::Refused(NoLeaf::TooManyHosts);
        assert_eq!(answer("more.test", 1024), too_many);
        assert!(matches!(answer("a.test", 1025), LeafAnswer::Leaf(_)));
    }

    #[test]
    fn m4_a_host_is_refused_that_no_settings_with_this_ca_let_anyone_intercept() {
        let mut issuing = Issuing::new().expect("a CA");
        let ephemeral = *issuing.ephemeral.fingerprint();
        let kept = Ca::generate(Lifetime::Kept, SystemTime::now()).expect("a CA");
        let kept_print = *kept.fingerprint();
        let kept = Authority::Kept(Arc::new(kept));
        let key = public_key(7);
        let only = |host: &str| Interceptable {
            listed: only(host),
            denied_to_people: Vec::new(),
        };
        let (a, b) = (only("a.test"), only("b.test"));
        let scope = |authority, interceptable| LeafScope {
            authority,
            interceptable,
        };
        let in_force = scope(&Authority::Ephemeral, &a);
        let next = scope(&kept, &b);
        for (settings, authority, name, issued) in [
            (&[in_force][..], ephemeral, "a.test", true),
            (&[in_force], ephemeral, "b.test", false),
            (&[in_force], ephemeral, "x.a.test", false),
            // In the middle of a reload, each with its own hosts.
            (&[in_force, next], kept_print, "b.test", true),
            (&[in_force, next], kept_print, "a.test", false),
            (&[in_force, next], ephemeral, "b.test", false),
            // The same CA: what either allows.
            (
                &[in_force, scope(&Authority::Ephemeral, &b)],
                ephemeral,
                "b.test",
                true,
            ),
        ] {
            let asked = asked(&authority, &key, name);
            match issuing.answer(asked, settings.iter().copied(), Instant::now()) {
                LeafAnswer::Leaf(_) => assert!(issued, "{name}"),
                LeafAnswer::Refused(NoLeaf::NotListed) => assert!(!issued, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
