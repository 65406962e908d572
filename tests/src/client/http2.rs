//! A client of HTTP/2 over TLS: h2's side of the protocol, behind calls that block.

use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{self, ResponseFuture, SendRequest};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Connection, Response};
use crate::frames::{self, Frames, Sender};
use crate::tls::{self, Session, Writes};
use crate::wait::TIMEOUT;
use crate::wire::Fields;

/// The flow-control windows for the server, in bytes: of each stream, and of the connection.
const STREAM_WINDOW: u32 = 2 << 20;
const WINDOW: u32 = 5 << 20;

/// A connection that carries concurrent requests. Every wait gives up after [`TIMEOUT`].
pub struct Http2 {
    sender: SendRequest<Bytes>,
    /// Moves the bytes until the connection ends.
    driver: JoinHandle<Result<(), h2::Error>>,
    session: Session,
    runtime: Runtime,
}

/// One stream: a request under way and what comes back. Dropping it before its
/// end resets the stream.
pub struct Exchange {
    runtime: Handle,
    body: Option<Sender>,
    /// Moves the body.
    upload: Option<JoinHandle<()>>,
    response: Reply,
    trailers: Fields,
}

/// The part of the answer that was waited for.
enum Reply {
    Awaited(ResponseFuture),
    /// The connection accepted no request.
    Refused(h2::Error),
    Begun(RecvStream),
    Over,
}

impl Connection {
    /// Starts TLS like `client`, which offers `h2`, with `name`, and HTTP/2 on it.
    pub fn into_http2(self, client: &tls::Client, name: &str) -> Http2 {
        self.try_into_http2(client, name)
            .expect("a TLS handshake that chooses HTTP/2")
    }

    /// Starts TLS and HTTP/2 with a server; either side may refuse.
    ///
    /// # Errors
    /// Returns an error if the handshake failed or did not choose HTTP/2.
    pub fn try_into_http2(self, client: &tls::Client, name: &str) -> io::Result<Http2> {
        assert_eq!(client.writes(), Writes::Whole, "only HTTP/1.1 trickles");
        let (_, ahead) = self.wire.into_parts();
        assert!(ahead.is_empty(), "the server spoke before the client hello");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let connector = TlsConnector::from(client.config());
        let name = tls::server_name(name);
        self.socket.set_nonblocking(true)?;
        let socket = self.socket.try_clone()?;
        let (sender, driver, session) = within(runtime.handle(), async {
            let socket = tokio::net::TcpStream::from_std(socket)?;
            let stream = connector.connect(name, socket).await?;
            let session = Session::of(stream.get_ref().1);
            if session.alpn.as_deref() != Some("h2") {
                return Err(io::Error::other(format!("no HTTP/2: {session:?}")));
            }
            let (sender, driver) = client::Builder::new()
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(WINDOW)
                .enable_push(false)
                .handshake(stream)
                .await
                .map_err(io::Error::other)?;
            Ok((sender, tokio::spawn(driver), session))
        })?;
        Ok(Http2 {
            sender,
            driver,
            session,
            runtime,
        })
    }
}

