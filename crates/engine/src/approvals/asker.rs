//! The client on whose behalf a question is asked.

use std::sync::Arc;

use crate::session::{Session, SessionNumber};

/// The session, or else the user, that answers are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AskerId {
    Session(SessionNumber),
    /// The clients of a user that have no session.
    User(u32),
    /// All sessions of a user. Only a grant without a question is for these.
    SessionsOf(u32),
    /// Every client. Only a grant without a question is for these.
    Everyone,
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
    pub(crate) fn of_session(session: &Arc<Session>) -> Self {
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

    /// The clients of an embedder of this user, which runs this command.
    pub(crate) fn of_embedder(uid: u32, command: Option<&str>) -> Self {
        Self {
            command: command.map(Arc::from),
            ..Self::of_user(uid)
        }
    }

    /// All sessions of a user.
    pub(crate) fn of_sessions(uid: u32) -> Self {
        Self {
            id: AskerId::SessionsOf(uid),
            ..Self::of_user(uid)
        }
    }

    /// Every client, for a grant that this user gives.
    pub(crate) fn of_everyone(by: u32) -> Self {
        Self {
            id: AskerId::Everyone,
            ..Self::of_user(by)
        }
    }

    /// Whether what is bound to this one counts for a client.
    pub(super) fn includes(&self, client: &Self) -> bool {
        match self.id {
            AskerId::Everyone => true,
            AskerId::SessionsOf(uid) => client.session.is_some() && client.uid == uid,
            id => id == client.id,
        }
    }

    /// The id of the session.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}
