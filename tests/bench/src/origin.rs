//! The origin: HTTP and HTTPS servers, an echo, a source and a sink of bytes, in a process of its own.
//!
//! The process ends when its standard input does, so it never outlives the comparison.

mod http;
mod secure;

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::dial;

/// The number of echo ports.
const ECHOES: usize = 8;
const PART_BYTES: usize = 256 << 10;

/// The ports of the origin, all on 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// Sends zeros until the client leaves.
    pub(crate) source: u16,
    /// Reads to the end of the stream.
    pub(crate) sink: u16,
    pub(crate) echoes: Vec<u16>,
}

/// A running origin.
pub(crate) struct Origin {
    pub(crate) ports: Ports,
    child: Child,
}

impl Origin {
    /// Starts it: this program again, with the subcommand `origin`. The certificate and key for its HTTPS
    /// are `origin.pem` and `origin.key` in the folder.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("origin")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("it was piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let ports = Ports::read(&line).context("the origin did not start")?;
        Ok(Self { ports, child })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ports {
    /// Reads the line that [`serve`] prints.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let ports: Result<Vec<u16>, _> = line.split_whitespace().map(str::parse).collect();
        let ports = ports.ok()?;
        let (&[http, https, source, sink], echoes) = ports.split_first_chunk()?;
        (echoes.len() == ECHOES).then(|| Self {
            http,
            https,
            source,
            sink,
            echoes: echoes.to_vec(),
        })
    }
}

/// The line that [`Ports::read`] reads.
impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = [self.http, self.https, self.source, self.sink];
        let ports: Vec<String> = first
            .iter()
            .chain(&self.echoes)
            .map(u16::to_string)
            .collect();
        formatter.write_str(&ports.join(" "))
    }
}

/// Serves until standard input ends.
pub(crate) fn serve(folder: &Path) -> anyhow::Result<()> {
    let acceptor = secure::acceptor(folder)?;
    crate::load::runtime()?.block_on(async {
        let mut ports = vec![
            listen(http::serve)?,
            listen(move |stream| secure::serve(acceptor.clone(), stream))?,
            listen(source)?,
            listen(sink)?,
        ];
        for _ in 0..ECHOES {
            ports.push(listen(echo)?);
        }
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        writeln!(io::stdout(), "{}", ports.join(" "))?;
        tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
        Ok(())
    })
}

/// Serves every connection to a free port with a task of its own.
fn listen<S, F>(serve: S) -> io::Result<u16>
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener: TcpListener = socket.listen(4096)?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            // A client may leave early.
            tokio::spawn(serve(stream));
        }
    });
    Ok(port)
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let part: Arc<[u8]> = vec![0; PART_BYTES].into();
    loop {
        stream.write_all(&part).await?;
    }
}

async fn sink(stream: TcpStream) -> io::Result<()> {
    while dial::discard(&stream, usize::MAX).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_ports_is_read_back() {
        let ports = Ports::read("1 2 3 4 5 6 7 8 9 10 11 12\n").expect("twelve ports");
        assert_eq!(
            (ports.http, ports.https, ports.source, ports.sink),
            (1, 2, 3, 4)
        );
        assert_eq!(ports.echoes, [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Ports::read(&ports.to_string()), Some(ports));
        assert_eq!(Ports::read("1 2 3 4 5"), None);
    }
}
