//! An HTTP/2 connection to an origin, and the client that uses it.
//!
//! The connection carries many requests at once, and all of them are of one client. Origins limit the
//! streams, the bytes of uploads and the resets of a connection, and end a connection for one bad request.
//! Requests of several clients at once could therefore starve or end each other. Between two requests the
//! connection waits in the pool, where another client may take it.
//!
//! A connection stays with its client, and ends with it, if a request on it was not sent whole or had no whole
//! answer. The origin may count such requests, may hold a part of the window for them, or may not answer at
//! all. A connection also stays with its client if it has less than its whole share of the memory, so that
//! no other client gets a slow connection, and if it may be authenticated.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::{Mutex, MutexGuard};

use super::super::Outgoing;
use super::super::far_end::{FarEnd, Unanswered};
use super::{Http2Sender, max_requests};
use crate::http2_memory::MemoryShare;
use crate::incoming::Incoming;
use crate::live_policy::Generation;
use crate::owner::ConnectionHandle;

/// Puts a connection without a request into the pool, for any client. Returns whether the pool keeps it.
type Keep = Box<dyn Fn(&Arc<Http2Origin>) -> bool + Send + Sync>;

/// A connection, its client and its requests.
pub(crate) struct Http2Origin {
    far: FarEnd,
    /// The generation that vetted the connection (`Generation::connections` in `live_policy.rs`).
    generation: u64,
    max_requests: u32,
    memory: Arc<MemoryShare>,
    usage: Mutex<Usage>,
    keep: Keep,
}

struct Usage {
    /// `None` once the connection is closed.
    sender: Option<Http2Sender>,
    /// The client that uses the connection; `None` while it waits in the pool.
    client: Option<ConnectionHandle>,
    requests: u32,
    /// Requests whose content is still being sent. It may outlast the answer.
    uploads: u32,
    /// Whether the connection stays with its client.
    is_bound: bool,
}

/// A request on a connection, or the upload of its content. Dropping it ends the use. Unless it was
/// released, the connection then stays with its client.
pub(in super::super) struct Http2Use {
    origin: Arc<Http2Origin>,
    part: Part,
    ends: Ends,
}

/// The part of an exchange that uses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Request,
    Upload,
}

/// How the use of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Before the whole answer, or the whole upload.
    Early,
    /// After the whole answer, or the whole upload.
    Whole,
    /// The request was not sent yet.
    Unsent,
}

/// A connection in the pool. Dropping it closes the connection.
pub(in super::super) struct KeptHttp2(Option<Arc<Http2Origin>>);

impl Http2Origin {
    /// A new connection of this client, and its first use.
    pub(in super::super) fn begin(
        sender: Http2Sender,
        far: FarEnd,
        generation: u64,
        memory: Arc<MemoryShare>,
        client: &ConnectionHandle,
        keep: impl Fn(&Arc<Self>) -> bool + Send + Sync + 'static,
    ) -> Http2Use {
        let usage = Usage {
            sender: Some(sender),
            client: Some(client.clone()),
            requests: 1,
            uploads: 0,
            is_bound: !memory.is_whole(),
        };
        let origin = Self {
            far,
            generation,
            max_requests: max_requests(&memory),
            memory,
            usage: Mutex::new(usage),
            keep: Box::new(keep),
        };
        Http2Use {
            origin: Arc::new(origin),
            part: Part::Request,
            ends: Ends::Early,
        }
    }

    /// Begins a further request of the client that uses the connection, if there is room for it.
    pub(in super::super) fn use_again(
        self: &Arc<Self>,
        client: &ConnectionHandle,
    ) -> Option<Http2Use> {
        let mut usage = self.lock();
        let has_room = usage.is_of(client) && usage.requests < self.max_requests;
        has_room.then(|| self.use_for_request(&mut usage))
    }

    /// Begins the first request of another client on a connection from the pool. `None` if the client has
    /// no room for the connection's share of the memory.
    fn pass_to(self: &Arc<Self>, client: &ConnectionHandle) -> Option<Http2Use> {
        if !self.memory.pass_to(client) {
            return None;
        }
        let mut usage = self.lock();
        usage.client = Some(client.clone());
        Some(self.use_for_request(&mut usage))
    }

    fn use_for_request(self: &Arc<Self>, usage: &mut Usage) -> Http2Use {
        usage.requests += 1;
        Http2Use {
            origin: Arc::clone(self),
            part: Part::Request,
            ends: Ends::Early,
        }
    }

