//! Moves bytes between two sockets.
//!
//! Bytes are first read into a buffer that all tunnels of a thread share, since most pieces are small. When a
//! read fills the buffer, the kernel moves the further bytes through a pipe ([`pipes`](crate::pipes)), without
//! a copy, until a piece is small again. Without a pipe, all bytes are copied.
//!
//! While nothing flows, a direction holds neither buffer nor pipe.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;

use super::{RelayDirection, RelayError};
use crate::activity::Activity;
use crate::enforce::Flow;
use crate::pipes::{Pipe, PipePool};
use crate::poll_later::poll_later;

/// Most bytes that are copied at once.
const BUFFER: usize = 32 * 1024;
/// After a smaller piece, bytes are copied again: two calls for so few bytes cost more than their copy.
const MIN_SPLICED: usize = 16 * 1024;
/// Most bytes that a direction moves before other tasks of its thread run. A smaller piece than [`MIN_SPLICED`]
/// counts as one of that size, since each piece costs calls to the kernel: a turn has 64 pieces at most.
/// A socket of the unit tests holds two of their turns.
pub(super) const MAX_TURN: usize = if cfg!(test) { 128 * 1024 } else { 1024 * 1024 };

thread_local! {
    /// The buffer of all copies on this thread. It is in use only during a poll.
    static COPY_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client and an upstream, with both directions between them.
pub(crate) struct SocketRelay {
    client: TcpStream,
    upstream: TcpStream,
    there: Direction,
    back: Direction,
}

/// One direction.
struct Direction {
    held: Held,
    way: Way,
    stage: Stage,
}

/// Bytes that were read and not yet written.
enum Held {
    Nothing,
    Bytes(Bytes),
    InPipe(Pipe),
}

/// How the next bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Copied,
    Spliced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The end was read. It is passed on behind the bytes that are held.
    Ending,
    Done,
}

/// A piece that was read.
enum Piece {
    InBuffer(usize),
    InPipe(usize),
}

/// The sockets of a direction, and its part of one poll.
struct Turn<'a> {
    from: &'a TcpStream,
    to: &'a mut TcpStream,
    pipes: &'a PipePool,
    direction: RelayDirection<'a>,
    /// How many bytes have been read, as [`MAX_TURN`] counts them.
    read: usize,
    /// Whether any bytes were moved.
    has_moved: bool,
}

impl SocketRelay {
    /// `early` goes to the upstream first, and `behind` to the client.
    pub(crate) fn new(client: TcpStream, upstream: TcpStream, early: Bytes, behind: Bytes) -> Self {
        Self {
            client,
            upstream,
            there: Direction::new(early),
            back: Direction::new(behind),
        }
    }

    /// Moves bytes both ways. It is ready when both directions are done, or one breaks.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &PipePool,
        activity: &Activity,
        flow: &Flow,
    ) -> Poll<Result<(), RelayError>> {
        let mut there = Turn {
            from: &self.client,
            to: &mut self.upstream,
            pipes,
            direction: RelayDirection::ToUpstream(flow),
            read: 0,
            has_moved: false,
        };
        let there_ended = self.there.poll(cx, &mut there);
        let mut has_moved = there.has_moved;
        let back_ended = if matches!(there_ended, Poll::Ready(Err(_))) {
            Poll::Pending
        } else {
            let mut back = Turn {
                from: &self.upstream,
                to: &mut self.client,
                pipes,
                direction: RelayDirection::ToClient(flow),
                read: 0,
                has_moved: false,
            };
            let ended = self.back.poll(cx, &mut back);
            has_moved |= back.has_moved;
            ended
        };
        if has_moved {
            activity.note();
        }
        match (there_ended, back_ended) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Makes both connections end with a reset.
    pub(crate) fn reset(&self) {
        let _ = (
            self.client.set_zero_linger(),
            self.upstream.set_zero_linger(),
        );
    }
}

