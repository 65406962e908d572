//! One HTTP/2 connection to an origin: h2 implements the protocol, the test gives the answers.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use hyper::body::Frame;
use hyper::{Method, Response};
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_rustls::server::StartHandshake;

use super::handshake::{self, ClientHello};
use super::{Answer, Body, EarlyScript, Reply, Request, Script, State};
use crate::frames::{self, Frames};
use crate::wait::{TIMEOUT, Watched};
use crate::wire::Fields;

/// Bytes of requests that may come before they are read: in a stream, and in all of them.
const STREAM_WINDOW: u32 = 1 << 20;
const WINDOW: u32 = 64 << 20;
const MAX_STREAMS: u32 = 200;

/// The scripts and the records of a connection.
pub(super) struct Connection {
    pub(super) index: usize,
    pub(super) early: Arc<EarlyScript>,
    pub(super) script: Arc<Script>,
    pub(super) state: Arc<Watched<State>>,
}

impl Connection {
    /// Completes the handshake and serves until either side ends the connection.
    pub(super) fn serve(
        self,
        hello: ClientHello,
        socket: TcpStream,
        config: Arc<ServerConfig>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let served = runtime.block_on(self.run(hello, socket, config));
        // A script may still block; its answer is no longer needed.
        runtime.shutdown_background();
        served
    }

    async fn run(
        self,
        hello: ClientHello,
        socket: TcpStream,
        config: Arc<ServerConfig>,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpStream::from_std(socket)?;
        let (accepted, entry) = hello.into_parts();
        let start = StartHandshake::from_parts(accepted, socket);
        let stream = tokio::time::timeout(TIMEOUT, start.into_stream(config)).await??;
        handshake::finished(entry, stream.get_ref().1, &self.state);
        let connection = Arc::new(self);
        let close = Arc::new(Notify::new());
        let mut serving = server::Builder::new()
            // Requests that a test leaves unread do not block others.
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        loop {
            let accepted = tokio::select! {
                accepted = serving.accept() => accepted,
                () = close.notified() => return Ok(()),
            };
            let Some(accepted) = accepted else {
                return Ok(());
            };
            let (request, respond) = accepted.map_err(io::Error::other)?;
            let (connection, close) = (Arc::clone(&connection), Arc::clone(&close));
            tokio::spawn(connection.serve_stream(request, respond, close));
        }
    }

    async fn serve_stream(
        self: Arc<Self>,
        request: hyper::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        close: Arc<Notify>,
    ) {
        let Ok(answer) = self.answer(request, &mut respond, close).await else {
            return respond.send_reset(Reason::INTERNAL_ERROR);
        };
        let (head, body) = answer.into_parts();
        let head = Response::from_parts(head, ());
        // A client that resets the stream does not expect the answer.
        let ends = body.is_whole();
        if let Ok(stream) = respond.send_response(head, ends)
            && !ends
        {
            let _: Result<(), h2::Error> = body.send(stream).await;
        }
    }