    /// Whether the connection is this client's, was vetted under these settings, and takes further
    /// requests.
    pub(crate) fn serves(&self, client: &ConnectionHandle, generation: &Generation) -> bool {
        self.is_of(generation) && self.lock().is_of(client) && self.is_open()
    }

    /// Whether the connection was vetted under these settings, name servers and roots.
    pub(in super::super) fn is_of(&self, generation: &Generation) -> bool {
        self.generation == generation.connections()
    }

    /// Whether the connection has no request in hand.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Whether the connection takes further requests.
    pub(in super::super) fn is_open(&self) -> bool {
        let usage = self.lock();
        usage.sender.as_ref().is_some_and(|it| !it.is_closed()) && !self.far.is_going_away()
    }

    /// The far end of the connection.
    pub(in super::super) fn far(&self) -> &FarEnd {
        &self.far
    }

    fn end(self: &Arc<Self>, part: Part, ends: Ends) {
        let mut usage = self.lock();
        match part {
            Part::Request => usage.requests -= 1,
            Part::Upload => usage.uploads -= 1,
        }
        usage.is_bound |= ends == Ends::Early;
        if usage.is_bound || !usage.is_idle() || ends == Ends::Unsent {
            return;
        }
        let client = usage.client.take();
        drop(usage);
        if !(self.keep)(self) {
            // The client can go on to use it.
            let mut usage = self.lock();
            usage.client = usage.client.take().or(client);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock()
    }
}

impl Usage {
    fn is_of(&self, client: &ConnectionHandle) -> bool {
        self.client.as_ref().is_some_and(|own| own.is(client))
    }

    fn is_idle(&self) -> bool {
        self.requests == 0 && self.uploads == 0
    }
}

impl Http2Use {
    /// The connection.
    pub(in super::super) fn origin(&self) -> &Arc<Http2Origin> {
        &self.origin
    }

    /// Sends a request and returns the answer. Dropping the future resets the stream.
    pub(in super::super) fn send<B, F>(
        &self,
        request: Request<B>,
        on_interim: F,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered<B>>> + Send + use<B, F>
    where
        B: Outgoing,
        F: Fn(StatusCode, &HeaderMap) + Send + Sync,
    {
        let has_content = !request.body().is_end_stream();
        let uploading = has_content.then(|| self.upload());
        let sender = self.origin.lock().sender.clone();
        let far = self.origin.far.clone();
        async move {
            // Only the pool closes connections, and never one in use.
            let Some(sender) = sender else {
                let broken = far.broken_head("the connection is closed");
                return Err(Unanswered::Unsent(Some(Box::new(request)), broken));
            };
            sender.send(request, far, uploading, on_interim).await
        }
    }

    /// The use of the connection by the content of a request.
    fn upload(&self) -> Self {
        self.origin.lock().uploads += 1;
        Self {
            origin: Arc::clone(&self.origin),
            part: Part::Upload,
            ends: Ends::Early,
        }
    }

    /// Keeps the connection for its client alone.
    pub(in super::super) fn bind(&self) {
        self.origin.lock().is_bound = true;
    }

    /// Ends the use after a whole answer, or a whole upload.
    pub(in super::super) fn release(mut self) {
        self.ends = Ends::Whole;
    }

    /// Ends the use before a request was sent. The connection stays with its client.
    pub(in super::super) fn put_off(mut self) {
        self.ends = Ends::Unsent;
    }
}

impl Drop for Http2Use {
    fn drop(&mut self) {
        self.origin.end(self.part, self.ends);
    }
}

impl KeptHttp2 {
    pub(in super::super) fn new(origin: &Arc<Http2Origin>) -> Self {
        Self(Some(Arc::clone(origin)))
    }

    pub(in super::super) fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|origin| origin.is_open())
    }

    /// Gives the connection to a client. On an error the client has no room for it.
    pub(in super::super) fn pass_to(self, client: &ConnectionHandle) -> Result<Http2Use, Self> {
        let passed = self.0.as_ref().and_then(|origin| origin.pass_to(client));
        match passed {
            Some(passed) => {
                self.leave_open();
                Ok(passed)
            }
            None => Err(self),
        }
    }

    /// Takes the connection out of the pool without closing it.
    pub(in super::super) fn leave_open(mut self) {
        self.0 = None;
    }
}

impl Drop for KeptHttp2 {
    fn drop(&mut self) {
        if let Some(origin) = &self.0 {
            origin.lock().sender = None;
        }
    }
}

impl fmt::Debug for Http2Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Origin").finish_non_exhaustive()
    }
}
