//! New tunnels: each is opened, carries one byte to the echo and back, and is closed.

use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Tally;
use crate::dial::{self, Route};

/// A client that opens one tunnel after the other, to each echo in turn. Several echoes spread the local
/// ports that a closed connection keeps for a while (`TIME_WAIT`).
pub(crate) async fn repeat(route: Route, echoes: Rc<[u16]>, client: u8, tally: Rc<Tally>) {
    for port in echoes.iter().cycle() {
        let Some(since) = tally.turn().await else {
            break;
        };
        tally.count(since, open(route, *port, client).await.map(drop));
    }
}

/// An open tunnel that has carried a byte each way.
pub(crate) async fn open(route: Route, port: u16, client: u8) -> io::Result<TcpStream> {
    let mut stream = dial::tunnel(route, port, client).await?;
    echo(&mut stream).await?;
    Ok(stream)
}

/// Sends a byte and reads it back.
pub(crate) async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"e").await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map(drop)
}
