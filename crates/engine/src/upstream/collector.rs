//! Connections of the proxy itself to the collector of audit events (SPEC O2). They go direct, never through an
//! upstream proxy, and their addresses pass the enforcement point like all others.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use codex_network_config::{OtlpCollector, OtlpProtocol, OtlpScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};

use super::connect::{self, Dial};
use super::connection::Stream;
use crate::connect_error::ConnectError;
use crate::enforce::{Enforcer, LoopingCollector};
use crate::live_policy::Generation;
use crate::resolve::ResolveError;
use crate::tls::{Offer, TlsError, UpstreamTls};

/// A connection to the collector, in TLS if its URL begins with `https`.
#[derive(Debug)]
pub struct CollectorConnection(Stream);

/// Why there is no connection to the collector. The text has no name and no address.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The settings name no collector.
    #[error("no collector is configured")]
    NotConfigured,
    /// Its name does not resolve. The source is for the log.
    #[error("its name does not resolve")]
    Resolve(#[source] ResolveError),
    /// It is this proxy.
    #[error("it is this proxy itself")]
    Loop,
    /// Nothing answers there.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no TLS session with it.
    #[error("{0}")]
    Tls(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Connects to the collector of these settings.
pub(crate) async fn connect_collector(
    dialler: &dyn Dial,
    enforcer: &Enforcer,
    generation: &Generation,
    limit: Duration,
) -> Result<CollectorConnection, CollectorError> {
    let telemetry = &generation.settings().daemon.telemetry;
    let collector = telemetry.collector.as_ref();
    let collector = collector.ok_or(CollectorError::NotConfigured)?;
    let deadline = Instant::now() + limit;
    let addresses = looked_up(generation, collector, limit).await?;
    let addresses = enforcer.vet_collector(collector, &addresses)?;
    let left = || deadline.saturating_duration_since(Instant::now());
    let stream = connect::connect(dialler, &addresses, left()).await?;
    if collector.scheme == OtlpScheme::Http {
        return Ok(CollectorConnection(Stream::Tcp(stream)));
    }
    let tls = match &telemetry.roots {
        None => Arc::clone(generation.tls()),
        Some(roots) => UpstreamTls::renewed(None, roots).map_err(CollectorError::Setup)?,
    };
    let offer = match telemetry.protocol {
        OtlpProtocol::HttpProtobuf => Offer::Http1,
        OtlpProtocol::Grpc => Offer::Http2,
    };
    let host = &collector.authority.host;
    let (stream, ..) = tls.connect(stream, host, offer, left()).await?;
    Ok(CollectorConnection(Stream::Tls(stream)))
}

async fn looked_up(
    generation: &Generation,
    collector: &OtlpCollector,
    limit: Duration,
) -> Result<Vec<IpAddr>, CollectorError> {
    let looking = super::lookup(generation.resolver(), &collector.authority.host);
    let found = timeout(limit, looking).await;
    let found = found.unwrap_or(Err(ResolveError::Timeout));
    found.map_err(CollectorError::Resolve)
}

impl From<LoopingCollector> for CollectorError {
    fn from(_: LoopingCollector) -> Self {
        Self::Loop
    }
}

impl From<TlsError> for CollectorError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error.to_string())
    }
}

impl AsyncRead for CollectorConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for CollectorConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
