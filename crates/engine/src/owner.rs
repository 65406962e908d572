//! Which user of this machine a client belongs to.
//!
//! Clients on this machine share its addresses. Equal shares among users therefore need the kernel's
//! socket tables. The kernel is queried only in a shortage of connection slots, certificates or log
//! lines, and when the admin API names a caller. Otherwise a client is its address, and all clients on
//! this machine whose user is not known are one client.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::activity::{Activity, Busy};
use crate::outcome::Ending;
use crate::rare::rarely;
use crate::session::Session;
use crate::shares::Holder;

/// How long a query may take. All clients of this machine whose user is not known by then
/// share the slots of one user.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections in one query.
const MAX_BATCH: usize = 64;
/// For this long after a shortage, the user of each connection is looked up when it is accepted.
const SHORTAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the users that connections from this machine belong to. In the service, the monitor queries
/// the kernel.
pub trait ClientOwner: Send + Sync + 'static {
    /// The user ids at the other ends of these connections, in the same order; `None` where the
    /// user is not known.
    fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>>;
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketPair {
    /// The client's end.
    pub client: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// A client's connection as the limits see it. Cloning it gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<ConnectionState>);

/// A connection that may have ended.
#[derive(Debug)]
pub(crate) struct WeakConnection(Weak<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    ends: SocketPair,
    /// Set when the query has ended.
    user: OnceLock<Option<u32>>,
    activity: Arc<Activity>,
    /// Whether the connection must make room for another one.
    gives_way: AtomicBool,
    /// Wakes the connection when `gives_way` is set.
    woken: Notify,
    /// Set when the proxy ends the connection. Boxed, since most connections end by themselves.
    ending: OnceLock<Box<Ending>>,
    /// Whether a task queries the user.
    is_looked_up: AtomicBool,
    /// The session whose door the client came to.
    session: Option<Arc<Session>>,
}

/// Queries users, and knows whether there is a shortage.
pub(crate) struct Owners {
    owner: Option<Arc<dyn ClientOwner>>,
    start: Instant,
    /// Until when there is a shortage, in milliseconds after `start`.
    short_until: AtomicU64,
}

impl ConnectionHandle {
    pub(crate) fn new(client: SocketAddr, local: SocketAddr) -> Self {
        Self::at_door(client, local, None)
    }

    /// The handle of a connection to a door, of a session or of the proxy. The user of a session is
    /// known: it opened the session.
    pub(crate) fn at_door(
        client: SocketAddr,
        local: SocketAddr,
        session: Option<&Arc<Session>>,
    ) -> Self {
        let user = session.map(|session| OnceLock::from(Some(session.uid())));
        Self(Arc::new(ConnectionState {
            session: session.cloned(),
            ends: SocketPair { client, local },
            user: user.unwrap_or_default(),
            activity: Arc::new(Activity::new()),
            gives_way: AtomicBool::new(false),
            woken: Notify::new(),
            ending: OnceLock::new(),
            is_looked_up: AtomicBool::new(false),
        }))
    }

    /// Stands for a user in the limits, without a connection.
    pub(crate) fn of_user(uid: u32) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let handle = Self::new(nowhere, nowhere);
        let _ = handle.0.user.set(Some(uid));
        handle
    }

    /// Whether this is a handle to the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A handle that does not keep the connection.
    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// The address that the connection came in on.
    pub(crate) fn local(&self) -> SocketAddr {
        self.0.ends.local
    }

    /// The holder that this connection counts for.
    pub(crate) fn holder(&self) -> Holder {
        match self.0.user.get() {
            Some(Some(uid)) => Holder::User(*uid),
            // A client on this machine without a user has usually closed its socket. One user could
            // leave many such connections, from many addresses.
            Some(None) => Holder::at(Ipv4Addr::LOCALHOST.into()),
            None => Holder::at(self.0.ends.client.ip()),
        }
    }

    /// The session whose door the client came to.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.0.session.as_ref()
    }

    /// The client's user, if the kernel was queried and knows it.
    pub(crate) fn user(&self) -> Option<u32> {
        self.0.user.get().copied().flatten()
    }

    /// When something last flowed.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.0.activity
    }

    /// Marks a request in hand: until the value is dropped, the connection is not idle.
    pub fn busy(&self) -> Busy {
        self.0.activity.busy()
    }

    /// Ends the connection to make room for another one.
    pub(crate) fn give_way(&self) {
        self.0.gives_way.store(true, Ordering::Release);
        self.0.woken.notify_waiters();
    }

    /// Resolves when the connection must end to make room for another one.
    pub(crate) async fn gives_way(&self) {
        // It also resolves for a call of `notify_waiters` between here and the wait.
        let woken = pin!(self.0.woken.notified());
        if !self.0.gives_way.load(Ordering::Acquire) {
            woken.await;
        }
    }

    /// Runs a future to its end, or until the connection must make room for another one (`None`). The
    /// future is polled first, since it may choose how the connection ends.
    pub(crate) async fn until_it_gives_way<F: Future>(
        &self,
        future: Pin<&mut F>,
    ) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = rarely(|| self.gives_way()) => None,
        }
    }

    /// Notes why the proxy ends the connection. The requests in hand end for the same cause.
    pub(crate) fn end(&self, ending: Ending) {
        // The first cause counts.
        let _ = self.0.ending.set(Box::new(ending));
    }

    /// Why the proxy ends the connection, if it does.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.0.ending.get().map(Box::as_ref)
    }

    /// Whether the kernel may know the user of the connection, and was not queried yet.
    fn needs_lookup(&self) -> bool {
        let SocketPair { client, local } = self.0.ends;
        let client = client.ip().to_canonical();
        let is_here = client.is_loopback() || client == local.ip().to_canonical();
        is_here && self.0.user.get().is_none()
    }
}

