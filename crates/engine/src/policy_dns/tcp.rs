//! Policy DNS over TCP: each message follows its length in two bytes (RFC 1035 section 4.2.2).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::turns::REST_INTERVAL;
use super::{LookedUpNames, answer};
use crate::client::Client;
use crate::dns_query::MAX_QUERY;
use crate::http::Shared;
use crate::respond::DnsTransport;

/// How long a connection waits for the next message, or for the client to take an answer (RFC 7766 section
/// 6.2.3).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a message may take once its first byte is here.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers the messages of one connection, in their order, until either side ends it.
pub(crate) async fn serve_tcp(
    shared: &Shared,
    names: &LookedUpNames,
    mut stream: TcpStream,
    client: Client,
) {
    while let Ok(Some(message)) = read(&mut stream).await {
        let busy = client.connection.busy();
        while !names.may_answer(shared, &client.connection) {
            tokio::time::sleep(REST_INTERVAL).await;
        }
        let Some(answer) = answer(shared, names, &client, &message, DnsTransport::Tcp) else {
            return;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        match timeout(IDLE_TIMEOUT, stream.write_all(&framed)).await {
            Ok(Ok(())) => drop(busy),
            _ => return,
        }
    }
}

/// Reads the next message. `None`: the connection has ended, is idle, or carries no such message.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let Ok(first) = timeout(IDLE_TIMEOUT, stream.read_u8()).await else {
        return Ok(None);
    };
    let first = first?;
    let rest = async {
        let length = u16::from_be_bytes([first, stream.read_u8().await?]);
        let length = usize::from(length);
        if length > MAX_QUERY {
            return Ok(None);
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    timeout(MESSAGE_TIMEOUT, rest).await.unwrap_or(Ok(None))
}
