//! The reference: a relay that forwards every connection to a fixed port and does nothing else.
//!
//! It shows the price of the kernel's part. Bytes go through a pipe by splice(2). A pipe is taken from a pool
//! when bytes arrive, and given back when all of them are sent.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

const PIPE_BYTES: usize = 1 << 20;
/// Pipes that are kept while no bytes flow.
const MAX_KEPT: usize = 64;

/// The two ends of a pipe.
type Pipe = (OwnedFd, OwnedFd);
type Pool = Rc<RefCell<Vec<Pipe>>>;

/// One listening port, and the ports to which its connections go in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) from: u16,
    pub(crate) to: Vec<u16>,
}

impl Forward {
    /// Reads `FROM:TO,TO,…`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(from, to)| {
            let to: Result<Vec<u16>, _> = to.split(',').map(str::parse).collect();
            Some(Self {
                from: from.parse().ok()?,
                to: to.ok()?,
            })
        });
        parts.ok_or_else(|| format!("{text:?} is not FROM:TO,TO,…"))
    }
}

/// Forwards until the process ends.
pub(crate) fn serve(forwards: &[Forward]) -> anyhow::Result<()> {
    let set = LocalSet::new();
    let pool = Pool::default();
    for forward in forwards {
        let (forward, pool) = (forward.clone(), pool.clone());
        set.spawn_local(async move {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, forward.from).into())?;
            accept(socket.listen(4096)?, &forward.to, &pool).await
        });
    }
    crate::load::runtime()?.block_on(set);
    Ok(())
}

async fn accept(listener: TcpListener, to: &[u16], pool: &Pool) -> io::Result<()> {
    for port in to.iter().cycle() {
        let (client, _) = listener.accept().await?;
        let (port, pool) = (*port, pool.clone());
        tokio::task::spawn_local(async move {
            client.set_nodelay(true)?;
            let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            upstream.set_nodelay(true)?;
            tokio::try_join!(
                one_way(&client, &upstream, &pool),
                one_way(&upstream, &client, &pool)
            )
            .map(drop)
        });
    }
    Ok(())
}

/// Moves the bytes of one direction, and then its end.
async fn one_way(from: &TcpStream, to: &TcpStream, pool: &Pool) -> io::Result<()> {
    loop {
        from.readable().await?;
        let pipe = take(pool)?;
        loop {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let taken = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &pipe.1, None, PIPE_BYTES, flags)?)
            });
            let mut left = match taken {
                Ok(0) => {
                    give_back(pool, pipe);
                    return Ok(rustix::net::shutdown(to, Shutdown::Write)?);
                }
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            while left > 0 {
                left -= to
                    .async_io(Interest::WRITABLE, || {
                        Ok(splice(&pipe.0, None, to, None, left, flags)?)
                    })
                    .await?;
            }
        }
        give_back(pool, pipe);
    }
}

fn take(pool: &Pool) -> io::Result<Pipe> {
    if let Some(pipe) = pool.borrow_mut().pop() {
        return Ok(pipe);
    }
    let pipe = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    // A user may have used up the pages for large pipes (pipe(7)); the default size works too.
    let _ = fcntl_setpipe_size(&pipe.1, PIPE_BYTES);
    Ok(pipe)
}

/// Keeps an empty pipe.
fn give_back(pool: &Pool, pipe: Pipe) {
    let mut kept = pool.borrow_mut();
    if kept.len() < MAX_KEPT {
        kept.push(pipe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_read() {
        let forward = Forward {
            from: 1,
            to: vec![2, 3],
        };
        assert_eq!(Forward::read("1:2,3"), Ok(forward));
        assert!(Forward::read("1:").is_err());
    }
}
