//! The admin HTTP API (SPEC section 8).
//!
//! It is unauthenticated by design: it binds to loopback, is never reachable through the proxy, and
//! refuses requests that a browser may have been tricked into sending ([`guard`]). The worker
//! serves it, and so does an embedded proxy. An [`Owner`] provides what differs between the two.

mod answer;
pub(crate) mod config;
mod error_body;
mod events;
mod guard;
mod health;
mod metrics;
mod page;
mod stalled;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{AdminAccess, AdminView, Listen, Settings, Widening};
use codex_network_engine::{BlockedEntry, ConnectionHandle, Engine, GenerationNumber, Listening};
use codex_network_policy::Mode;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use self::answer::{failed, json, text};
use self::error_body::WithErrorBody;
use self::events::{MAX_WATCHERS, Watchers};
use self::stalled::EndsWhenStalled;
use crate::observation::{Condition, Observation, Observer};

/// The listener's name in logs and in systemd's `LISTEN_FDNAMES`.
pub(crate) const NAME: &str = "admin";

/// Connections at once, besides those of watchers; the API serves people and scripts.
const MAX_CONNECTIONS: usize = 64;
/// Most bytes of answers that wait for one client, and of a request's head.
const MAX_BUFFERED: usize = 64 * 1024;
/// Largest body.
const MAX_BODY: usize = 8 * 1024;
/// Most of a larger body that is read and thrown away.
const MAX_DISCARDED: usize = 16 << 20;

type ApiAnswer = Response<BoxBody<Bytes, Infallible>>;

/// The proxy that the API shows and changes.
pub(crate) trait Owner: Send + Sync + 'static {
    /// Changes the mode: full mode until the next reload, limited mode until this is called again.
    /// Returns the generation's number, or the requirement that forbids it (SPEC C6).
    fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening>;

    /// Reads the configuration again and puts it in force; on any error the old one stays (SPEC C7).
    fn reload(self: Arc<Self>) -> BoxFuture<'static, Result<(), Unchanged>>;

    /// Observes the proxy.
    fn observer(&self) -> &Observer;

    /// The state that `/health` reports. A library has no other configuration than the one in force.
    fn condition(&self) -> Condition {
        Condition::Sound
    }

    /// The open listeners: their names and addresses.
    fn listening(&self) -> Vec<(&'static str, SocketAddr)>;

    /// The listen addresses that `/config` shows: those that the settings ask for.
    fn listen(&self, settings: &Settings) -> Listen {
        settings.listen
    }
}

/// Why a reload changed nothing.
#[derive(Debug)]
pub(crate) enum Unchanged {
    /// There is no configuration to read again, and why.
    NothingToRead(&'static str),
    /// The configuration cannot be used. For people, over several lines, and without any content of
    /// the files: every user of the machine can ask (SPEC A1).
    Unusable(String),
}

/// The parts that an API connection needs.
struct Admin {
    engine: Engine,
    owner: Arc<dyn Owner>,
    /// The address that this connection came in on.
    local: Option<SocketAddr>,
    client: SocketAddr,
    connection: ConnectionHandle,
    watchers: Arc<Watchers>,
}

/// The paths, each with its one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Page,
    Events,
    Metrics,
    Health,
    Config,
    Patterns,
    Blocked,
    Mode,
    Reload,
}

/// The body of `POST /mode`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeBody {
    mode: String,
}

/// The body of `GET /blocked`.
#[derive(Serialize)]
struct BlockedBody {
    blocked: Vec<BlockedEntry>,
}

/// The body of `GET /patterns`.
#[derive(Serialize)]
struct PatternsBody {
    allowed: Vec<String>,
    denied: Vec<String>,
}

/// Opens the API on a bound listener.
pub(crate) fn open(
    engine: &Engine,
    owner: Arc<dyn Owner>,
    listener: std::net::TcpListener,
) -> std::io::Result<Listening> {
    let served = engine.clone();
    let watchers = Watchers::new();
    engine.open_beside(
        NAME,
        listener,
        MAX_CONNECTIONS + MAX_WATCHERS,
        move |stream, client, connection| {
            let admin = Admin {
                engine: served.clone(),
                owner: Arc::clone(&owner),
                local: stream.local_addr().ok(),
                client,
                connection,
                watchers: Arc::clone(&watchers),
            };
            serve(Arc::new(admin), stream)
        },
    )
}

async fn serve(admin: Arc<Admin>, stream: TcpStream) {
    let drain = admin.engine.drain().clone();
    let read_timeout = admin.read_timeout();
    let service = service_fn(move |request| {
        let (admin, busy) = (Arc::clone(&admin), admin.connection.busy());
        async move {
            let answer = admin.answer(request).await;
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        // A half-closed client waits for the answer.
        .half_close(true)
        .max_buf_size(MAX_BUFFERED)
        .serve_connection(
            TokioIo::new(WithErrorBody::new(EndsWhenStalled::new(stream))),
            service,
        );
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/events" => Self::Events,
            "/metrics" => Self::Metrics,
            "/health" => Self::Health,
            "/config" => Self::Config,
            "/patterns" => Self::Patterns,
            "/blocked" => Self::Blocked,
            "/mode" => Self::Mode,
            "/reload" => Self::Reload,
            _ => return None,
        })
    }

    /// Whether the route has this method. HEAD is served like GET.
    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Mode | Self::Reload => *method == Method::POST,
            _ => matches!(*method, Method::GET | Method::HEAD),
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Mode | Self::Reload => "POST",
            _ => "GET, HEAD",
        }
    }
}

