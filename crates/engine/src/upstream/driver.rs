//! Polls an HTTP/1 connection to an origin: in a task of its own, or in the task of the request.
//!
//! hyper splits a connection into a sender of requests and a future that reads and writes. If only a task
//! of its own polled that future, each request would wait twice for a turn of that task, and each answer
//! for another turn of the request's task. So a request may drive the connection: while it waits for its
//! answer, its own task polls the future. Between requests the connection's task does, and notices when the
//! origin closes.
//!
//! A request with content does not drive. Its content must go on while the client does not read the answer,
//! but the request's task may then wait for the client.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use parking_lot::Mutex;

use super::Outgoing;

/// The connection must be polled.
const WOKEN: u8 = 1;
/// A request drives the connection.
const DRIVEN: u8 = 2;
/// That request polls now, and sees [`WOKEN`] itself.
const POLLING: u8 = 4;

/// Polls in a row before the request's task lets other tasks run.
const MAX_ROUNDS: usize = 4;

/// The sending half of an HTTP/1 connection. Dropping it ends the connection.
pub(crate) struct DrivenSender<B> {
    sender: http1::SendRequest<B>,
    connection: Arc<Driven>,
}

/// The half of a connection that reads and writes.
struct Driven {
    /// `None` once the connection has ended.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    turn: Arc<Turn>,
    /// Wakes the driver whose turn it is.
    waker: Waker,
}

/// Whose turn it is to poll a connection.
struct Turn {
    state: AtomicU8,
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    /// The task of the connection.
    own: Option<Waker>,
    /// The task of the request that drives the connection.
    request: Option<Waker>,
}

impl<B: Outgoing> DrivenSender<B> {
    /// Makes the sending half of a connection, and the future of the connection's own task. `future` reads
    /// and writes, and resolves when the connection has ended.
    pub(super) fn new<F>(
        sender: http1::SendRequest<B>,
        future: F,
    ) -> (Self, impl Future<Output = ()> + Send + use<B, F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = Arc::new(Turn {
            state: AtomicU8::new(WOKEN),
            wakers: Mutex::default(),
        });
        let connection = Arc::new(Driven {
            future: Mutex::new(Some(Box::pin(future))),
            waker: Waker::from(Arc::clone(&turn)),
            turn,
        });
        let own = Arc::clone(&connection);
        let task = poll_fn(move |cx| own.poll_in_own_task(cx));
        (Self { sender, connection }, task)
    }

    /// Sends a request. It drives the connection from now on, unless it has content or offers to change
    /// protocols.
    pub(super) fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + Send + use<B>
    {
        let may_drive = request.body().is_end_stream() && !request.headers().contains_key(UPGRADE);
        let driven = may_drive.then(|| Arc::clone(&self.connection));
        if let Some(connection) = &driven {
            connection.turn.begin();
        }
        let answer = self.sender.try_send_request(request);
        async move {
            let mut answer = pin!(answer);
            poll_fn(|cx| match &driven {
                Some(connection) => connection.poll_until(cx, |cx| answer.as_mut().poll(cx)),
                None => answer.as_mut().poll(cx),
            })
            .await
        }
    }
}

impl<B> DrivenSender<B> {
    /// Polls the content of an answer. It becomes ready only through the connection, which is polled too if
    /// the request drives it.
    pub(super) fn poll_content<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.connection.turn.is_driven() {
            self.connection.poll_until(cx, poll)
        } else {
            poll(cx)
        }
    }

    /// The answer is complete: from now on the connection's own task polls.
    pub(super) fn leave(&self) {
        let connection = &self.connection;
        if connection.turn.is_driven() {
            // Taking the last part of an answer has woken the connection. A poll is cheaper than a turn of
            // its task.
            connection.turn.set(POLLING);
            let _ = connection.poll_if_woken();
            connection.turn.end();
        }
    }

    /// Whether the connection takes no further request.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether the connection takes a request now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the connection takes a request.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }
}

impl<B> Drop for DrivenSender<B> {
    fn drop(&mut self) {
        self.connection.turn.end();
    }
}

impl Driven {
    fn poll_in_own_task(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.turn.note_own(cx.waker());
        if self.turn.is_driven() {
            return Poll::Pending;
        }
        let polled = self.poll_if_woken();
        if self.turn.is_driven() {
            // A request has begun on another thread meanwhile, and counts on its own polls alone.
            self.turn.ring();
        }
        polled
    }

