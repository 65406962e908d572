//! One connection to an origin, from its first byte to its last.

use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::to_vec;

use super::answer::{AfterReply, write_head};
use super::handshake::ClientHello;
use super::{Answer, EarlyScript, Request, Script, State, Unread, http2};
use crate::wait::{TIMEOUT, Watched};
use crate::wire::{self, SharedSocket, Stream, Wire};

/// The protocol of an origin.
#[derive(Clone)]
pub(super) enum Protocol {
    Http {
        early: Arc<EarlyScript>,
        unread: Arc<Unread>,
        script: Arc<Script>,
    },
    Echo,
}

/// How a connection ends from the origin's side.
enum End {
    /// A close after everything was sent.
    Orderly,
    /// A reset; bytes under way are lost.
    Reset,
}

/// Serves one accepted connection until either side ends it.
pub(super) fn connection(
    socket: &SharedSocket,
    index: usize,
    protocol: &Protocol,
    tls: Option<Arc<ServerConfig>>,
    state: &Arc<Watched<State>>,
) -> io::Result<()> {
    wire::prepare(socket, TIMEOUT)?;
    let mut stream = socket.clone();
    let stream: Box<dyn Stream> = match (tls, protocol) {
        (None, _) => Box::new(stream),
        (Some(config), protocol) => {
            let hello = ClientHello::read(&mut stream, index, state)?;
            if let Protocol::Http { early, script, .. } = protocol
                && hello.chooses_http2(&config)
            {
                let connection = http2::Connection {
                    index,
                    early: Arc::clone(early),
                    script: Arc::clone(script),
                    state: Arc::clone(state),
                };
                return connection.serve(hello, stream.try_clone()?, config);
            }
            let session = hello.finish(&mut stream, config, state)?;
            Box::new(Tls(StreamOwned::new(session, stream)))
        }
    };
    let wire = Wire::new(stream);
    let end = match protocol {
        Protocol::Echo => echo(wire),
        Protocol::Http {
            early,
            unread,
            script,
        } => Http {
            wire,
            socket,
            state,
            index,
        }
        .serve(&**early, &**unread, &**script),
    }?;
    match end {
        End::Orderly => linger(socket),
        End::Reset => socket2::SockRef::from(&**socket).set_linger(Some(Duration::ZERO)),
    }
}

/// Ends a connection so that the sent bytes still arrive: a close with unread bytes would reset it
/// (RFC 9112 section 9.6).
fn linger(mut socket: &TcpStream) -> io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    io::copy(&mut socket, &mut io::sink())?;
    Ok(())
}

/// TLS that sends `close_notify` when it ends, so that clients know whether an answer was cut
/// short.
struct Tls(StreamOwned<ServerConnection, SharedSocket>);

impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Tls {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Tls {
    fn finish(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // The peer may already be gone.
        let _: io::Result<()> = self.finish();
    }
}

/// An HTTP connection and where its requests are recorded.
struct Http<'a> {
    wire: Wire<Box<dyn Stream>>,
    socket: &'a TcpStream,
    state: &'a Watched<State>,
    index: usize,
}

impl Http<'_> {
    fn serve(mut self, early: &EarlyScript, unread: &Unread, script: &Script) -> io::Result<End> {
        while let Some(head) = self.wire.read_head()? {
            let request = Request::parse(self.index, head)?;
            let entry = self.state.update(|state| {
                state.requests.push(request.clone());
                state.requests.len() - 1
            });
            if let Some(answer) = early(&request) {
                return Ok(match self.answer(&request, answer)? {
                    Next::Request => End::Orderly,
                    Next::End(end) => end,
                });
            }
            if !unread(&request) {
                self.read_body(&request, entry)?;
            }
            let request = self.state.lock().requests[entry].clone();
            match self.answer(&request, script(&request))? {
                Next::End(end) => return Ok(end),
                Next::Request if request.is_last() => return Ok(End::Orderly),
                Next::Request => {}
            }
        }
        Ok(End::Orderly)
    }

    fn read_body(&mut self, request: &Request, entry: usize) -> io::Result<()> {
        if request
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            write_head(self.wire.stream(), 100, &[], "")?;
            self.wire.stream().flush()?;
        }
        let sink = |part: &[u8]| {
            self.state
                .update(|state| state.requests[entry].body.extend_from_slice(part));
        };
        let trailers = if request.headers.is_chunked() {
            self.wire.read_chunked(sink)?
        } else {
            let length = request.headers.content_length()?.unwrap_or(0);
            self.wire.read_sized(length, sink)?;
            wire::Fields::default()
        };
        self.state.update(|state| {
            state.requests[entry].trailers = trailers;
            state.requests[entry].complete = true;
        });
        Ok(())
    }

    fn answer(&mut self, request: &Request, answer: Answer) -> io::Result<Next> {
        match answer {
            Answer::Reply(reply) => {
                let mut writer = BufWriter::new(self.wire.stream());
                return Ok(match reply.write(request, &mut writer)? {
                    AfterReply::KeepAlive => Next::Request,
                    AfterReply::Close => Next::End(End::Orderly),
                });
            }
            Answer::Echo => {
                let body = to_vec(&request.to_json())?;
                return self.answer(request, Answer::bytes("application/json", &body));
            }
            Answer::Upgrade(headers) => {
                write_head(self.wire.stream(), 101, &headers, "Connection: Upgrade\r\n")?;
                self.wire.stream().flush()?;
                echo_on(&mut self.wire)?;
            }
            Answer::Raw(bytes) => {
                self.wire.stream().write_all(&bytes)?;
                self.wire.stream().flush()?;
            }
            Answer::Silence => {
                self.socket.set_read_timeout(None)?;
                self.wire.read_to_end(|_| ())?;
            }
            Answer::Mirror => panic!("HTTP/1.1 has no answer that mirrors"),
            Answer::Close => {}
            Answer::Reset => return Ok(Next::End(End::Reset)),
        }
        Ok(Next::End(End::Orderly))
    }
}

/// The next step after an answer.
enum Next {
    Request,
    End(End),
}

fn echo(mut wire: Wire<Box<dyn Stream>>) -> io::Result<End> {
    echo_on(&mut wire)?;
    Ok(End::Orderly)
}

/// Echoes every read in one write, until the peer closes.
fn echo_on(wire: &mut Wire<Box<dyn Stream>>) -> io::Result<()> {
    loop {
        let part = wire.read_some()?;
        if part.is_empty() {
            return Ok(());
        }
        wire.stream().write_all(&part)?;
        wire.stream().flush()?;
    }
}
