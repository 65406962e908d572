//! Bounds the memory of HTTP/2 connections whose peers send and do not read: the windows that this side
//! opens, and the bodies that wait in streams.
//!
//! Each connection takes a share of the memory that is left to its holder, so the sum of all shares is
//! bounded. A holder may take at most half of the memory that the other holders have left: a holder that
//! stalls thousands of connections leaves enough for the next one. The first connections of a holder get
//! all that they can use. Later connections get smaller windows and fewer streams, and are slower.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::owner::{ConnectionHandle, Owners};
use crate::shares::Holder;

/// Largest sum of all shares, in KiB. It is potential memory: a peer that reads its answers leaves nearly
/// all of it unused. The smallest windows and buffers come on top.
const MAX_TOTAL: u32 = 1024 * 1024;
/// A holder gets at most this part of the memory that the other holders have left.
const HOLDER_DIVISOR: u32 = 2;
/// A connection gets at most this part of the memory that its holder has left.
const CONNECTION_DIVISOR: u32 = 4;
/// The whole of a share, for [`MemoryShare::of`].
const WHOLE: u64 = 1024;

/// The memory that a connection needs for full speed, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryNeed(u32);

/// Size of a frame, which is buffered whole.
const FRAME_BYTES: u32 = 16 * 1024;

/// The memory of all connections.
#[derive(Debug)]
pub(crate) struct Http2Memory {
    owners: Arc<Owners>,
    taken: Mutex<Taken>,
}

/// The memory that is taken, in KiB.
#[derive(Debug, Default)]
struct Taken {
    by_all: u32,
    by_holder: HashMap<Holder, u32>,
}

/// The share of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    of: Arc<Http2Memory>,
    holder: Mutex<Holder>,
    taken: u32,
    need: MemoryNeed,
}

impl MemoryNeed {
    /// The need of `streams` streams. Each has a window and a send buffer, both in bytes, and a frame.
    pub(crate) const fn new(streams: u32, window: u32, buffer: u32) -> Self {
        Self(streams * ((window + buffer + FRAME_BYTES) / 1024))
    }
}

impl Http2Memory {
    pub(crate) fn new(owners: Arc<Owners>) -> Self {
        Self {
            owners,
            taken: Mutex::default(),
        }
    }

