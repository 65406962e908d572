//! A collector that takes every batch of events, and counts their bytes.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A running collector. It serves until this process ends.
pub(super) struct Collector {
    pub(super) port: u16,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bytes = Arc::clone(&counted);
                // An exporter may leave at any moment.
                std::thread::spawn(move || serve(&stream, &bytes));
            }
        });
        Ok(Self { port, bytes })
    }

    /// The bytes of all batches so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, bytes: &AtomicU64) -> io::Result<()> {
    let mut requests = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            let read = io::copy(&mut requests.by_ref().take(length), &mut io::sink())?;
            bytes.fetch_add(read, Ordering::Relaxed);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}
