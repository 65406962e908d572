//! A connection to the collector in one of its protocols, kept between batches.

use std::time::Duration;

use bytes::Bytes;
use codex_network_config::{OtlpProtocol, Telemetry};
use codex_network_engine::{CollectorError, Engine};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use super::grpc::Grpc;
use super::http1::Http1;
use super::link::{Driver, Reuse};
use super::outcome::Outcome;

/// How long it may take to reach the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the collector may take to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The age after which a connection is not used again, so that a changed address of the collector counts soon.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The transport, with its connection if one is open.
#[derive(Debug, Default)]
pub(super) struct Transport(Option<Open>);

#[derive(Debug)]
struct Open {
    /// The settings that it was opened for.
    settings: Telemetry,
    opened: Instant,
    link: Link,
    /// Ends with the value.
    _driver: Driver,
}

#[derive(Debug)]
enum Link {
    Http1(Http1),
    Grpc(Grpc),
}

impl Transport {
    /// Sends one request to the collector of these settings.
    pub(super) async fn send(
        &mut self,
        engine: &Engine,
        settings: &Telemetry,
        body: &Bytes,
    ) -> Outcome {
        let kept = self.0.take().filter(|open| open.is_usable(settings));
        let mut open = match kept {
            Some(open) => open,
            None => match Open::connect(engine, settings).await {
                Ok(open) => open,
                Err(why) => return Outcome::Later(why, None),
            },
        };
        let exchange = open.exchange(body);
        let Ok((outcome, reuse)) = timeout(ANSWER_TIMEOUT, exchange).await else {
            return Outcome::Later("it does not answer in time".to_owned(), None);
        };
        if reuse == Reuse::Yes {
            self.0 = Some(open);
        }
        outcome
    }
}

impl Open {
    async fn connect(engine: &Engine, settings: &Telemetry) -> Result<Self, String> {
        let connecting = engine.connect_collector(CONNECT_TIMEOUT);
        let stream = connecting.await.map_err(|error| {
            if let CollectorError::Resolve(detail) = &error {
                tracing::debug!(%detail, "the name of the collector does not resolve");
            }
            error.to_string()
        })?;
        let opening = async {
            Ok::<_, String>(match settings.protocol {
                OtlpProtocol::HttpProtobuf => {
                    let (link, driver) = Http1::open(stream).await?;
                    (Link::Http1(link), driver)
                }
                OtlpProtocol::Grpc => {
                    let (link, driver) = Grpc::open(stream).await?;
                    (Link::Grpc(link), driver)
                }
            })
        };
        let (link, driver) = timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| "it does not answer in time".to_owned())??;
        Ok(Self {
            settings: settings.clone(),
            opened: Instant::now(),
            link,
            _driver: driver,
        })
    }

    fn is_usable(&self, settings: &Telemetry) -> bool {
        let is_open = match &self.link {
            Link::Http1(link) => link.is_open(),
            Link::Grpc(link) => link.is_open(),
        };
        is_open && self.settings == *settings && self.opened.elapsed() < MAX_AGE
    }

    async fn exchange(&mut self, body: &Bytes) -> (Outcome, Reuse) {
        let Some(collector) = &self.settings.collector else {
            return (Outcome::Refused("no collector".to_owned()), Reuse::No);
        };
        let fields = fields(&self.settings);
        match &mut self.link {
            Link::Http1(link) => link.exchange(collector, fields, body).await,
            Link::Grpc(link) => link.exchange(collector, fields, body).await,
        }
    }
}

/// The header fields of the settings. Their values are never logged.
fn fields(settings: &Telemetry) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(settings.headers.len() + 8);
    fields.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("codex-network-proxy/", env!("CARGO_PKG_VERSION"))),
    );
    for header in &settings.headers {
        // Both were checked when the settings were made.
        let name = HeaderName::from_bytes(header.name.as_str().as_bytes());
        let value = HeaderValue::from_bytes(header.value.expose());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            fields.append(name, value);
        }
    }
    fields
}
