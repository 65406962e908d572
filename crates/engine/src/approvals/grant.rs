//! A permission that a person gave. It is checked again for as long as connections use it (SPEC P11, Q3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_network_policy::{Authority, Host};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::asker::{Asker, AskerId};
use super::question::{GrantInfo, GrantScope};
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

impl Grant {
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
    pub(super) fn covers(&self, asker: AskerId, authority: &Authority) -> bool {
        self.covers_host(asker, &authority.host)
            && (self.any_port || self.authority.port == authority.port)
    }

    pub(super) fn covers_host(&self, asker: AskerId, host: &Host) -> bool {
        self.asker.id == asker && self.authority.host == *host
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
        }
    }
}
