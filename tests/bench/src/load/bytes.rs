//! Bytes through tunnels, one way, as fast as they go.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::AsyncWriteExt as _;

use super::Tally;
use crate::dial::{self, Route};

/// The bytes of one turn of a download.
pub(crate) const DOWNLOAD_PART_BYTES: usize = 4 << 20;
/// The most that one call sends.
const PART_BYTES: usize = 256 << 10;

/// Downloads until the load ends, a part at each turn, and counts the bytes.
pub(crate) async fn download(route: Route, source: u16, client: u8, tally: Rc<Tally>) {
    let result = async {
        let stream = dial::tunnel(route, source, client).await?;
        while tally.turn().await.is_some() {
            let mut left = DOWNLOAD_PART_BYTES;
            while left > 0 && tally.goes_on() {
                match dial::discard(&stream, left).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    taken => {
                        left -= taken;
                        tally.add(u64::try_from(taken).unwrap_or(0));
                    }
                }
            }
        }
        Ok(())
    };
    if let Err(error) = result.await {
        tally.count(Instant::now(), Err(error));
    }
}

/// Uploads until the load ends, and counts the bytes.
pub(crate) async fn upload(route: Route, sink: u16, client: u8, tally: Rc<Tally>) {
    let result = async {
        let mut stream = dial::tunnel(route, sink, client).await?;
        let part = vec![0; PART_BYTES];
        while tally.goes_on() {
            let sent = stream.write(&part).await?;
            tally.add(u64::try_from(sent).unwrap_or(0));
        }
        Ok(())
    };
    if let Err(error) = result.await {
        tally.count(Instant::now(), Err(error));
    }
}
