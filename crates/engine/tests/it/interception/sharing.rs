//! HTTP/2 connections to an origin that serve one client after another (SPEC M6).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::kit::network::Redirect;
use super::super::kit::server::serve;
use super::super::kit::stream::in_time;
use super::super::kit::tls::Ca;
use super::scene::{Scene, settings, trusting};

const POLICY: &str = r#"
default_permissions = "agent"
[permissions.agent.network]
allow_local_binding = true
[permissions.agent.network.domains]
"**.test" = "allow"
[permissions.agent.network.mitm.hooks.all]
host = "origin.test"
methods = ["GET", "POST"]
path_prefixes = ["/"]
"#;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// The requests that the origin has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    connections: usize,
    /// Connections that the proxy has ended.
    ended: usize,
    /// Requests for `/held`.
    held: usize,
    /// Those of them that were reset.
    reset: usize,
}

struct Origin {
    scene: Scene,
    seen: watch::Receiver<Seen>,
}

struct Client(SendRequest<Body>);

impl Origin {
    /// An origin over HTTP/2 with TLS. `/held` gets no answer. `/early` gets one, and its content is
    /// never read. The field `x-connection` of an answer is the number of the connection.
    async fn new() -> Self {
        let (seen, watched) = watch::channel(Seen::default());
        let ca = Ca::new("the origin's");
        let acceptor = TlsAcceptor::from(ca.server(&["origin.test"], &["h2"]));
        let origin: SocketAddr = serve(move |stream| {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            async move { answer(stream, acceptor, seen).await }
        })
        .await;
        let scene = Scene::amended(POLICY, &["h2"], None, |parts| {
            parts.supplied = trusting(&ca);
            parts.dialler = Redirect::new(move |_| Some(origin)) as Arc<_>;
        })
        .await;
        Self {
            scene,
            seen: watched,
        }
    }

    async fn client(&self) -> Client {
        let stream = TokioIo::new(self.scene.session(&["h2"]).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Client(sender)
    }

    async fn wait(&self, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.clone();
        let reached = in_time(seen.wait_for(condition)).await;
        reached.expect("the origin runs");
    }
}

impl Client {
    fn begin(&self, method: &str, path: &str, body: Body) -> JoinHandle<Response<()>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://origin.test{path}"))
            .body(body)
            .expect("a request");
        let answer = self.0.clone().send_request(request);
        tokio::spawn(async move {
            let (parts, body) = answer.await.expect("an answer").into_parts();
            body.collect().await.expect("a whole answer");
            Response::from_parts(parts, ())
        })
    }

    /// Begins a request that gets no answer.
    fn hold(&self) -> JoinHandle<Response<()>> {
        self.begin("GET", "/held", Empty::new().boxed())
    }

    /// The number of the connection that carries a request.
    async fn connection(&self) -> String {
        connection(self.begin("GET", "/", Empty::new().boxed())).await
    }
}

async fn connection(answer: JoinHandle<Response<()>>) -> String {
    let answer = in_time(answer).await.expect("no panic");
    assert_eq!(answer.status(), 200);
    let number = answer.headers()["x-connection"].to_str();
    number.expect("a number").to_owned()
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, seen: watch::Sender<Seen>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut number = 0;
    seen.send_modify(|seen| {
        number = seen.connections;
        seen.connections += 1;
    });
    let Ok(mut connection) = server::handshake(stream).await else {
        return;
    };
    let mut unread: Vec<RecvStream> = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/held" {
            seen.send_modify(|seen| seen.held += 1);
            tokio::spawn(note_reset(respond, seen.clone()));
            continue;
        }
        let answer = Response::builder().header("x-connection", number);
        let answer = answer.body(()).expect("an answer");
        let _ = respond.send_response(answer, true);
        if request.uri().path() == "/early" {
            unread.push(request.into_body());
        }
    }
    seen.send_modify(|seen| seen.ended += 1);
}

async fn note_reset(mut respond: SendResponse<Bytes>, seen: watch::Sender<Seen>) {
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
    if reset.is_ok() {
        seen.send_modify(|seen| seen.reset += 1);
    }
}

/// The second client opens no connection.
#[tokio::test]
async fn m6_a_connection_serves_the_next_client_between_requests() {
    let origin = Origin::new().await;
    let first = origin.client().await;
    assert_eq!(first.connection().await, "0");
    let second = origin.client().await;
    assert_eq!(second.connection().await, "0");
    assert_eq!(first.connection().await, "0");
    assert_eq!(origin.seen.borrow().connections, 1);
}

/// One client could use up the streams of the other.
#[tokio::test]
async fn m6_a_connection_in_use_is_not_shared() {
    let origin = Origin::new().await;
    let first = origin.client().await;
    assert_eq!(first.connection().await, "0");
    let second = origin.client().await;
    second.hold();
    origin.wait(|seen| seen.held == 1).await;
    assert_eq!(second.connection().await, "0");
    assert_eq!(first.connection().await, "1");
}

/// The origin's window of the connection may be used up.
#[tokio::test]
async fn m6_a_connection_with_an_unread_upload_is_not_passed_on() {
    let origin = Origin::new().await;
    let first = origin.client().await;
    let parts = (0..64).map(|_| Ok(Frame::data(Bytes::from(vec![0; 64 * 1024]))));
    let content = StreamBody::new(futures_util::stream::iter(parts));
    let early = first.begin("POST", "/early", content.boxed());
    assert_eq!(connection(early).await, "0");
    let second = origin.client().await;
    assert_eq!(second.connection().await, "1");
}

/// Origins count resets, and end connections with too many of them.
#[tokio::test]
async fn m6_a_connection_with_an_abandoned_request_stays_with_its_client() {
    let origin = Origin::new().await;
    let first = origin.client().await;
    let held = first.hold();
    origin.wait(|seen| seen.held == 1).await;
    held.abort();
    origin.wait(|seen| seen.reset == 1).await;
    assert_eq!(first.connection().await, "0");
    let second = origin.client().await;
    assert_eq!(second.connection().await, "1");
    assert_eq!(first.connection().await, "0");
}

#[tokio::test]
async fn p11_a_connection_serves_no_client_after_a_reload() {
    let origin = Origin::new().await;
    let first = origin.client().await;
    assert_eq!(first.connection().await, "0");
    let engine = &origin.scene.doors.engine;
    engine
        .replace(&Arc::new(settings(POLICY)))
        .expect("settings");
    let second = origin.client().await;
    assert_eq!(second.connection().await, "1");
    // It ends, though the client that used it last is still there.
    origin.wait(|seen| seen.ended == 1).await;
    drop(first);
}