    /// Polls `poll`, and first the connection if it was woken. Only the connection can make `poll` ready.
    fn poll_until<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.turn.note_request(cx.waker());
        for _ in 0..MAX_ROUNDS {
            self.turn.set(POLLING);
            let _ = self.poll_if_woken();
            let polled = poll(&mut Context::from_waker(Waker::noop()));
            let state = self.turn.clear(POLLING);
            if polled.is_ready() || state & WOKEN == 0 {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Resolves when the connection has ended.
    fn poll_if_woken(&self) -> Poll<()> {
        if self.turn.clear(WOKEN) & WOKEN == 0 {
            return Poll::Pending;
        }
        let mut slot = self.future.lock();
        // Taken out, so that it does not stay after a panic.
        let ended = match slot.take() {
            None => true,
            Some(mut future) => {
                let polled = future.as_mut().poll(&mut Context::from_waker(&self.waker));
                if polled.is_pending() {
                    *slot = Some(future);
                }
                polled.is_ready()
            }
        };
        if !ended {
            return Poll::Pending;
        }
        // The connection's own task ends when it is polled next.
        self.turn.set(WOKEN);
        Poll::Ready(())
    }
}

impl Turn {
    /// Sets a flag. Returns the state before.
    fn set(&self, flag: u8) -> u8 {
        self.state.fetch_or(flag, Ordering::AcqRel)
    }

    /// Clears flags. Returns the state before.
    fn clear(&self, flags: u8) -> u8 {
        self.state.fetch_and(!flags, Ordering::AcqRel)
    }

    fn is_driven(&self) -> bool {
        self.state.load(Ordering::Acquire) & DRIVEN != 0
    }

    /// A request drives the connection from now on.
    fn begin(&self) {
        self.set(DRIVEN);
    }

    /// The connection's own task drives it from now on.
    fn end(&self) {
        let state = self.clear(DRIVEN | POLLING);
        let mut wakers = self.wakers.lock();
        let request = wakers.request.take();
        let own = wakers.own.clone().filter(|_| state & WOKEN != 0);
        drop(wakers);
        drop(request);
        if let Some(own) = own {
            own.wake();
        }
    }

    fn note_own(&self, task: &Waker) {
        note(&mut self.wakers.lock().own, task);
    }

    fn note_request(&self, task: &Waker) {
        note(&mut self.wakers.lock().request, task);
    }

    /// Wakes the driver, unless it was woken already or polls now.
    fn ring(&self) {
        if self.set(WOKEN) & (WOKEN | POLLING) != 0 {
            return;
        }
        let wakers = self.wakers.lock();
        let driver = if self.is_driven() {
            wakers.request.clone()
        } else {
            wakers.own.clone()
        };
        drop(wakers);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

fn note(known: &mut Option<Waker>, task: &Waker) {
    if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
        *known = Some(task.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;

    use bytes::Bytes;
    use futures_util::poll;
    use http_body_util::combinators::MapErr;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Body as _;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::incoming::BodyError;

    type Content = MapErr<Full<Bytes>, fn(Infallible) -> BodyError>;

    fn request(content: &'static str) -> Request<Content> {
        let content = Full::new(Bytes::from_static(content.as_bytes()));
        let no_error: fn(Infallible) -> BodyError = |never| match never {};
        Request::post("/")
            .header("host", "origin.test")
            .body(content.map_err(no_error))
            .expect("a request")
    }

    /// A connection, the future of its own task, and the origin's end.
    async fn connection() -> (
        DrivenSender<Content>,
        Pin<Box<dyn Future<Output = ()> + Send>>,
        DuplexStream,
    ) {
        let (ours, origin) = tokio::io::duplex(64 * 1024);
        let (sender, connection) = http1::handshake(TokioIo::new(ours))
            .await
            .expect("a connection");
        let (sender, task) = DrivenSender::new(sender, async move {
            let _ = connection.await;
        });
        (sender, Box::pin(task), origin)
    }

    /// Reads a head, and answers with `answer`.
    async fn serve(origin: &mut DuplexStream, answer: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(origin.read_u8().await.expect("a head"));
        }
        let answer = origin.write_all(answer.as_bytes()).await;
        answer.expect("an open connection");
    }

    async fn content(sender: &DrivenSender<Content>, mut body: Incoming) -> Bytes {
        let mut whole = Vec::new();
        loop {
            let frame =
                poll_fn(|cx| sender.poll_content(cx, |cx| Pin::new(&mut body).poll_frame(cx)));
            let Some(frame) = frame.await else {
                return whole.into();
            };
            let frame = frame.expect("content").into_data();
            whole.extend_from_slice(&frame.expect("no trailers"));
        }
    }

    #[tokio::test]
    async fn h1_a_request_without_content_drives_its_connection() {
        let (mut sender, mut task, mut origin) = connection().await;
        for _ in 0..3 {
            let answer = sender.send(request(""));
            let served = serve(
                &mut origin,
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            );
            let (answer, ()) = tokio::join!(answer, served);
            let body = answer.map_err(|_| ()).expect("an answer").into_body();
            assert!(poll!(&mut task).is_pending());
            assert_eq!(content(&sender, body).await, "hello");
            sender.leave();
            assert!(sender.is_ready());
        }
        // Between two requests its own task notices that the origin closes.
        drop(origin);
        task.await;
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn h1_a_request_with_content_leaves_the_connection_to_its_own_task() {
        let (mut sender, mut task, mut origin) = connection().await;
        let mut answer = Box::pin(sender.send(request("content")));
        for _ in 0..3 {
            assert!(poll!(&mut answer).is_pending());
        }
        let mut none = [0];
        assert!(poll!(Box::pin(origin.read(&mut none))).is_pending());
        assert!(poll!(&mut task).is_pending());
        serve(&mut origin, "HTTP/1.1 204 No Content\r\n\r\n").await;
        let (answer, ()) = tokio::join!(answer, async {
            assert!(poll!(&mut task).is_pending());
        });
        assert_eq!(answer.map_err(|_| ()).expect("an answer").status(), 204);
    }

    #[tokio::test]
    async fn h1_a_connection_ends_with_a_request_that_is_abandoned() {
        let (mut sender, task, mut origin) = connection().await;
        let task = tokio::spawn(task);
        let mut answer = Box::pin(sender.send(request("")));
        assert!(poll!(&mut answer).is_pending());
        drop((answer, sender));
        task.await.expect("no panic");
        let mut head = Vec::new();
        let closed = origin.read_to_end(&mut head).await;
        closed.expect("the end of the connection");
    }

    #[tokio::test]
    async fn h1_a_request_learns_that_its_connection_has_ended() {
        let (mut sender, task, mut origin) = connection().await;
        let task = tokio::spawn(task);
        let answer = sender.send(request(""));
        let served = async {
            serve(&mut origin, "HTTP/1.1 200 OK\r\nContent-Le").await;
            drop(origin);
        };
        let (answer, ()) = tokio::join!(answer, served);
        assert!(answer.is_err());
        drop(sender);
        task.await.expect("no panic");
    }
}