impl Direction {
    /// Bytes that were read before go first.
    fn new(early: Bytes) -> Self {
        Self {
            held: if early.is_empty() {
                Held::Nothing
            } else {
                Held::Bytes(early)
            },
            way: Way::Copied,
            stage: Stage::Open,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> Poll<Result<(), RelayError>> {
        let ended = self.poll_end(cx, turn);
        // The pipe returns to the pool as soon as this direction waits.
        if matches!(&self.held, Held::InPipe(pipe) if pipe.is_empty()) {
            self.held = Held::Nothing;
        }
        ended
    }

    fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut Turn<'_>,
    ) -> Poll<Result<(), RelayError>> {
        let direction = turn.direction;
        while self.stage != Stage::Done {
            ready!(self.poll_write(cx, turn)).map_err(|error| direction.target(error))?;
            if self.stage == Stage::Ending {
                let shut = Pin::new(&mut *turn.to).poll_shutdown(cx);
                ready!(shut).map_err(|error| direction.target(error))?;
                self.stage = Stage::Done;
            } else if turn.read >= MAX_TURN {
                return poll_later(cx);
            } else {
                ready!(self.poll_read(cx, turn))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the bytes that are held.
    fn poll_write(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> Poll<io::Result<()>> {
        loop {
            let to = &*turn.to;
            let written = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::InPipe(pipe) if pipe.is_empty() => return Poll::Ready(Ok(())),
                Held::InPipe(pipe) => to.try_io(Interest::WRITABLE, || pipe.drain(to)),
                Held::Bytes(bytes) => to
                    .try_write(bytes)
                    .inspect(|&written| bytes.advance(written)),
            };
            match written {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => turn.moved(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(to.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            if matches!(&self.held, Held::Bytes(bytes) if bytes.is_empty()) {
                self.held = Held::Nothing;
            }
        }
    }

    /// Reads a piece, and writes it if it was copied.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut Turn<'_>,
    ) -> Poll<Result<(), RelayError>> {
        let direction = turn.direction;
        if self.way == Way::Spliced && !matches!(self.held, Held::InPipe(_)) {
            match turn.pipes.take() {
                Some(pipe) => self.held = Held::InPipe(pipe),
                None => self.way = Way::Copied,
            }
        }
        COPY_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(BUFFER, 0);
            loop {
                let from = turn.from;
                let read = from.try_io(Interest::READABLE, || {
                    if let (Way::Spliced, Held::InPipe(pipe)) = (self.way, &mut self.held)
                        && let Some(moved) = pipe.fill(from)?
                    {
                        return Ok(Piece::InPipe(moved));
                    }
                    read(from, buffer).map(Piece::InBuffer)
                });
                match read {
                    Ok(Piece::InPipe(moved)) => {
                        turn.read(moved);
                        if moved < MIN_SPLICED {
                            self.way = Way::Copied;
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Piece::InBuffer(0)) => {
                        self.stage = Stage::Ending;
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Piece::InBuffer(length)) => {
                        turn.read(length);
                        self.way = if length == buffer.len() {
                            Way::Spliced
                        } else {
                            Way::Copied
                        };
                        self.held = turn.write(&buffer[..length])?;
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let ready = ready!(from.poll_read_ready(cx));
                        ready.map_err(|error| direction.source(error))?;
                    }
                    Err(error) => return Poll::Ready(Err(direction.source(error))),
                }
            }
        })
    }
}

impl Turn<'_> {
    fn read(&mut self, bytes: usize) {
        self.read += bytes.max(MIN_SPLICED);
        self.has_moved = true;
    }

    fn moved(&mut self, bytes: usize) {
        self.direction.moved(bytes);
        self.has_moved = true;
    }

    /// Writes what the socket takes of these bytes at once, and returns the rest.
    fn write(&mut self, bytes: &[u8]) -> Result<Held, RelayError> {
        let written = match self.to.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(self.direction.target(error)),
        };
        self.moved(written);
        Ok(match &bytes[written..] {
            [] => Held::Nothing,
            rest => Held::Bytes(Bytes::copy_from_slice(rest)),
        })
    }
}

fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut &*SockRef::from(from), buffer)
}
