//! One request as the origin received it.

use std::io;

use serde_json::{Value, json};

use crate::wire::{Fields, Head, latin1};

/// One request as the origin received it, with its raw head.
#[derive(Clone, Debug)]
pub struct Request {
    /// The index of the origin's connection, in the order of acceptance.
    pub connection: usize,
    /// The method, in its own case.
    pub method: String,
    /// The request-target, as it was sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The header fields, in their order and spelling.
    pub headers: Fields,
    /// The request line and the fields as they were on the wire.
    pub raw_head: Vec<u8>,
    /// The part of the body that has arrived, without its framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Fields,
    /// Whether the body has arrived to its end.
    pub complete: bool,
}

impl Request {
    pub(super) fn parse(connection: usize, head: Head) -> io::Result<Self> {
        let mut parts = head.start.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, head.start));
        };
        Ok(Self {
            connection,
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            headers: head.fields,
            raw_head: head.raw,
            body: Vec::new(),
            trailers: Fields::default(),
            complete: false,
        })
    }

    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Its authority: the `Host` field, or its pseudo-header field in HTTP/2.
    pub fn authority(&self) -> &str {
        let named = self.header("host").or_else(|| self.header(":authority"));
        named.unwrap_or_default()
    }

    /// The body as text; a byte above 0x7F appears as the Latin-1 character.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The request as JSON, as [`super::Answer::Echo`] sends it.
    pub fn to_json(&self) -> Value {
        json!({
            "method": self.method,
            "target": self.target,
            "version": self.version,
            "headers": self.headers.iter().collect::<Vec<_>>(),
            "body": self.text(),
            "trailers": self.trailers.iter().collect::<Vec<_>>(),
        })
    }

    /// Whether the connection ends after this request (RFC 9112 section 9.3).
    pub(super) fn is_last(&self) -> bool {
        self.headers.closes() || (self.version == "HTTP/1.0" && self.header("connection").is_none())
    }
}
