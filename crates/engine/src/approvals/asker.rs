//! The client on whose behalf a question is asked.

use std::sync::Arc;

use crate::session::{Session, SessionNumber};

/// The session, or else the user, that answers are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AskerId {
    Session(SessionNumber),
    User(u32),
}

/// The same, with the facts that lists show.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(super) id: AskerId,
    pub(super) uid: u32,
    pub(super) user: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
    pub(super) command: Option<Arc<str>>,
}

impl Asker {
    pub(super) fn of_session(session: &Arc<Session>) -> Self {
        let info = session.info();
        Self {
            id: AskerId::Session(session.number()),
            uid: info.uid,
            user: info.user.clone(),
            session: Some(Arc::clone(&info.id)),
            command: Some(Arc::clone(&info.command)),
        }
    }

    pub(super) fn of_user(uid: u32) -> Self {
        Self {
            id: AskerId::User(uid),
            uid,
            user: None,
            session: None,
            command: None,
        }
    }

    /// The id of the session.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}
