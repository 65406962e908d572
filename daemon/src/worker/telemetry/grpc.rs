//! OTLP/gRPC: the unary call `Export` over HTTP/2, with h2.

use std::future::poll_fn;

use bytes::{BufMut as _, Bytes, BytesMut};
use codex_network_config::OtlpCollector;
use codex_network_engine::CollectorConnection;
use h2::RecvStream;
use h2::client::{self, SendRequest};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::link::{Driver, MAX_ANSWER, Reuse};
use super::outcome::Outcome;

const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// The prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Most bytes of a header section.
const MAX_HEADERS: u32 = 16 << 10;

#[derive(Debug)]
pub(super) struct Grpc {
    sender: SendRequest<Bytes>,
    /// Whether the connection took an error or a GOAWAY.
    is_open: bool,
}

impl Grpc {
    pub(super) async fn open(stream: CollectorConnection) -> Result<(Self, Driver), String> {
        let (sender, connection) = client::Builder::new()
            .enable_push(false)
            .max_header_list_size(MAX_HEADERS)
            .handshake(stream)
            .await
            .map_err(|_| broken())?;
        let driver = tokio::spawn(async move {
            if connection.await.is_err() {
                // The error may have bytes of the collector.
                tracing::debug!("the connection to the collector ended");
            }
        });
        let grpc = Self {
            sender,
            is_open: true,
        };
        Ok((grpc, Driver(driver)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) async fn exchange(
        &mut self,
        collector: &OtlpCollector,
        fields: HeaderMap,
        body: &Bytes,
    ) -> (Outcome, Reuse) {
        self.is_open = false;
        match self.call(collector, fields, body).await {
            Ok(outcome) => {
                self.is_open = true;
                (outcome, Reuse::Yes)
            }
            Err(outcome) => (outcome, Reuse::No),
        }
    }

    /// An error is an outcome after which the connection cannot be used again.
    async fn call(
        &mut self,
        collector: &OtlpCollector,
        fields: HeaderMap,
        body: &Bytes,
    ) -> Result<Outcome, Outcome> {
        let later = |_: h2::Error| Outcome::Later(broken(), None);
        poll_fn(|context| self.sender.poll_ready(context))
            .await
            .map_err(later)?;
        let request = request(collector, fields)
            .ok_or_else(|| Outcome::Refused("its URL cannot be written in a request".to_owned()))?;
        let (answer, mut content) = self.sender.send_request(request, false).map_err(later)?;
        content.send_data(message(body)?, true).map_err(later)?;
        answered(answer.await.map_err(later)?).await
    }
}

fn request(collector: &OtlpCollector, mut fields: HeaderMap) -> Option<Request<()>> {
    let uri = Uri::builder()
        .scheme(collector.scheme.as_str())
        .authority(collector.authority.host_field(None))
        .path_and_query(PATH)
        .build()
        .ok()?;
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/grpc+proto"),
    );
    fields.insert(TE, HeaderValue::from_static("trailers"));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Some(request)
}

/// The message with its prefix, uncompressed.
fn message(body: &Bytes) -> Result<Bytes, Outcome> {
    let too_long = |_| Outcome::Refused("the request is too long".to_owned());
    let length = u32::try_from(body.len()).map_err(too_long)?;
    let mut message = BytesMut::with_capacity(PREFIX + body.len());
    message.put_u8(0);
    message.put_u32(length);
    message.put_slice(body);
    Ok(message.freeze())
}

async fn answered(answer: Response<RecvStream>) -> Result<Outcome, Outcome> {
    let (head, mut content) = answer.into_parts();
    if head.status != StatusCode::OK {
        // A server in between that does not speak gRPC.
        return Err(Outcome::of_http(head.status.as_u16(), None, &[]));
    }
    if let Some(outcome) = status(&head.headers, &[]) {
        return Ok(outcome);
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = content.data().await {
        let chunk = chunk.map_err(|_| Outcome::Later(broken(), None))?;
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(Outcome::Later("its answer is too long".to_owned(), None));
        }
        bytes.extend_from_slice(&chunk);
        // The window is given back within the limit only.
        let _ = content.flow_control().release_capacity(chunk.len());
    }
    let trailers = content.trailers().await;
    let trailers = trailers.map_err(|_| Outcome::Later(broken(), None))?;
    let message = bytes.get(PREFIX..).unwrap_or_default();
    let outcome = trailers.and_then(|trailers| status(&trailers, message));
    outcome.ok_or_else(|| Outcome::Later("its answer has no gRPC status".to_owned(), None))
}

/// The outcome in the fields of an answer, if they have one.
fn status(fields: &HeaderMap, message: &[u8]) -> Option<Outcome> {
    let status = fields.get("grpc-status")?.to_str().ok();
    // A status that is not a number is UNKNOWN.
    let status = status.and_then(|status| status.parse().ok()).unwrap_or(2);
    let details = fields.get("grpc-status-details-bin");
    let details = details.map(HeaderValue::as_bytes);
    Some(Outcome::of_grpc(status, details, message))
}

fn broken() -> String {
    "it broke the connection off, or does not speak gRPC".to_owned()
}