    /// An error resets the stream.
    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
        close: Arc<Notify>,
    ) -> io::Result<Response<Frames>> {
        let is_head = request.method() == Method::HEAD;
        let (head, body) = request.into_parts();
        let expects = head.headers.contains_key("expect");
        let request = parse(self.index, &head);
        let entry = self.state.update(|state| {
            state.requests.push(request.clone());
            state.requests.len() - 1
        });
        let early = Arc::clone(&self.early);
        let answer = match blocking(move || early(&request)).await? {
            Some(Answer::Mirror) => {
                let (sender, frames) = Frames::open();
                tokio::spawn(async move { self.read_body(body, entry, Some(sender)).await });
                return Ok(Response::new(frames));
            }
            Some(answer) => answer,
            None => {
                if expects {
                    inform::<&str, &str>(respond, 100, &[])?;
                }
                self.read_body(body, entry, None).await?;
                let request = self.state.lock().requests[entry].clone();
                let script = Arc::clone(&self.script);
                blocking(move || match script(&request) {
                    Answer::Echo => Answer::json(&request.to_json()),
                    answer => answer,
                })
                .await?
            }
        };
        match answer {
            Answer::Reply(reply) => {
                for (status, fields) in &reply.interim {
                    inform(respond, *status, fields)?;
                }
                Ok(whole(&reply, is_head))
            }
            Answer::Silence => std::future::pending().await,
            Answer::Close => {
                close.notify_one();
                std::future::pending().await
            }
            Answer::Reset => Err(io::Error::other("the test wants a reset")),
            Answer::Echo | Answer::Mirror | Answer::Upgrade(_) | Answer::Raw(_) => {
                panic!("HTTP/2 has no such answer here: {answer:?}")
            }
        }
    }

    /// Records the body as it arrives, and passes it on if it must be mirrored.
    async fn read_body(
        &self,
        mut body: RecvStream,
        entry: usize,
        mirror: Option<frames::Sender>,
    ) -> io::Result<()> {
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            // This fails if the stream has ended, when no one needs the capacity.
            let _: Result<(), h2::Error> = body.flow_control().release_capacity(data.len());
            self.state
                .update(|state| state.requests[entry].body.extend_from_slice(&data));
            if let Some(mirror) = &mirror {
                mirror.send(Frame::data(data)).map_err(io::Error::other)?;
            }
        }
        if let Some(trailers) = body.trailers().await.map_err(io::Error::other)? {
            self.state
                .update(|state| state.requests[entry].trailers = frames::fields(&trailers));
            if let Some(mirror) = &mirror {
                mirror
                    .send(Frame::trailers(trailers))
                    .map_err(io::Error::other)?;
            }
        }
        self.state
            .update(|state| state.requests[entry].complete = true);
        Ok(())
    }
}

/// The request, with its pseudo-header fields first (RFC 9113 section 8.3.1).
fn parse(connection: usize, head: &hyper::http::request::Parts) -> Request {
    let pseudo = [
        (":scheme", head.uri.scheme_str()),
        (
            ":authority",
            head.uri
                .authority()
                .map(hyper::http::uri::Authority::as_str),
        ),
    ];
    let mut headers: Vec<(String, String)> = pseudo
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    headers.extend(frames::pairs(&head.headers));
    Request {
        connection,
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        version: "HTTP/2.0".to_owned(),
        headers: Fields::from_pairs(headers),
        raw_head: Vec::new(),
        body: Vec::new(),
        trailers: Fields::default(),
        complete: false,
    }
}

/// Sends an interim answer.
fn inform<N: AsRef<str>, V: AsRef<str>>(
    respond: &mut SendResponse<Bytes>,
    status: u16,
    fields: &[(N, V)],
) -> io::Result<()> {
    let mut interim = Response::new(());
    *interim.status_mut() = status.try_into().expect("a status code");
    *interim.headers_mut() = frames::map(fields);
    respond
        .send_informational(interim)
        .map_err(io::Error::other)
}

fn whole(reply: &Reply, is_head: bool) -> Response<Frames> {
    let mut headers = frames::map(&reply.headers);
    if let Body::Sized(body) = &reply.body
        && reply.status != 204
    {
        headers.insert("content-length", body.len().into());
    }
    let body = if is_head || matches!(reply.status, 204 | 304) {
        Frames::empty()
    } else {
        stream(&reply.body)
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    *response.status_mut() = reply.status.try_into().expect("a status code");
    response
}

fn stream(body: &Body) -> Frames {
    match body {
        Body::Sized(body) | Body::UntilClose(body) => Frames::whole(body),
        Body::Chunked { chunks, trailers } => {
            let (sender, frames) = Frames::open();
            for chunk in chunks {
                frames::send(&sender, chunk);
            }
            frames::send_trailers(&sender, trailers);
            frames
        }
        Body::Stepped(receiver) => {
            let (sender, frames) = Frames::open();
            let receiver = Arc::clone(receiver);
            thread::spawn(move || {
                let receiver = receiver.lock();
                for chunk in receiver.iter() {
                    frames::send(&sender, &chunk);
                }
            });
            frames
        }
    }
}

/// Runs a script, which may block, beside the connection's other streams.
async fn blocking<R: Send + 'static>(script: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
    tokio::task::spawn_blocking(script)
        .await
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
