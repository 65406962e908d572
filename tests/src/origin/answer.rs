//! The possible answers of an origin.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex;
use serde_json::Value;

use super::Request;

/// One answer of an origin. Over HTTP/2 `Upgrade` and `Raw` do not exist; a test that uses them is
/// wrong.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A response.
    Reply(Reply),
    /// 200 with the request itself as JSON (see [`Request::to_json`]).
    Echo,
    /// 101 with these fields besides `Connection: Upgrade`, then echoes every byte.
    Upgrade(Vec<(String, String)>),
    /// Exactly these bytes, then a close.
    Raw(Vec<u8>),
    /// No answer; the connection stays open until the peer ends it.
    Silence,
    /// 200 with the request's own body, piece by piece as it arrives, and its trailers: only over
    /// HTTP/2, and only [before the body](super::Builder::before_body).
    Mirror,
    /// No answer, and a close: an orderly one in HTTP/1.1; in HTTP/2 it ends every stream.
    Close,
    /// No answer, and a reset: of the connection in HTTP/1.1, of the stream in HTTP/2.
    Reset,
}

/// A response to be written.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 1xx responses sent before the final one, each with its fields.
    pub interim: Vec<(u16, Vec<(String, String)>)>,
    /// The status code.
    pub status: u16,
    /// The fields, except those that frame the body.
    pub headers: Vec<(String, String)>,
    /// The body, which also determines its framing.
    pub body: Body,
}

/// A response's body and how it is framed.
#[derive(Clone, Debug)]
pub enum Body {
    /// Whole, with `Content-Length`.
    Sized(Vec<u8>),
    /// One chunk each, then trailers.
    Chunked {
        /// The chunks, none of them empty.
        chunks: Vec<Vec<u8>>,
        /// The fields after the last chunk.
        trailers: Vec<(String, String)>,
    },
    /// One chunk for each part that the [`Gate`] releases, when it releases it.
    Stepped(Arc<Mutex<Receiver<Vec<u8>>>>),
    /// Unframed: it ends when the connection does.
    UntilClose(Vec<u8>),
}

/// Releases a body step by step; dropping it ends the body.
#[derive(Debug)]
pub struct Gate(Sender<Vec<u8>>);

impl Gate {
    /// A gate, and the body that passes through it once.
    pub fn new() -> (Self, Body) {
        let (sender, receiver) = mpsc::channel();
        let body = Body::Stepped(Arc::new(Mutex::new(receiver)));
        (Self(sender), body)
    }

    /// Releases these bytes now. If the answer has already failed they are dropped.
    pub fn release(&self, part: &[u8]) {
        let _: Result<(), mpsc::SendError<_>> = self.0.send(part.to_vec());
    }
}

impl Answer {
    /// 200 with a text body.
    pub fn text(body: &str) -> Self {
        Self::bytes("text/plain", body.as_bytes())
    }

    /// 200 with a JSON body.
    pub fn json(body: &Value) -> Self {
        Self::bytes("application/json", body.to_string().as_bytes())
    }

    /// 200 with any body.
    pub fn bytes(content_type: &str, body: &[u8]) -> Self {
        Self::Reply(
            Reply::new(200, Body::Sized(body.to_vec())).header("Content-Type", content_type),
        )
    }

    /// A status code with its number as the body.
    pub fn status(status: u16) -> Self {
        Self::Reply(Reply::new(status, Body::Sized(status.to_string().into())))
    }
}

impl Reply {
    /// A response without fields of its own.
    pub fn new(status: u16, body: Body) -> Self {
        Self {
            interim: Vec::new(),
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a 1xx response before the final one.
    #[must_use]
    pub fn interim(mut self, status: u16, headers: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.interim
            .push((status, headers.iter().map(owned).collect()));
        self
    }

    /// Writes the response; returns whether another may follow on the connection.
    pub(super) fn write(&self, request: &Request, to: &mut dyn Write) -> io::Result<AfterReply> {
        for (status, headers) in &self.interim {
            write_head(to, *status, headers, "")?;
            to.flush()?;
        }
        let framing = match &self.body {
            // RFC 9110 section 8.6: no Content-Length with 1xx or 204.
            Body::Sized(_) if self.status == 204 => String::new(),
            Body::Sized(body) => format!("Content-Length: {}\r\n", body.len()),
            Body::Chunked { .. } | Body::Stepped(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Body::UntilClose(_) => "Connection: close\r\n".to_owned(),
        };
        write_head(to, self.status, &self.headers, &framing)?;
        if request.method != "HEAD" && !matches!(self.status, 204 | 304) {
            self.body.write(to)?;
        }
        to.flush()?;
        Ok(match self.body {
            Body::UntilClose(_) => AfterReply::Close,
            _ => AfterReply::KeepAlive,
        })
    }
}

/// The state of the connection after a response.
pub(super) enum AfterReply {
    KeepAlive,
    Close,
}

impl Body {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Sized(body) | Self::UntilClose(body) => to.write_all(body),
            Self::Chunked { chunks, trailers } => {
                for chunk in chunks {
                    write_chunk(to, chunk)?;
                }
                to.write_all(b"0\r\n")?;
                write_fields(to, trailers)?;
                to.write_all(b"\r\n")
            }
            Self::Stepped(receiver) => {
                to.flush()?;
                let receiver = receiver.lock();
                for chunk in receiver.iter() {
                    write_chunk(to, &chunk)?;
                    to.flush()?;
                }
                to.write_all(b"0\r\n\r\n")
            }
        }
    }
}

fn write_chunk(to: &mut dyn Write, chunk: &[u8]) -> io::Result<()> {
    write!(to, "{:x}\r\n", chunk.len())?;
    to.write_all(chunk)?;
    to.write_all(b"\r\n")
}

pub(super) fn write_head(
    to: &mut dyn Write,
    status: u16,
    headers: &[(String, String)],
    framing: &str,
) -> io::Result<()> {
    write!(to, "HTTP/1.1 {status} {}\r\n", reason(status))?;
    write_fields(to, headers)?;
    write!(to, "{framing}\r\n")
}

fn write_fields(to: &mut dyn Write, fields: &[(String, String)]) -> io::Result<()> {
    for (name, value) in fields {
        write!(to, "{name}: {value}\r\n")?;
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        404 => "Not Found",
        417 => "Expectation Failed",
        _ => "As Scripted",
    }
}
