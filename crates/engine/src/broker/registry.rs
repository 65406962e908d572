//! The dummies of all sessions of one engine, those of ended sessions among them, and which of them a request
//! may contain (SPEC B11).
//!
//! The number of live dummies follows from the bounds on sessions. Those of ended sessions are forgotten when
//! there are too many, so that a user with many of them displaces only their own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use codex_network_config::CredentialId;
use parking_lot::Mutex;

use super::dummy::Dummy;
use super::store::{RequestPlace, SessionCredentials};
use super::tripwire::Tripwire;

/// Most dummies of ended sessions that are still known; each user's oldest are forgotten first.
const MAX_VOID_DUMMIES: usize = 4096;
/// Most bytes of the strings that are looked for because of them.
const MAX_VOID_BYTES: usize = 1 << 20;
/// The bytes of these strings for each byte of the searched part of a dummy: it, and base64 at three places.
const STRINGS_PER_DUMMY: usize = 5;

/// All dummies, and the search for them.
#[derive(Default)]
pub(crate) struct DummyRegistry {
    /// The oldest first.
    entries: Mutex<VecDeque<Entry>>,
    tripwire: ArcSwap<Tripwire<Arc<DummyOwner>>>,
}

/// A dummy, of a session of this user.
struct Entry {
    dummy: Dummy,
    user: u32,
    owner: Arc<DummyOwner>,
}

/// Dummies and the bytes of their strings, of one user or of all.
#[derive(Clone, Copy, Default)]
struct Amount {
    dummies: usize,
    bytes: usize,
}

/// The session and the credential that a dummy stands for.
#[derive(Debug)]
pub(crate) struct DummyOwner {
    /// The session's name in records.
    pub(crate) session: Arc<str>,
    pub(crate) credential: CredentialId,
    has_ended: AtomicBool,
}

/// The dummies of a session. They become void when it is dropped.
#[must_use]
pub(crate) struct RegisteredDummies(Vec<Arc<DummyOwner>>);

/// The part of a request in which a dummy was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestPart {
    /// A header or trailer field that presents no credential any more.
    Field,
    /// The request-target.
    Target,
    /// The content.
    Content,
}

/// The session that makes a request, and where the request goes.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// The session's name; `None` for a client of no session.
    pub(crate) session: Option<&'a str>,
    /// Its credentials.
    pub(crate) credentials: Option<&'a SessionCredentials>,
    pub(crate) place: RequestPlace<'a>,
}

impl DummyRegistry {
    /// Makes the dummies of a session of this user known.
    pub(crate) fn register(
        &self,
        session: &Arc<str>,
        user: u32,
        credentials: &SessionCredentials,
    ) -> RegisteredDummies {
        let mut registered = Vec::new();
        let mut entries = self.entries.lock();
        for credential in credentials.iter() {
            let owner = Arc::new(DummyOwner {
                session: Arc::clone(session),
                credential: credential.id().clone(),
                has_ended: AtomicBool::new(false),
            });
            entries.push_back(Entry {
                dummy: credential.dummy().clone(),
                user,
                owner: Arc::clone(&owner),
            });
            registered.push(owner);
        }
        forget_oldest(&mut entries);
        // Under the lock, so that the newest set stays.
        self.tripwire.store(Arc::new(Tripwire::new(
            entries
                .iter()
                .map(|entry| (entry.dummy.searched(), Arc::clone(&entry.owner))),
        )));
        RegisteredDummies(registered)
    }

    /// Whether there is no dummy to find.
    pub(crate) fn is_empty(&self) -> bool {
        self.tripwire.load().is_empty()
    }

    /// Finds dummies.
    pub(crate) fn tripwire(&self) -> Arc<Tripwire<Arc<DummyOwner>>> {
        self.tripwire.load_full()
    }
}

/// Forgets the oldest dummies of ended sessions, of the users who have the most.
fn forget_oldest(entries: &mut VecDeque<Entry>) {
    let mut of_users: HashMap<u32, Amount> = HashMap::new();
    let void = |entry: &&Entry| entry.owner.has_ended();
    for entry in entries.iter().filter(void) {
        of_users.entry(entry.user).or_default().add(entry);
    }
    let dummies = share(MAX_VOID_DUMMIES, of_users.values().map(|all| all.dummies));
    let bytes = share(MAX_VOID_BYTES, of_users.values().map(|all| all.bytes));
    entries.retain(|entry| {
        let Some(all) = of_users
            .get_mut(&entry.user)
            .filter(|_| entry.owner.has_ended())
        else {
            return true;
        };
        let is_surplus = all.dummies > dummies || all.bytes > bytes;
        if is_surplus {
            all.remove(entry);
        }
        !is_surplus
    });
}

