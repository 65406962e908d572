//! A permission that a person gave. It is checked again for as long as connections use it (SPEC P11, Q3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codex_network_policy::{Authority, Host};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::asker::{Asker, AskerId};
use super::moment::{Moment, later, shown};
use super::question::{GrantHolder, GrantInfo, GrantScope};
use crate::owner::{ConnectionHandle, WeakConnection};

/// A permission to reach a host.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(super) id: Arc<str>,
    pub(super) asker: Asker,
    /// The destination of the question.
    pub(super) authority: Authority,
    pub(super) any_port: bool,
    pub(super) scope: GrantScope,
    pub(super) by: Arc<str>,
    pub(super) since: i64,
    /// For lists.
    pub(super) until_wall: Option<i64>,
    /// When it ends. A grant for one connection must be used before.
    pub(super) until: Option<Instant>,
    pub(super) rule: Arc<str>,
    pub(super) ended: CancellationToken,
    pub(super) uses: AtomicU64,
    /// The connection that uses a grant for one connection.
    pub(super) used_by: Mutex<Option<WeakConnection>>,
}

/// The destination, scope and clients of a grant.
pub(super) struct GrantTerms {
    pub(super) id: Arc<str>,
    pub(super) asker: Asker,
    pub(super) authority: Authority,
    pub(super) any_port: bool,
    pub(super) scope: GrantScope,
}

impl Grant {
    /// A grant that lasts for a time, else until its session ends.
    pub(super) fn new(
        terms: GrantTerms,
        now: Moment,
        time: Option<Duration>,
        by: &Arc<str>,
    ) -> Self {
        let GrantTerms {
            id,
            asker,
            authority,
            any_port,
            scope,
        } = terms;
        let until_wall = time.map(|time| later(now.wall, time));
        let lasts = match (scope, until_wall) {
            (GrantScope::Once, _) => "for one connection".to_owned(),
            (_, Some(until)) => format!("until {}", shown(until)),
            (_, None) => "until the session ends".to_owned(),
        };
        Self {
            rule: format!("grant {id} by {by} {lasts}").into(),
            id,
            any_port,
            scope,
            by: Arc::clone(by),
            since: now.wall,
            until_wall,
            until: time.map(|time| now.at + time),
            ended: CancellationToken::new(),
            uses: AtomicU64::new(0),
            used_by: Mutex::new(None),
            asker,
            authority,
        }
    }

    /// Whether it permits anything now.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        !self.ended.is_cancelled() && (!is_over || self.is_claimed())
    }

    /// Resolves when it ends.
    pub(crate) async fn ended(&self) {
        let time = async {
            match self.until {
                Some(until) if self.scope != GrantScope::Once => sleep_until(until).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = time => {}
        }
    }

    /// The text for records: the id, who gave it, and until when.
    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Counts an attempt that it permitted.
    pub(crate) fn count(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it covers this destination of this asker.
    pub(super) fn covers(&self, asker: &Asker, authority: &Authority) -> bool {
        self.covers_host(asker, &authority.host)
            && (self.any_port || self.authority.port == authority.port)
    }

    pub(super) fn covers_host(&self, asker: &Asker, host: &Host) -> bool {
        self.asker.includes(asker) && self.authority.host == *host
    }

    /// Takes a grant for one connection for this one, unless another connection has it.
    pub(super) fn claim(&self, connection: &ConnectionHandle) -> bool {
        if self.scope != GrantScope::Once {
            return true;
        }
        let mut used_by = self.used_by.lock();
        let user = used_by.get_or_insert_with(|| connection.downgrade());
        user.is(connection)
    }

    fn is_claimed(&self) -> bool {
        self.used_by.lock().is_some()
    }

    /// Whether the one connection that it was for has ended.
    pub(super) fn is_spent(&self) -> bool {
        let used_by = self.used_by.lock();
        used_by.as_ref().is_some_and(|other| !other.is_open())
    }

    /// Ends it, and the connections that it permitted.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    pub(super) fn info(&self) -> GrantInfo {
        GrantInfo {
            id: Arc::clone(&self.id),
            host: self.authority.host.clone(),
            port: (!self.any_port).then_some(self.authority.port),
            scope: self.scope,
            by: Arc::clone(&self.by),
            since: self.since,
            until: self.until_wall,
            uses: self.uses.load(Ordering::Relaxed),
            session: self.asker.session.clone(),
            uid: self.asker.uid,
            user: self.asker.user.clone(),
            whom: match self.asker.id {
                AskerId::Session(_) => GrantHolder::Session,
                AskerId::User(_) => GrantHolder::User,
                AskerId::SessionsOf(_) => GrantHolder::Sessions,
                AskerId::Everyone => GrantHolder::Everyone,
            },
        }
    }
}
