//! Observations on an origin connection that explain a failure.
//!
//! hyper reports less about an unreadable answer than an operator needs: a bad version and an SSH
//! greeting are the same error, and h2 drops the TLS alert that ended its connection. So the stream below
//! them notes how answers begin and how the connection ended.
//! [`AnswerError`](super::answer_error::AnswerError) derives the causes.

use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::observed::Observer;
use crate::stream_end::StreamEnd;

/// Most bytes of an HTTP/1 head: hyper's limit.
pub(super) const MAX_HEAD: usize = 8192 + 4096 * 100;
/// How interim answers begin.
const INTERIM: &[u8] = b"HTTP/1.1 1";
const INTERIM_1_0: &[u8] = b"HTTP/1.0 1";

/// The observations on one connection so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence(Arc<Mutex<ObservedAnswer>>);

#[derive(Debug, Default)]
pub(super) struct ObservedAnswer {
    /// The origin requested a client certificate in the TLS handshake.
    pub(super) requested_certificate: bool,
    /// The connection reads HTTP/2 frames, not lines.
    pub(super) has_frames: bool,
    /// An earlier answer was complete.
    pub(super) has_answered: bool,
    /// The first bytes of the answer.
    start: [u8; INTERIM.len()],
    /// Bytes of the answer's head, counted up to the limit of a head. Over HTTP/2, bytes of all frames.
    pub(super) bytes: usize,
    /// Line ends among them; frames have none.
    pub(super) lines: usize,
    /// Bytes of the line that has not ended.
    line: usize,
    part: AnswerPart,
    /// How the connection ended, if it did.
    pub(super) end: Option<StreamEnd>,
}

/// Which part of an answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AnswerPart {
    #[default]
    Head,
    Content,
}

impl Evidence {
    /// Notes that the origin requested a client certificate in the TLS handshake.
    pub(super) fn note_certificate_request(&self) {
        self.lock().requested_certificate = true;
    }

    /// Notes that the connection uses HTTP/2.
    pub(super) fn note_http2(&self) {
        self.lock().has_frames = true;
    }

    /// Notes that an answer is complete, and that another one may begin.
    pub(super) fn note_end_of_answer(&self) {
        let mut observed = self.lock();
        *observed = ObservedAnswer {
            requested_certificate: observed.requested_certificate,
            has_frames: observed.has_frames,
            has_answered: true,
            end: observed.end,
            ..ObservedAnswer::default()
        };
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ObservedAnswer> {
        self.0.lock()
    }

    fn note_bytes(&self, bytes: &[u8]) {
        let mut observed = self.lock();
        if bytes.is_empty() {
            observed.end.get_or_insert(StreamEnd::Closed);
        } else if observed.bytes < MAX_HEAD {
            observed.count(bytes);
        }
    }

    fn note_error(&self, error: &io::Error) {
        self.lock().end.get_or_insert(StreamEnd::of(error));
    }
}

impl ObservedAnswer {
    /// Counts bytes up to the end of a head. Scanning content would cost as much as moving it.
    fn count(&mut self, mut bytes: &[u8]) {
        if self.has_frames {
            return self.add(bytes);
        }
        while self.part == AnswerPart::Head && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            self.add(part);
            self.line += part.len();
            if end.is_some() {
                self.end_line();
            }
            bytes = rest;
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.start.get_mut(self.bytes..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.bytes += bytes.len();
    }

    fn end_line(&mut self) {
        self.lines += 1;
        // CR LF, or LF alone.
        let is_empty = std::mem::take(&mut self.line) <= 2;
        if !is_empty {
            return;
        }
        if self.begins_with(INTERIM) || self.begins_with(INTERIM_1_0) {
            // Another head follows.
            (self.bytes, self.lines) = (0, 0);
        } else {
            self.part = AnswerPart::Content;
        }
    }

    /// Whether the answer begins with these bytes, or the bytes so far are a prefix of them.
    pub(super) fn begins_with(&self, text: &[u8]) -> bool {
        let length = self.bytes.min(self.start.len()).min(text.len());
        self.start[..length] == text[..length]
    }
}

/// Observes the stream to an origin.
impl Observer for Evidence {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note_bytes(bytes);
        Ok(())
    }

    fn read_failed(&mut self, error: &io::Error) {
        self.note_error(error);
    }

    fn write_failed(&mut self, error: &io::Error) {
        self.note_error(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h8_the_lines_of_the_last_head_are_counted_and_content_is_not() {
        const ANSWER: &str = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n\n\n\ncontent\n";
        for (text, lines, bytes) in [
            (ANSWER.to_owned(), 3, 25),
            (ANSWER.replace("\r\n", "\n"), 3, 22),
            (format!("HTTP/1.1 103 Hints\r\nA: b\r\n\r\n{ANSWER}"), 3, 25),
            (format!("HTTP/1.0 100 Go on\r\n\r\n{ANSWER}"), 3, 25),
            ("220 mail.test\r\n".to_owned(), 1, 15),
            (
                "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(2000),
                2001,
                12_017,
            ),
        ] {
            for length in [1, 2, 3, text.len()] {
                let mut observed = ObservedAnswer::default();
                for part in text.as_bytes().chunks(length) {
                    observed.count(part);
                }
                assert_eq!(
                    (observed.lines, observed.bytes),
                    (lines, bytes),
                    "{length}: {text:.40}"
                );
            }
        }
    }

    #[test]
    fn h8_over_http2_all_bytes_count_and_no_lines() {
        let mut observed = ObservedAnswer {
            has_frames: true,
            ..ObservedAnswer::default()
        };
        observed.count(b"\n\n\nabc\n");
        assert_eq!((observed.lines, observed.bytes), (0, 7));
    }
}