impl Http2 {
    /// The result of the TLS handshake.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Makes a request with a whole body and reads the answer to its end.
    pub fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut exchange = self.start(method, url, headers, Frames::whole(body));
        let mut response = exchange.head();
        loop {
            let part = exchange.read_some();
            if part.is_empty() {
                break;
            }
            response.body.extend(part);
        }
        response.trailers = std::mem::take(&mut exchange.trailers);
        response
    }

    /// Begins a request without a body: its headers end the stream.
    pub fn begin(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Exchange {
        self.start(method, url, headers, Frames::empty())
    }

    /// Begins a request whose body follows.
    pub fn open(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Exchange {
        let (sender, frames) = Frames::open();
        let mut exchange = self.start(method, url, headers, frames);
        exchange.body = Some(sender);
        exchange
    }

    /// Waits until the connection has ended, from either side.
    pub fn wait_until_closed(&mut self) {
        let driver = &mut self.driver;
        within(self.runtime.handle(), async {
            // An end without a goodbye counts too.
            let _: Result<(), h2::Error> = driver.await.map_err(io::Error::other)?;
            Ok(())
        })
        .expect("the connection ends");
    }

    fn start(&self, method: &str, url: &str, headers: &[(&str, &str)], body: Frames) -> Exchange {
        let mut request = hyper::Request::new(());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = url.parse().expect("a URL with scheme and authority");
        *request.headers_mut() = frames::map(headers);
        let ends = body.is_whole();
        let mut upload = None;
        let response = match self.sender.clone().send_request(request, ends) {
            Ok((response, stream)) => {
                upload = (!ends).then(|| {
                    self.runtime.spawn(async move {
                        // The answer, or its absence, shows the result.
                        let _: Result<(), h2::Error> = body.send(stream).await;
                    })
                });
                Reply::Awaited(response)
            }
            Err(error) => Reply::Refused(error),
        };
        Exchange {
            runtime: self.runtime.handle().clone(),
            body: None,
            upload,
            response,
            trailers: Fields::default(),
        }
    }
}

impl Exchange {
    /// Sends a piece of the body.
    pub fn send(&mut self, data: &[u8]) {
        frames::send(self.body.as_ref().expect("a body that is still open"), data);
    }

    /// Ends the body, with trailers if there are any.
    pub fn finish(&mut self, trailers: &[(&str, &str)]) {
        let body = self.body.take().expect("a body that is still open");
        if !trailers.is_empty() {
            frames::send_trailers(&body, trailers);
        }
    }

    /// Waits for the head of the answer; its body is not read yet.
    pub fn head(&mut self) -> Response {
        self.try_head().expect("an answer")
    }

    /// Waits for the next interim answer; nothing if the answer comes instead.
    pub fn interim(&mut self) -> Option<(u16, Fields)> {
        let Reply::Awaited(response) = &mut self.response else {
            panic!("the head was read already");
        };
        let next = poll_fn(|cx| match response.poll_informational(cx) {
            Poll::Ready(interim) => Poll::Ready(interim.transpose().map_err(io::Error::other)),
            Poll::Pending => Poll::Pending,
        });
        let interim = within(&self.runtime, next).expect("an interim answer or an answer")?;
        Some((interim.status().as_u16(), frames::fields(interim.headers())))
    }

    /// Waits for the head of an answer that may not come.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub fn try_head(&mut self) -> io::Result<Response> {
        let response = match std::mem::replace(&mut self.response, Reply::Over) {
            Reply::Awaited(response) => response,
            Reply::Refused(error) => return Err(io::Error::other(error)),
            Reply::Begun(_) | Reply::Over => panic!("the head was read already"),
        };
        let received = within(&self.runtime, async {
            response.await.map_err(io::Error::other)
        });
        let (head, body) = received?.into_parts();
        self.response = Reply::Begun(body);
        Ok(Response {
            status: head.status.as_u16(),
            start: format!("HTTP/2.0 {}", head.status.as_u16()),
            headers: frames::fields(&head.headers),
            body: Vec::new(),
            trailers: Fields::default(),
        })
    }

    /// Reads the next piece of the answer's body; empty at its end.
    pub fn read_some(&mut self) -> Vec<u8> {
        self.try_read_some()
            .expect("more of the answer, or its end")
    }

    /// Reads the next piece of a body that may break off.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub fn try_read_some(&mut self) -> io::Result<Vec<u8>> {
        let Reply::Begun(body) = &mut self.response else {
            return Ok(Vec::new());
        };
        let trailers = &mut self.trailers;
        let next = async {
            while let Some(data) = body.data().await {
                let data = data.map_err(io::Error::other)?;
                // It fails when the stream has ended, and then nothing waits for room.
                let _: Result<(), h2::Error> = body.flow_control().release_capacity(data.len());
                if !data.is_empty() {
                    return Ok(data.to_vec());
                }
            }
            if let Some(fields) = body.trailers().await.map_err(io::Error::other)? {
                *trailers = frames::fields(&fields);
            }
            Ok(Vec::new())
        };
        let part = within(&self.runtime, next)?;
        if part.is_empty() {
            self.response = Reply::Over;
        }
        Ok(part)
    }

    /// The trailers, once [`Self::read_some`] has found the end.
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

/// Waits, but not for ever.
fn within<R>(runtime: &Handle, work: impl Future<Output = io::Result<R>>) -> io::Result<R> {
    runtime.block_on(async { timeout(TIMEOUT, work).await? })
}