/// The most that each one may have, so that all together have at most the limit.
fn share(limit: usize, amounts: impl Iterator<Item = usize>) -> usize {
    let mut amounts: Vec<usize> = amounts.collect();
    amounts.sort_unstable();
    let mut left = limit;
    for (done, amount) in amounts.iter().enumerate() {
        let share = left / (amounts.len() - done);
        if *amount > share {
            return share;
        }
        left -= amount;
    }
    limit
}

impl Amount {
    fn add(&mut self, entry: &Entry) {
        self.dummies += 1;
        self.bytes += entry.bytes();
    }

    fn remove(&mut self, entry: &Entry) {
        self.dummies -= 1;
        self.bytes -= entry.bytes();
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        STRINGS_PER_DUMMY * self.dummy.searched().len()
    }
}

impl DummyOwner {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Whether a request that contains the dummy in this part is refused: everywhere but in a field or the
    /// content of a request of the dummy's own session to a place that its credential is bound to. There it is
    /// of no use to anybody, and an agent may send its whole environment.
    pub(crate) fn refuses(&self, sender: &Sender<'_>, part: RequestPart) -> bool {
        let is_own = sender.session == Some(&*self.session) && !self.has_ended();
        let is_bound = sender
            .credentials
            .is_some_and(|all| all.is_bound(&self.credential, &sender.place));
        !(is_own && is_bound && part != RequestPart::Target)
    }
}

