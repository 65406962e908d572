//! Content that goes out over HTTP/2.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body;

use crate::incoming::BodyError;

/// Why content was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The content broke off. The caller must reset the stream.
    #[error("the content broke off")]
    Content(#[source] BodyError),
    /// The peer reset the stream, or the connection ended.
    #[error("the stream has ended")]
    Stream(#[source] Option<h2::Error>),
}

/// Sends content with its trailer fields, and ends this side of the stream. It requests a part of the
/// content when h2 has taken the part before, so at most one part waits outside of the buffer of h2.
pub(crate) async fn send<B>(mut content: B, stream: &mut SendStream<Bytes>) -> Result<(), SendError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    loop {
        let frame = poll_fn(|cx| {
            poll_reset(stream, cx)?;
            Pin::new(&mut content)
                .poll_frame(cx)
                .map(Ok::<_, SendError>)
        });
        match frame.await? {
            None => {
                stream.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Some(Err(error)) => return Err(SendError::Content(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let is_last = content.is_end_stream();
                    if !data.is_empty() {
                        room(stream).await?;
                    }
                    stream.send_data(data, is_last)?;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        stream.send_trailers(trailers)?;
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// Waits until the window has room for a byte. A larger reservation would take the window of the
/// connection from other streams; h2 reserves the rest when it has the data.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), SendError> {
    stream.reserve_capacity(1);
    poll_fn(|cx| {
        loop {
            if stream.capacity() > 0 {
                return Poll::Ready(Ok(()));
            }
            poll_reset(stream, cx)?;
            match ready!(stream.poll_capacity(cx)) {
                Some(capacity) => capacity?,
                None => return Poll::Ready(Err(SendError::Stream(None))),
            };
        }
    })
    .await
}

/// Fails if the peer has reset the stream. Otherwise it wakes the task when the peer does.
fn poll_reset(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Result<(), SendError> {
    match stream.poll_reset(cx)? {
        Poll::Ready(reason) => Err(SendError::Stream(Some(reason.into()))),
        Poll::Pending => Ok(()),
    }
}

/// The reason of the stream reset that caused an error, to reset another stream with the same reason.
pub(crate) fn reason(error: &BodyError) -> Option<Reason> {
    let mut error: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    while let Some(cause) = error {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            return cause.reason().filter(|reason| *reason != Reason::NO_ERROR);
        }
        error = cause.source();
    }
    None
}

impl From<h2::Error> for SendError {
    fn from(error: h2::Error) -> Self {
        Self::Stream(Some(error))
    }
}
