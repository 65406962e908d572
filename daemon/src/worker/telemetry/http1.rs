//! OTLP/HTTP with Protocol Buffers, over HTTP/1.1. A redirect is not followed: it is an answer like any other.

use bytes::Bytes;
use codex_network_config::OtlpCollector;
use codex_network_engine::CollectorConnection;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::link::{Driver, MAX_ANSWER, Reuse};
use super::outcome::Outcome;

/// The path below that of the URL.
const PATH: &str = "/v1/logs";

#[derive(Debug)]
pub(super) struct Http1(http1::SendRequest<Full<Bytes>>);

impl Http1 {
    pub(super) async fn open(stream: CollectorConnection) -> Result<(Self, Driver), String> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_ANSWER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| broken())?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the collector ended");
            }
        });
        Ok((Self(sender), Driver(driver)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_ready()
    }

    pub(super) async fn exchange(
        &mut self,
        collector: &OtlpCollector,
        fields: HeaderMap,
        body: &Bytes,
    ) -> (Outcome, Reuse) {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = fields;
        let Ok(uri) = format!("{}{PATH}", collector.path).parse() else {
            return (Outcome::Refused(unwritable()), Reuse::No);
        };
        *request.uri_mut() = uri;
        let port = collector.scheme.default_port();
        let Ok(host) = HeaderValue::try_from(collector.authority.host_field(Some(port))) else {
            return (Outcome::Refused(unwritable()), Reuse::No);
        };
        let fields = request.headers_mut();
        fields.insert(HOST, host);
        let form = HeaderValue::from_static("application/x-protobuf");
        fields.insert(CONTENT_TYPE, form);
        let Ok(answer) = self.0.send_request(request).await else {
            return (Outcome::Later(broken(), None), Reuse::No);
        };
        let (head, content) = answer.into_parts();
        let wait = head.headers.get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok());
        let (content, reuse) = read(content).await;
        (
            Outcome::of_http(head.status.as_u16(), wait, &content),
            reuse,
        )
    }
}

/// The content of an answer. The head has said already what became of the events, so content that is too
/// long or breaks off only ends the connection.
async fn read(content: Incoming) -> (Bytes, Reuse) {
    match Limited::new(content, MAX_ANSWER).collect().await {
        Ok(content) => (content.to_bytes(), Reuse::Yes),
        Err(_) => (Bytes::new(), Reuse::No),
    }
}

fn broken() -> String {
    "it broke the connection off, or does not speak HTTP/1.1".to_owned()
}

fn unwritable() -> String {
    "its URL cannot be written in a request".to_owned()
}