impl Drop for RegisteredDummies {
    fn drop(&mut self) {
        for owner in &self.0 {
            owner.has_ended.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{dummy, host, place, session};
    use super::*;

    /// The session and the credential of the dummy that a text is refused for.
    fn refused(
        registry: &DummyRegistry,
        sender: &Sender<'_>,
        part: RequestPart,
        text: &str,
    ) -> Option<(String, String)> {
        let tripwire = registry.tripwire();
        let owner = tripwire.find(text.as_bytes(), |owner| owner.refuses(sender, part))?;
        Some((owner.session.to_string(), owner.credential.to_string()))
    }

    #[test]
    fn b11_a_dummy_is_refused_outside_of_the_fields_and_content_of_a_bound_request_of_its_session()
    {
        let registry = DummyRegistry::default();
        let (one, other) = (session(), session());
        let names: [Arc<str>; 2] = ["s1".into(), "s2".into()];
        let _one = registry.register(&names[0], 1, &one);
        let _other = registry.register(&names[1], 2, &other);
        let github = host("github.com");
        let openai = host("api.openai.com");
        let by_one = |host| Sender {
            session: Some("s1"),
            credentials: Some(&one),
            place: place(host, "/"),
        };
        let stranger = |host| Sender {
            session: None,
            credentials: None,
            place: place(host, "/"),
        };
        let trace = Sender {
            place: RequestPlace {
                method: "TRACE",
                ..place(&github, "/")
            },
            ..by_one(&github)
        };
        let own = dummy(&one, "github");
        let foreign = dummy(&other, "github");
        for (sender, part, text, expected) in [
            (by_one(&github), RequestPart::Field, own, None),
            (by_one(&github), RequestPart::Target, own, Some("s1")),
            (by_one(&github), RequestPart::Content, own, None),
            (by_one(&openai), RequestPart::Content, own, Some("s1")),
            (by_one(&github), RequestPart::Content, foreign, Some("s2")),
            (by_one(&openai), RequestPart::Field, own, Some("s1")),
            (trace, RequestPart::Field, own, Some("s1")),
            (by_one(&github), RequestPart::Field, foreign, Some("s2")),
            (stranger(&github), RequestPart::Field, own, Some("s1")),
            (stranger(&github), RequestPart::Field, "Bearer other", None),
        ] {
            let expected = expected.map(|name| (name.to_owned(), "github".to_owned()));
            let text = format!("Bearer {text}");
            assert_eq!(
                refused(&registry, &sender, part, &text),
                expected,
                "{part:?}"
            );
        }
        let both = format!("{own} {foreign}");
        let found = refused(&registry, &by_one(&github), RequestPart::Field, &both);
        assert_eq!(found, Some(("s2".to_owned(), "github".to_owned())));
    }

    #[test]
    fn b11_a_dummy_of_a_dead_session_is_refused_and_named() {
        let registry = DummyRegistry::default();
        let session = session();
        let registered = registry.register(&"s1".into(), 1, &session);
        let github = host("github.com");
        let sender = Sender {
            session: Some("s1"),
            credentials: Some(&session),
            place: place(&github, "/"),
        };
        let text = dummy(&session, "github");
        assert_eq!(refused(&registry, &sender, RequestPart::Field, text), None);
        drop(registered);
        let found = refused(&registry, &sender, RequestPart::Field, text);
        assert_eq!(found, Some(("s1".to_owned(), "github".to_owned())));
    }

    /// A registry with these numbers of dummies of ended sessions, of the users 0, 1 and so on.
    fn with_void(numbers: &[usize]) -> DummyRegistry {
        let registry = DummyRegistry::default();
        let session = session();
        let credential = session.iter().next().expect("one");
        let mut entries = registry.entries.lock();
        for (user, number) in (0..).zip(numbers) {
            entries.extend((0..*number).map(|number| Entry {
                dummy: credential.dummy().clone(),
                user,
                owner: Arc::new(DummyOwner {
                    session: number.to_string().into(),
                    credential: credential.id().clone(),
                    has_ended: AtomicBool::new(true),
                }),
            }));
        }
        drop(entries);
        registry
    }

    /// The oldest session, and the number of dummies, of a user.
    fn kept(registry: &DummyRegistry, user: u32) -> (String, usize) {
        let entries = registry.entries.lock();
        let mut of_user = entries.iter().filter(|entry| entry.user == user);
        let first = of_user.next().expect("a dummy").owner.session.to_string();
        (first, 1 + of_user.count())
    }

    #[test]
    fn b11_the_oldest_void_dummies_are_forgotten_of_the_users_who_have_the_most() {
        let registry = with_void(&[10, MAX_VOID_DUMMIES, MAX_VOID_DUMMIES + 7]);
        let live = session();
        let _live = registry.register(&"live".into(), 2, &live);
        let half = (MAX_VOID_DUMMIES - 10) / 2;
        assert_eq!(kept(&registry, 0), ("0".to_owned(), 10));
        let oldest = (MAX_VOID_DUMMIES - half).to_string();
        assert_eq!(kept(&registry, 1), (oldest, half));
        let oldest = (MAX_VOID_DUMMIES + 7 - half).to_string();
        assert_eq!(kept(&registry, 2), (oldest, half + 2), "and two live ones");
    }

    #[test]
    fn b11_void_dummies_have_a_bounded_number_of_bytes() {
        let registry = with_void(&[MAX_VOID_DUMMIES]);
        let mut entries = registry.entries.lock();
        let letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let marks = "/+=:;,!?~*";
        let apart = letters.chars().zip(marks.chars().cycle());
        let value: String = apart
            .flat_map(|(letter, mark)| [letter, mark, mark, '/'])
            .collect();
        for entry in entries.iter_mut() {
            entry.dummy = Dummy::for_value(value.as_bytes(), &[]).expect("a dummy");
        }
        drop(entries);
        drop(registry.register(&"last".into(), 1, &session()));
        let entries = registry.entries.lock();
        let void = entries.iter().filter(|entry| entry.user == 0);
        let bytes: usize = void.map(Entry::bytes).sum();
        assert!(bytes <= MAX_VOID_BYTES, "{bytes}");
        assert!(bytes > MAX_VOID_BYTES * 9 / 10, "{bytes}");
    }

    #[test]
    fn b11_each_user_has_a_fair_share() {
        for (amounts, expected) in [
            (&[][..], 100),
            (&[100], 100),
            (&[101], 100),
            (&[10, 20, 70], 100),
            (&[10, 80, 90], 45),
            (&[200, 1, 200], 49),
            (&[200, 200, 200], 33),
        ] {
            assert_eq!(share(100, amounts.iter().copied()), expected, "{amounts:?}");
        }
    }
}