impl WeakConnection {
    /// Whether this is a handle to the same connection.
    pub(crate) fn is(&self, other: &ConnectionHandle) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&other.0))
    }

    /// Whether the connection has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Owners {
    pub(crate) fn new(owner: Option<Arc<dyn ClientOwner>>) -> Self {
        Self {
            owner,
            start: Instant::now(),
            short_until: AtomicU64::new(0),
        }
    }

    /// Finds the users of these connections, with one query for each connection.
    pub(crate) async fn look_up(&self, connections: &[ConnectionHandle]) {
        let Some(owner) = &self.owner else {
            return;
        };
        let unknown: Vec<_> = connections
            .iter()
            .filter(|connection| connection.needs_lookup())
            .collect();
        for batch in unknown.chunks(MAX_BATCH) {
            let ends: Vec<_> = batch.iter().map(|connection| connection.0.ends).collect();
            let answers = timeout(LOOKUP_TIMEOUT, owner.owners(&ends)).await;
            let answers = answers.unwrap_or_default();
            let answers = answers.into_iter().chain(std::iter::repeat(None));
            for (connection, user) in batch.iter().zip(answers) {
                // A concurrent query has the same result.
                let _ = connection.0.user.set(user);
            }
        }
    }

    /// Finds the user of a connection in a task of its own, for callers that cannot wait.
    pub(crate) fn look_up_later(self: &Arc<Self>, connection: &ConnectionHandle) {
        if self.owner.is_none() || !connection.needs_lookup() {
            return;
        }
        if connection.0.is_looked_up.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (owners, connection) = (Arc::clone(self), connection.clone());
            runtime.spawn(async move { owners.look_up(std::slice::from_ref(&connection)).await });
        }
    }

    /// Notes a shortage: for a while, users are looked up when connections are accepted.
    pub(crate) fn note_shortage(&self) {
        let until = self.start.elapsed() + SHORTAGE_TIMEOUT;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.short_until.fetch_max(until, Ordering::Relaxed);
    }

    /// In a shortage, finds the user of a connection that was just accepted.
    pub(crate) async fn look_up_in_shortage(&self, connection: &ConnectionHandle) {
        let until = self.short_until.load(Ordering::Relaxed);
        // Zero is the common case, in which the clock is not read.
        if until > 0 && self.start.elapsed() < Duration::from_millis(until) {
            // Boxed, since this is rare.
            Box::pin(self.look_up(std::slice::from_ref(connection))).await;
        }
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners")
            .field("asks", &self.owner.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Reports users by the client's port, and counts the connections of each query.
    #[derive(Default)]
    struct ByPort(Mutex<Vec<usize>>);

    impl ClientOwner for ByPort {
        fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
            self.0.lock().expect("a lock").push(connections.len());
            let known =
                |ends: &SocketPair| (ends.client.port() != 7).then(|| ends.client.port().into());
            Box::pin(async move { connections.iter().map(known).collect() })
        }
    }

    fn connection(client: &str) -> ConnectionHandle {
        let local = "192.0.2.1:3128".parse().expect("an address");
        ConnectionHandle::new(client.parse().expect("an address"), local)
    }

    #[tokio::test]
    async fn c5_users_are_looked_up_once_and_only_on_this_machine() {
        let queries = Arc::new(ByPort::default());
        let owners = Owners::new(Some(Arc::<ByPort>::clone(&queries)));
        let connections = [
            ("127.0.0.1:5", Holder::User(5)),
            ("[::1]:6", Holder::User(6)),
            // Without a user: one holder for all addresses.
            ("127.0.0.1:7", Holder::at([127, 0, 0, 1].into())),
            ("127.0.9.9:7", Holder::at([127, 0, 0, 1].into())),
            ("192.0.2.1:7", Holder::at([127, 0, 0, 1].into())),
            ("192.0.2.1:8", Holder::User(8)),
            ("[::ffff:127.0.0.1]:9", Holder::User(9)),
            ("192.0.2.2:10", Holder::at([192, 0, 2, 2].into())),
        ];
        let handles = connections.map(|(client, _)| connection(client));
        for _ in 0..2 {
            owners.look_up(&handles).await;
        }
        for ((client, wanted), handle) in connections.iter().zip(&handles) {
            assert_eq!(handle.holder(), *wanted, "{client}");
        }
        assert_eq!(*queries.0.lock().expect("a lock"), [7]);
    }

    #[tokio::test(start_paused = true)]
    async fn c5_a_user_is_looked_up_at_accept_only_in_a_shortage() {
        let owners = Owners::new(Some(Arc::new(ByPort::default())));
        let before = connection("127.0.0.1:5");
        owners.look_up_in_shortage(&before).await;
        assert_eq!(before.holder(), Holder::at([127, 0, 0, 1].into()));
        owners.note_shortage();
        owners.look_up_in_shortage(&before).await;
        assert_eq!(before.holder(), Holder::User(5));
        tokio::time::advance(SHORTAGE_TIMEOUT).await;
        let after = connection("127.0.0.1:6");
        owners.look_up_in_shortage(&after).await;
        assert_eq!(after.holder(), Holder::at([127, 0, 0, 1].into()));
    }

    /// Never answers.
    struct NeverAnswers;

    impl ClientOwner for NeverAnswers {
        fn owners<'a>(&'a self, _: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_without_an_answer_a_client_of_this_machine_is_one_of_loopback() {
        let connection = connection("127.0.0.1:5");
        Owners::new(Some(Arc::new(NeverAnswers)))
            .look_up(std::slice::from_ref(&connection))
            .await;
        assert_eq!(connection.holder(), Holder::at([127, 0, 0, 1].into()));
        assert!(!connection.needs_lookup());
    }
}
