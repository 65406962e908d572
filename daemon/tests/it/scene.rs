//! Origins, settings that lead to them, and clients.

use std::net::{Ipv4Addr, SocketAddr};

use codex_network_proxy::{NetworkProxy, NetworkProxyBuilder, NetworkProxyHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An origin that echoes what it gets behind `HTTP/1.1 200`, and the names that lead to it.
pub(crate) struct Scene {
    pub(crate) port: u16,
    hosts: tempfile::NamedTempFile,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("an origin");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        let hosts = tempfile::NamedTempFile::new().expect("a file");
        let names = "127.0.0.1 asked.test other.test denied.test listed.test\n";
        std::fs::write(hosts.path(), names).expect("the hosts");
        Self { port, hosts }
    }

    /// A configuration that looks names up in the scene, with `network` in `[network]`.
    pub(crate) fn config(&self, network: &str) -> String {
        format!(
            "[network]\nallow_upstream_proxy = false\ndenied_domains = [\"denied.test\"]\n{network}\n\
             [daemon.resolver]\nnameservers = [\"127.0.0.1:9\"]\nhosts_file = \"{}\"\n\
             [daemon.limits]\ndrain_timeout = \"0s\"\n",
            self.hosts.path().display()
        )
    }

    /// Replaces the hosts file.
    pub(crate) fn write_hosts(&self, text: &str) {
        std::fs::write(self.hosts.path(), text).expect("the hosts");
    }

    /// A proxy through which permitted clients can reach the origin.
    pub(crate) fn builder(&self) -> NetworkProxyBuilder {
        NetworkProxy::builder().config_toml(self.config(LOCAL))
    }
}

/// The origin is on loopback.
pub(crate) const LOCAL: &str = "allow_local_binding = true\nallowed_domains = [\"listed.test\"]";

pub(crate) async fn run(builder: NetworkProxyBuilder) -> NetworkProxyHandle {
    let proxy = builder.build().await.expect("a proxy");
    proxy.run().await.expect("it runs")
}

async fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let answer: &[u8] = if buffer.starts_with(b"GET") || buffer.starts_with(b"POST") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        } else {
            &buffer[..read]
        };
        if stream.write_all(answer).await.is_err() {
            break;
        }
    }
}

/// Sends a request over a new connection and returns the whole answer.
pub(crate) async fn request(door: SocketAddr, method: &str, target: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(door).await.expect("the door");
    let head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Requests a tunnel. Returns it, and the head of the answer.
pub(crate) async fn connect(door: SocketAddr, target: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(door).await.expect("the door");
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

/// A SOCKS5 request for a name. Returns the reply code, the bound address and the connection.
pub(crate) async fn socks5(
    door: SocketAddr,
    command: u8,
    name: &str,
    port: u16,
) -> (u8, SocketAddr, TcpStream) {
    let mut stream = TcpStream::connect(door).await.expect("the door");
    let user = b"codex-net-attempt-a7";
    stream.write_all(&[5, 1, 2]).await.expect("a greeting");
    let mut two = [0; 2];
    stream.read_exact(&mut two).await.expect("a method");
    let mut login = vec![1, u8::try_from(user.len()).expect("short")];
    login.extend_from_slice(user);
    login.extend_from_slice(&[1, b'x']);
    stream.write_all(&login).await.expect("a name");
    stream.read_exact(&mut two).await.expect("an answer");
    let mut asked = vec![5, command, 0];
    asked.extend(named(name, port));
    stream.write_all(&asked).await.expect("a request");
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.expect("a reply");
    let ip = Ipv4Addr::new(reply[4], reply[5], reply[6], reply[7]);
    let bound = SocketAddr::from((ip, u16::from_be_bytes([reply[8], reply[9]])));
    (reply[1], bound, stream)
}

/// An address of SOCKS5: a name and a port.
pub(crate) fn named(name: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![3, u8::try_from(name.len()).expect("short")];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes
}