    /// Takes a share for a connection with this client, or with an origin on its behalf.
    pub(crate) fn take(
        self: &Arc<Self>,
        need: MemoryNeed,
        client: &ConnectionHandle,
    ) -> MemoryShare {
        let holder = client.holder();
        let taken = self.lock().take(need, holder);
        if taken < need.0 {
            // Users of this machine share its addresses, so the kernel is queried for users now.
            self.owners.note_shortage();
            self.owners.look_up_later(client);
        }
        MemoryShare {
            of: Arc::clone(self),
            holder: Mutex::new(holder),
            taken,
            need,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

impl Taken {
    fn take(&mut self, need: MemoryNeed, holder: Holder) -> u32 {
        let share = need.0.min(self.room(holder));
        self.count(share, holder);
        share
    }

    /// The largest share that a further connection of this holder gets.
    fn room(&self, holder: Holder) -> u32 {
        let own = self.by_holder.get(&holder).copied().unwrap_or(0);
        let left_by_others = MAX_TOTAL.saturating_sub(self.by_all - own);
        (left_by_others / HOLDER_DIVISOR).saturating_sub(own) / CONNECTION_DIVISOR
    }

    fn count(&mut self, share: u32, holder: Holder) {
        if share > 0 {
            self.by_all += share;
            *self.by_holder.entry(holder).or_default() += share;
        }
    }

    fn give_back(&mut self, share: u32, holder: Holder) {
        self.by_all -= share;
        if let Some(own) = self.by_holder.get_mut(&holder) {
            *own -= share;
            if *own == 0 {
                self.by_holder.remove(&holder);
            }
        }
    }
}

impl MemoryShare {
    /// Scales a limit by the share: `least` without a share, `most` with a whole one.
    pub(crate) fn of(&self, least: u32, most: u32) -> u32 {
        let part = u64::from(self.taken) * WHOLE / u64::from(self.need.0);
        let more = u64::from(most.saturating_sub(least)) * part / WHOLE;
        least.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    }

    /// Whether the share is all that the connection needs.
    pub(crate) fn is_whole(&self) -> bool {
        self.taken == self.need.0
    }

    /// Counts the share for this client from now on. Returns whether its holder has room for the share;
    /// otherwise nothing changes.
    pub(crate) fn pass_to(&self, client: &ConnectionHandle) -> bool {
        let mut holder = self.holder.lock();
        let next = client.holder();
        if *holder == next {
            return true;
        }
        let mut taken = self.of.lock();
        taken.give_back(self.taken, *holder);
        let has_room = taken.room(next) >= self.taken;
        if has_room {
            *holder = next;
        }
        taken.count(self.taken, *holder);
        has_room
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let holder = *self.holder.get_mut();
        self.of.lock().give_back(self.taken, holder);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::owner::{ClientOwner, SocketPair};

    /// The memory that connections with clients and with origins need.
    const SERVER: MemoryNeed = MemoryNeed::new(100, 512 * 1024, 64 * 1024);
    const CLIENT: MemoryNeed = MemoryNeed::new(16, 1024 * 1024, 1024 * 1024);

    fn memory() -> Arc<Http2Memory> {
        Arc::new(Http2Memory::new(Arc::new(Owners::new(None))))
    }

    fn client(address: &str) -> ConnectionHandle {
        let local = "192.0.2.1:3128".parse().expect("an address");
        ConnectionHandle::new(address.parse().expect("an address"), local)
    }

    fn granted(share: &MemoryShare) -> u32 {
        share.of(64, 1024)
    }

    #[test]
    fn m6_the_need_of_a_connection_is_the_sum_of_its_streams() {
        assert_eq!(MemoryNeed::new(3, 4096, 1024), MemoryNeed(3 * (4 + 1 + 16)));
    }

    #[test]
    fn m6_the_memory_of_all_http2_connections_is_bounded() {
        let memory = memory();
        let clients = [
            client("198.51.100.1:1"),
            client("198.51.100.2:1"),
            client("127.0.0.1:1"),
        ];
        for round in 0..2 {
            let mut shares = Vec::new();
            for number in 0..10_000 {
                let need = if number % 2 == 0 { SERVER } else { CLIENT };
                shares.push(memory.take(need, &clients[number % clients.len()]));
            }
            assert!(
                shares[..9].iter().all(|share| granted(share) == 1024),
                "{round}"
            );
            assert_eq!(granted(&shares[9_999]), 64);
            let taken: u32 = shares.iter().map(|share| share.taken).sum();
            assert!(taken <= MAX_TOTAL && taken == memory.lock().by_all);
            drop(shares);
            let left = memory.lock();
            assert!(left.by_all == 0 && left.by_holder.is_empty());
        }
    }

    #[test]
    fn m6_one_client_with_thousands_of_http2_connections_leaves_another_its_whole_share() {
        let memory = memory();
        let (greedy, modest) = (client("198.51.100.1:1"), client("198.51.100.2:1"));
        let shares: Vec<_> = (0..10_000).map(|_| memory.take(SERVER, &greedy)).collect();
        assert_eq!(granted(&shares[0]), 1024);
        assert!(
            shares
                .windows(2)
                .all(|two| granted(&two[0]) >= granted(&two[1]))
        );
        assert_eq!(granted(&shares[9_999]), 64);
        for need in [SERVER, CLIENT] {
            assert_eq!(granted(&memory.take(need, &modest)), 1024);
        }
    }

    #[test]
    fn m6_a_share_that_is_passed_on_counts_for_its_new_holder_alone() {
        let memory = memory();
        let (first, second) = (client("198.51.100.1:1"), client("198.51.100.2:1"));
        let share = memory.take(CLIENT, &first);
        assert!(share.is_whole() && share.pass_to(&second));
        let taken = |client: &ConnectionHandle| {
            let taken = memory.lock();
            taken.by_holder.get(&client.holder()).copied().unwrap_or(0)
        };
        assert_eq!((taken(&first), taken(&second)), (0, CLIENT.0));
        // A holder that has used up its part gets no share of another one.
        let _all: Vec<_> = (0..10_000).map(|_| memory.take(CLIENT, &first)).collect();
        let before = taken(&first);
        assert!(!share.pass_to(&first));
        assert_eq!((taken(&first), taken(&second)), (before, CLIENT.0));
        drop(share);
        assert_eq!(taken(&second), 0);
    }

    /// Reports a user for each port.
    struct UserByPort;

    impl ClientOwner for UserByPort {
        fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
            let user = |ends: &SocketPair| Some(ends.client.port().into());
            Box::pin(async move { connections.iter().map(user).collect() })
        }
    }

    #[tokio::test]
    async fn m6_users_of_this_machine_have_shares_of_their_own_when_memory_is_short() {
        let owners = Arc::new(Owners::new(Some(Arc::new(UserByPort))));
        let memory = Arc::new(Http2Memory::new(Arc::clone(&owners)));
        let modest = client("127.0.0.1:2");
        let first = memory.take(SERVER, &modest);
        owners.look_up_in_shortage(&modest).await;
        assert_eq!(modest.holder(), Holder::at([127, 0, 0, 1].into()));
        let greedy: Vec<_> = (0..10_000)
            .map(|_| memory.take(SERVER, &client("127.0.0.1:1")))
            .collect();
        owners.look_up_in_shortage(&modest).await;
        assert_eq!(modest.holder(), Holder::User(2));
        assert_eq!(granted(&memory.take(SERVER, &modest)), 1024);
        // A share is returned to the holder that it was counted for.
        drop((first, greedy));
        assert!(memory.lock().by_holder.is_empty());
    }
}
