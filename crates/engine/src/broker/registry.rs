//! The dummies of all sessions of one engine, those of ended sessions among them, and which of them a request
//! may contain (SPEC B11).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use codex_network_config::CredentialId;
use parking_lot::Mutex;

use super::dummy::Dummy;
use super::store::{RequestPlace, SessionCredentials};
use super::tripwire::Tripwire;

/// Most dummies of ended sessions that are still known; the oldest are forgotten first.
const MAX_VOID_DUMMIES: usize = 4096;

/// All dummies, and the search for them.
#[derive(Default)]
pub(crate) struct DummyRegistry {
    /// The oldest first.
    entries: Mutex<VecDeque<(Dummy, Arc<DummyOwner>)>>,
    tripwire: ArcSwap<Tripwire<Arc<DummyOwner>>>,
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
    /// Makes the dummies of a session known.
    pub(crate) fn register(
        &self,
        session: &Arc<str>,
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
            entries.push_back((credential.dummy().clone(), Arc::clone(&owner)));
            registered.push(owner);
        }
        let void = entries.iter().filter(|(_, owner)| owner.has_ended());
        let mut surplus = void.count().saturating_sub(MAX_VOID_DUMMIES);
        entries.retain(|(_, owner)| {
            let is_surplus = surplus > 0 && owner.has_ended();
            surplus -= usize::from(is_surplus);
            !is_surplus
        });
        // Under the lock, so that the newest set stays.
        self.tripwire.store(Arc::new(Tripwire::new(
            entries
                .iter()
                .map(|(dummy, owner)| (dummy.as_str().as_bytes(), Arc::clone(owner))),
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
        let _one = registry.register(&names[0], &one);
        let _other = registry.register(&names[1], &other);
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
        let registered = registry.register(&"s1".into(), &session);
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

    #[test]
    fn b11_the_oldest_void_dummies_are_forgotten() {
        let registry = DummyRegistry::default();
        let live = session();
        let _live = registry.register(&"live".into(), &live);
        let session = session();
        for number in 0..MAX_VOID_DUMMIES / 2 + 10 {
            let owner = DummyOwner {
                session: number.to_string().into(),
                credential: session.iter().next().expect("one").id().clone(),
                has_ended: AtomicBool::new(true),
            };
            let dummy = session.iter().next().expect("one").dummy().clone();
            let entry = (dummy, Arc::new(owner));
            let mut entries = registry.entries.lock();
            entries.push_back(entry.clone());
            entries.push_back(entry);
        }
        drop(registry.register(&"last".into(), &session));
        let entries = registry.entries.lock();
        assert_eq!(entries.len(), MAX_VOID_DUMMIES + 4);
        assert_eq!(&*entries[0].1.session, "live");
        assert_eq!(&*entries[2].1.session, "10");
    }
}