impl Admin {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> ApiAnswer {
        if let Err(refused) = guard::check(request.uri(), request.headers(), self.local) {
            tracing::warn!("refused an admin request: {refused}");
            return text(StatusCode::FORBIDDEN, &refused.to_string());
        }
        let Some(route) = Route::of(request.uri().path()) else {
            return text(
                StatusCode::NOT_FOUND,
                "there is no such path; try /, /events, /health, /metrics, /config, /patterns, /blocked, /mode or /reload",
            );
        };
        if !route.takes(request.method()) {
            let mut answer = text(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("use {}", route.allow()),
            );
            answer.headers_mut().insert(
                http::header::ALLOW,
                http::HeaderValue::from_static(route.allow()),
            );
            return answer;
        }
        match route {
            Route::Page => page::answer(&self.parts()),
            // The answer to HEAD has no content, so it would never end.
            Route::Events if request.method() == Method::HEAD => text(StatusCode::OK, ""),
            Route::Events => self.events().await,
            Route::Metrics => metrics::answer(self.observe()),
            Route::Health => self.health(request.uri().query().unwrap_or_default()),
            Route::Config => self.config(),
            Route::Patterns => self.patterns(),
            Route::Blocked => {
                self.blocked(request.uri().query().unwrap_or_default())
                    .await
            }
            Route::Mode => self.set_mode(request.into_body()).await,
            Route::Reload => self.reload().await,
        }
    }

    /// Observes the proxy now. Fingerprints of settings that the API hides are left out.
    fn observe(&self) -> Observation {
        let observer = self.owner.observer();
        let mut seen = observer.observe(&self.engine, self.owner.condition());
        let shown = self.engine.current().settings().daemon.admin;
        if [shown.config, shown.patterns].contains(&AdminView::Hidden) {
            seen.fingerprints = std::mem::take(&mut seen.fingerprints).hidden();
        }
        seen
    }

    /// Whether it shows whose sessions are open.
    fn shows_sessions(&self) -> bool {
        self.engine.current().settings().daemon.admin.sessions == AdminView::Shown
    }

    /// The parts of the page now.
    fn parts(&self) -> page::Parts {
        let generation = self.engine.current();
        let mut refused = self.engine.blocked().newest(page::MAX_ROWS);
        let sessions = self.shows_sessions().then(|| self.engine.sessions());
        if sessions.is_none() {
            refused.iter_mut().for_each(hide_session);
        }
        let shown = page::Shown {
            observation: &self.observe(),
            condition: self.owner.condition(),
            generation: &generation,
            listening: self.owner.listening(),
            sessions,
        };
        page::parts(&shown, &refused)
    }

    async fn events(self: &Arc<Self>) -> ApiAnswer {
        let (this, user) = (Arc::clone(self), self.caller().await);
        let drain = self.engine.drain().clone();
        self.watchers.watch(move || this.parts(), drain, user)
    }

    fn health(&self, query: &str) -> ApiAnswer {
        match query {
            "" => health::plain(self.owner.condition()),
            "verbose" => health::verbose(&self.observe(), self.owner.condition()),
            _ => text(StatusCode::BAD_REQUEST, "the query takes verbose"),
        }
    }

    fn config(&self) -> ApiAnswer {
        let generation = self.engine.current();
        if generation.settings().daemon.admin.config == AdminView::Hidden {
            return hidden("show_config", "config");
        }
        let listen = self.owner.listen(generation.settings());
        json(&config::effective(&generation, &listen))
    }

    fn patterns(&self) -> ApiAnswer {
        let generation = self.engine.current();
        if generation.settings().daemon.admin.patterns == AdminView::Hidden {
            return hidden("show_patterns", "patterns");
        }
        let list = |set: &codex_network_policy::DomainSet| {
            set.rules().map(|rule| rule.pattern).collect::<Vec<_>>()
        };
        let policy = generation.policy();
        json(&PatternsBody {
            allowed: list(policy.allowed()),
            denied: list(policy.denied()),
        })
    }

