//! Shared by both sides of HTTP/2: a body that is sent frame by frame, and fields in the form that
//! tests use.

use std::future::poll_fn;

use bytes::Bytes;
use h2::SendStream;
use hyper::HeaderMap;
use hyper::body::Frame;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::wire::{Fields, latin1};

/// A body whose frames come from a channel; it ends when the sender is dropped.
pub(crate) struct Frames(UnboundedReceiver<Frame<Bytes>>);

/// The other end of [`Frames`].
pub(crate) type Sender = UnboundedSender<Frame<Bytes>>;

impl Frames {
    pub(crate) fn open() -> (Sender, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    pub(crate) fn empty() -> Self {
        Self::open().1
    }

    /// One frame, or none for an empty body.
    pub(crate) fn whole(body: &[u8]) -> Self {
        let (sender, frames) = Self::open();
        if !body.is_empty() {
            send(&sender, body);
        }
        frames
    }

    /// Whether the headers end the stream: the sender has gone, and has sent nothing.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }

    /// Sends the body, which is not empty, to its end. Sends no faster than the peer takes it.
    pub(crate) async fn send(mut self, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
        while let Some(frame) = self.0.recv().await {
            match frame.into_data() {
                Ok(mut data) => {
                    while !data.is_empty() {
                        stream.reserve_capacity(data.len());
                        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                            return Ok(());
                        };
                        let part = data.split_to(room?.min(data.len()));
                        stream.send_data(part, false)?;
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("data or trailers");
                    return stream.send_trailers(trailers);
                }
            }
        }
        stream.send_data(Bytes::new(), true)
    }
}

/// Sends data. If the stream is gone, the data is dropped.
pub(crate) fn send(to: &Sender, data: &[u8]) {
    let frame = Frame::data(Bytes::copy_from_slice(data));
    let _: Result<(), mpsc::error::SendError<_>> = to.send(frame);
}

/// Sends trailers likewise.
pub(crate) fn send_trailers<N: AsRef<str>, V: AsRef<str>>(to: &Sender, trailers: &[(N, V)]) {
    let frame = Frame::trailers(map(trailers));
    let _: Result<(), mpsc::error::SendError<_>> = to.send(frame);
}

/// Fields in hyper's form.
pub(crate) fn map<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> HeaderMap {
    let pair = |(name, value): &(N, V)| {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes()).expect("a field name");
        let value = HeaderValue::from_str(value.as_ref()).expect("a field value");
        (name, value)
    };
    pairs.iter().map(pair).collect()
}

/// Fields from hyper's form: the values of one name are in order, the names in
/// lower case, as HTTP/2 has them.
pub(crate) fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), latin1(value.as_bytes())))
        .collect()
}

pub(crate) fn fields(map: &HeaderMap) -> Fields {
    Fields::from_pairs(pairs(map))
}
