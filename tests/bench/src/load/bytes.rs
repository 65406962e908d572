//! Bytes through tunnels, one way, as fast as they go.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Tally;
use crate::dial::{self, Route};

/// How long the origin's count may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// The most that one call sends.
const PART_BYTES: usize = 256 << 10;

/// Downloads until the load ends, and counts the bytes.
pub(crate) async fn download(route: Route, source: u16, client: u8, tally: Rc<Tally>) {
    let result = async {
        let stream = dial::tunnel(route, source, client).await?;
        while tally.goes_on() {
            match dial::discard(&stream, usize::MAX).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                taken => tally.add(u64::try_from(taken).unwrap_or(0)),
            }
        }
        Ok(())
    };
    if let Err(error) = result.await {
        tally.count(Instant::now(), Err(error));
    }
}

/// Uploads until the load ends, and counts the bytes. Not every program passes on that a direction has ended:
/// where it does, the count is the origin's, without the bytes that are still under way.
pub(crate) async fn upload(route: Route, sink: u16, client: u8, tally: Rc<Tally>) {
    let result = async {
        let mut stream = dial::tunnel(route, sink, client).await?;
        let part = vec![0; PART_BYTES];
        let mut sent = 0;
        while tally.goes_on() {
            sent += u64::try_from(stream.write(&part).await?).unwrap_or(0);
        }
        stream.shutdown().await?;
        let confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, stream.read_u64()).await;
        tally.add(confirmed.ok().and_then(Result::ok).unwrap_or(sent));
        Ok(())
    };
    if let Err(error) = result.await {
        tally.count(Instant::now(), Err(error));
    }
}
