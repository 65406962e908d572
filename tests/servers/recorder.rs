//! An origin that keeps the raw bytes of each request.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use e2e::wait::TIMEOUT;
use e2e::wire::{Wire, prepare};
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The requests of all connections, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Vec<u8>>>>);

/// A stream that keeps what is read from it.
struct Tee<S> {
    stream: S,
    read: Vec<u8>,
}

impl Recorder {
    /// Listens, with or without TLS, for as long as the test runs.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> (Self, SocketAddr) {
        let recorder = Self::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("a listener has an address");
        let served = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (recorder, tls) = (served.clone(), tls.clone());
                // An incomplete request is not recorded.
                thread::spawn(move || recorder.accept(stream, tls));
            }
        });
        (recorder, addr)
    }

    /// How many requests there are, and the last of them.
    pub(crate) fn last(&self) -> (usize, Option<Vec<u8>>) {
        let requests = self.0.lock();
        (requests.len(), requests.last().cloned())
    }

    fn accept(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        prepare(&stream, TIMEOUT)?;
        match tls {
            None => self.serve(stream),
            Some(tls) => {
                let session = ServerConnection::new(tls).map_err(io::Error::other)?;
                self.serve(StreamOwned::new(session, stream))
            }
        }
    }

    fn serve(&self, stream: impl Read + Write) -> io::Result<()> {
        let read = Vec::new();
        let mut wire = Wire::new(Tee { stream, read });
        while let Some(head) = wire.read_head()? {
            if head.fields.get("expect").is_some() {
                wire.stream()
                    .stream
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if head.fields.is_chunked() {
                wire.read_chunked(|_| {})?;
            } else {
                let length = head.fields.content_length()?.unwrap_or(0);
                wire.read_sized(length, |_| {})?;
            }
            let bytes = std::mem::take(&mut wire.stream().read);
            self.0.lock().push(bytes);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            wire.stream().stream.write_all(answer)?;
        }
        Ok(())
    }
}

impl<S: Read> Read for Tee<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(into)?;
        self.read.extend_from_slice(&into[..length]);
        Ok(length)
    }
}

impl<S: Write> Write for Tee<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
