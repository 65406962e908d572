//! A collector of OTLP logs, with messages of the official definitions: what an HTTP server got, and a gRPC
//! server of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server::{self, SendResponse};
use hyper::{HeaderMap, Request, Response};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::wait::{TIMEOUT, Watched};

/// One request of an exporter.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its header fields; none of one that came over HTTP/1.1.
    pub fields: HeaderMap,
    /// Its message.
    pub message: ExportLogsServiceRequest,
}

/// The answer of a gRPC collector.
#[derive(Clone, Debug)]
pub struct GrpcAnswer {
    /// `grpc-status`; `None` for an answer that ends without one.
    pub status: Option<u32>,
    /// `grpc-status-details-bin`.
    pub details: Option<String>,
    /// The bytes of the message.
    pub message: Vec<u8>,
    /// How many further bytes of content follow it.
    pub flood: usize,
}

/// A gRPC server on loopback. It ends with the value.
pub struct GrpcCollector {
    addr: SocketAddr,
    exports: Arc<Watched<Vec<Export>>>,
    end: Arc<Notify>,
}

type Script = dyn Fn(usize) -> GrpcAnswer + Send + Sync;

impl Export {
    /// The export in the body of a request.
    pub fn decode(body: &[u8]) -> Self {
        Self {
            fields: HeaderMap::new(),
            message: ExportLogsServiceRequest::decode(body).expect("a message of OTLP"),
        }
    }

    /// Its log records.
    pub fn records(&self) -> Vec<&LogRecord> {
        let resources = self.message.resource_logs.iter();
        let scopes = resources.flat_map(|resource| &resource.scope_logs);
        scopes.flat_map(|scope| &scope.log_records).collect()
    }

    /// An attribute of the resource.
    pub fn resource(&self, key: &str) -> Option<String> {
        let resource = self.message.resource_logs.first()?.resource.as_ref()?;
        text_of(&resource.attributes, key)
    }
}

/// An attribute of a record as text.
pub fn attribute(record: &LogRecord, key: &str) -> Option<String> {
    text_of(&record.attributes, key)
}

fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key} is {other:?}"),
    })
}

impl GrpcAnswer {
    /// A status.
    pub fn status(status: u32) -> Self {
        Self {
            status: Some(status),
            details: None,
            message: Vec::new(),
            flood: 0,
        }
    }
}

impl GrpcCollector {
    /// Takes everything.
    pub fn start() -> Self {
        Self::answering(None, |_| GrpcAnswer::status(0))
    }

    /// Gives the answer of `script` to each request, whose number it gets, over TLS if there is a
    /// configuration.
    pub fn answering(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize) -> GrpcAnswer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        let addr = listener.local_addr().expect("a listener");
        let (exports, end) = (
            Arc::<Watched<Vec<Export>>>::default(),
            Arc::new(Notify::new()),
        );
        let (seen, ended) = (Arc::clone(&exports), Arc::clone(&end));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    _ = serve(listener, tls, Arc::new(script), seen) => {}
                    () = ended.notified() => {}
                }
            });
        });
        Self { addr, exports, end }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything that it got.
    pub fn exports(&self) -> Vec<Export> {
        self.exports.lock().clone()
    }

    /// Waits for what `look` finds in everything that it got.
    pub fn wait_for<R>(&self, what: &str, mut look: impl FnMut(&[Export]) -> Option<R>) -> R {
        let found = self.exports.wait(TIMEOUT, |exports| look(exports));
        found.unwrap_or_else(|| panic!("the collector did not get {what}"))
    }
}

impl Drop for GrpcCollector {
    fn drop(&mut self) {
        self.end.notify_one();
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    script: Arc<Script>,
    seen: Arc<Watched<Vec<Export>>>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        let (tls, script, seen) = (tls.clone(), Arc::clone(&script), Arc::clone(&seen));
        tokio::spawn(async move {
            match tls {
                None => connection(socket, &script, &seen).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(socket).await {
                        connection(stream, &script, &seen).await;
                    }
                }
            }
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    script: &Arc<Script>,
    seen: &Arc<Watched<Vec<Export>>>,
) {
    let Ok(mut connection) = server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (script, seen) = (Arc::clone(script), Arc::clone(seen));
        tokio::spawn(async move {
            // The exporter may have gone.
            let _ = exchange(request, respond, &script, &seen).await;
        });
    }
}

async fn exchange(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    script: &Arc<Script>,
    seen: &Arc<Watched<Vec<Export>>>,
) -> Result<(), h2::Error> {
    let (head, mut content) = request.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = content.data().await {
        let chunk = chunk?;
        content.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(
        head.uri.path(),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    );
    assert_eq!(bytes[0], 0, "not compressed");
    let message = ExportLogsServiceRequest::decode(&bytes[5..]).expect("a message of OTLP");
    let number = seen.update(|exports| {
        exports.push(Export {
            fields: head.headers,
            message,
        });
        exports.len() - 1
    });
    let answer = script(number);
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .expect("a head");
    let mut sent = respond.send_response(head, false)?;
    let mut content = BytesMut::new();
    content.put_u8(0);
    content.put_u32(u32::try_from(answer.message.len()).expect("a short message"));
    content.put_slice(&answer.message);
    content.put_bytes(0, answer.flood);
    sent.send_data(content.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    if let Some(status) = answer.status {
        trailers.insert("grpc-status", status.into());
    }
    if let Some(details) = answer.details {
        let details = details.parse().expect("base64");
        trailers.insert("grpc-status-details-bin", details);
    }
    sent.send_trailers(trailers)
}