    async fn blocked(&self, query: &str) -> ApiAnswer {
        let mut since = 0;
        let mut drain = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("drain", "true")) => drain = true,
                Some(("drain", "false")) => drain = false,
                Some(("since", number)) => match number.parse() {
                    Ok(number) => since = number,
                    Err(_) => {
                        return text(StatusCode::BAD_REQUEST, "since takes a sequence number");
                    }
                },
                _ => {
                    return text(
                        StatusCode::BAD_REQUEST,
                        "the query takes drain=true and since=SEQUENCE",
                    );
                }
            }
        }
        if drain && self.is_read_only() {
            return read_only();
        }
        let log = self.engine.blocked();
        let mut entries = if drain {
            let uid = self.caller().await;
            let entries = log.drain();
            // A script may drain every second.
            if !entries.is_empty() {
                let (client, count) = (self.client, entries.len());
                tracing::info!(%client, uid, count, "the record of refusals was drained through the admin API");
            }
            entries
        } else {
            log.entries(since)
        };
        entries.retain(|entry| entry.sequence > since);
        if !self.shows_sessions() {
            entries.iter_mut().for_each(hide_session);
        }
        json(&BlockedBody { blocked: entries })
    }

    async fn set_mode(&self, body: Incoming) -> ApiAnswer {
        if self.is_read_only() {
            return read_only();
        }
        let body = match read(body, self.read_timeout()).await {
            Ok(body) => body,
            Err(answer) => return *answer,
        };
        if body.trim_ascii().is_empty() {
            return text(StatusCode::BAD_REQUEST, "missing body");
        }
        let Ok(body) = serde_json::from_slice::<ModeBody>(&body) else {
            return text(
                StatusCode::BAD_REQUEST,
                "invalid json: send {\"mode\":\"full\"} or {\"mode\":\"limited\"}",
            );
        };
        let mode: Mode = match body.mode.parse() {
            Ok(mode) => mode,
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("invalid json: {error}")),
        };
        let (client, uid) = (self.client, self.caller().await);
        let generation = match self.owner.set_mode(mode) {
            Ok(generation) => generation,
            Err(error) => {
                tracing::warn!(%client, uid, "refused a change of the mode through the admin API: {error}");
                return text(StatusCode::FORBIDDEN, &error.to_string());
            }
        };
        tracing::info!(
            mode = mode.as_str(),
            generation = generation.get(),
            %client,
            uid,
            "the mode was changed through the admin API"
        );
        json(&serde_json::json!({ "status": "ok", "mode": mode.as_str() }))
    }

    async fn reload(&self) -> ApiAnswer {
        if self.is_read_only() {
            return read_only();
        }
        let (client, uid) = (self.client, self.caller().await);
        tracing::info!(%client, uid, "a reload was requested through the admin API");
        match Arc::clone(&self.owner).reload().await {
            Ok(()) => json(&serde_json::json!({ "status": "reloaded" })),
            Err(Unchanged::NothingToRead(why)) => text(StatusCode::CONFLICT, why),
            Err(Unchanged::Unusable(why)) => failed(&why),
        }
    }

    /// The user id of the caller, for the log and for its share of watchers. It is looked up before the change: then
    /// the caller still waits, and its socket is still open.
    async fn caller(&self) -> Option<u32> {
        self.engine.client_user(&self.connection).await
    }

    /// How long a head or a body may take to arrive, and a kept connection to be silent.
    fn read_timeout(&self) -> Duration {
        self.engine
            .current()
            .settings()
            .daemon
            .limits
            .header_timeout
    }

    fn is_read_only(&self) -> bool {
        self.engine.current().settings().daemon.admin.access == AdminAccess::ReadOnly
    }
}

/// Removes from a refusal whose it is: users see only their own sessions (SPEC J2).
fn hide_session(entry: &mut BlockedEntry) {
    entry.session = None;
    entry.user = None;
    // The answer of a person names that person.
    if entry.approval_id.is_some() {
        entry.rule = None;
    }
}

fn read_only() -> ApiAnswer {
    text(
        StatusCode::FORBIDDEN,
        "the admin API is read-only ([daemon.admin] read_only = true): use proxyctl, or change the setting",
    )
}

/// The setting hides the requested part; this command of `proxyctl` shows it.
fn hidden(setting: &str, command: &str) -> ApiAnswer {
    text(
        StatusCode::FORBIDDEN,
        &format!(
            "the admin API does not show this ([daemon.admin] {setting} = false): use proxyctl {command}, or change the setting"
        ),
    )
}

/// Reads a small body that arrives in time.
async fn read(body: Incoming, read_timeout: Duration) -> Result<Bytes, Box<ApiAnswer>> {
    match tokio::time::timeout(read_timeout, collect(body)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(Box::new(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 8 KiB",
        ))),
        Ok(Err(_)) => Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            "the body broke off",
        ))),
        Err(_) => Err(Box::new(text(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        ))),
    }
}

/// The whole body; `None` when it is too large. Up to a limit a larger body is read and discarded:
/// closing a connection with unread input resets it, and the client would never see the answer.
async fn collect(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        seen += data.len();
        if seen <= MAX_BODY {
            whole.extend_from_slice(&data);
        } else if seen > MAX_DISCARDED {
            break;
        }
    }
    Ok((seen <= MAX_BODY).then(|| whole.into()))
}
