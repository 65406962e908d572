//! Answers the calls, from the engine and the reloader.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_network_config::UpstreamProxy;
use codex_network_control::message::{
    self, Approval, Approvals, ApprovalsQuery, Blocked, BlockedEntry, BlockedQuery, Ca, CaQuery,
    Config, Counters, Credentials, CredentialsQuery, Decisions, DecisionsQuery, Degradation,
    Denied, ExplainQuery, Explained, GenerationInForce, Granted, Grants, Listener, MAX_WAIT,
    ModeChange, ModeInForce, NameServer, Names, NoArguments, Patterns, QuestionId, ReloadRequest,
    Reloaded, Rule, SessionEnd, SessionEnded, SessionId, SessionOpened, SessionReport,
    SessionRequest, Sessions, Status, TemporaryGrant, WantedCredentials,
};
use codex_network_control::version::{Hello, Welcome};
use codex_network_control::{Access, Context, Control, ControlError};
use codex_network_engine::{
    Audience, Engine, Generation, NameServerHealth, NameServers, NameServersFrom,
};
use codex_network_policy::{DomainSet, Mode};
use nix::unistd::Gid;

use super::decisions::{self, Following};
use super::peer::Peer;
use super::sessions::{self, HeldSession};
use super::{Admission, MAX_SERVED_OF_ONE_USER, approvals, explain, reload, telemetry};
use crate::admin::config;
use crate::ca::certificate::describe;
use crate::ca::pem;
use crate::observation::{Fault, Fingerprints, unix_seconds};
use crate::worker::reload::Reloader;
use crate::worker::role_status::RoleStatus;

/// Interval of checks while a caller waits for new entries.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a caller who sets limited mode, or opens a session with interception, waits for the public files
/// of the CA.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Shared by all connections.
pub(super) struct Service {
    engine: Engine,
    reloader: Arc<Reloader>,
    role_status: RoleStatus,
    /// The control socket itself.
    own: Listener,
}

/// The service of one caller.
#[derive(Clone)]
pub(super) struct CallerService {
    service: Arc<Service>,
    peer: Peer,
    groups: Arc<[Gid]>,
    access: Access,
    room: Admission,
    held: Arc<HeldSession>,
    following: Arc<Following>,
}

impl Service {
    pub(super) fn new(
        engine: Engine,
        reloader: Arc<Reloader>,
        role_status: RoleStatus,
        path: &Path,
        origin: &str,
    ) -> Self {
        let own = Listener {
            name: super::NAME.to_owned(),
            address: path.display().to_string(),
            origin: origin.to_owned(),
        };
        Self {
            engine,
            reloader,
            role_status,
            own,
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    pub(super) fn of(
        self: &Arc<Self>,
        peer: Peer,
        groups: Vec<Gid>,
        access: Access,
        room: Admission,
        held: Arc<HeldSession>,
    ) -> CallerService {
        CallerService {
            service: Arc::clone(self),
            peer,
            groups: groups.into(),
            access,
            room,
            held,
            following: Arc::default(),
        }
    }

    fn status(&self) -> Status {
        let generation = self.engine.current();
        let settings = generation.settings();
        let policy = generation.policy();
        let observation = self.reloader.observe();
        let counters = observation.counters;
        let shown = |proxy: Option<&Arc<UpstreamProxy>>| proxy.map(ToString::to_string);
        let mut listeners: Vec<Listener> = self
            .reloader
            .listeners()
            .into_iter()
            .map(|(name, address, origin)| Listener {
                name: name.to_owned(),
                address: address.to_string(),
                origin: origin.to_owned(),
            })
            .collect();
        listeners.push(self.own.clone());
        Status {
            version: observation.version.to_owned(),
            started: observation.started,
            uptime: observation.uptime,
            roles: self.role_status.roles(),
            enabled: policy.is_enabled(),
            mode: policy.mode().as_str().to_owned(),
            enforcement: policy.enforcement().as_str().to_owned(),
            allow_rules: policy.allowed().len(),
            deny_rules: policy.denied().len(),
            listeners,
            generation: GenerationInForce {
                number: generation.number().get(),
                since: self.reloader.in_force_since(generation.number()),
            },
            fingerprints: Some(fingerprints(observation.fingerprints)),
            degraded: observation.faults.into_iter().map(degradation).collect(),
            files: paths(&settings.files),
            last_reload: self.reloader.last(),
            counters: Counters {
                connections: counters.connections,
                udp_associations: counters.udp_associations,
                ended_for_others: counters.ended_for_others,
                turned_away: counters.turned_away,
                idle_upstream: counters.idle_upstream,
                upstream_direct: counters.upstream_direct,
                upstream_http_proxy: counters.upstream_http_proxy,
                upstream_tunnel_proxy: counters.upstream_tunnel_proxy,
                allowed: counters.allowed,
                blocked: counters.blocked,
                reported: counters.reported,
            },
            warnings: [self.reloader.missing(), self.reloader.warnings()].concat(),
            upstream_http_proxy: shown(generation.supplied().upstream_proxies.http()),
            upstream_tunnel_proxy: shown(generation.supplied().upstream_proxies.tunnel()),
            names: generation.name_servers().map(names),
            questions: approvals::open(&self.engine),
            telemetry: telemetry::exported(settings, observation.telemetry),
        }
    }

    /// Waits until the public files of the CA are written, which interception needs (SPEC M5). If they cannot
    /// be written, `status` has a warning.
    async fn ca_is_published(&self) {
        let until = Instant::now() + PUBLISH_TIMEOUT;
        let waits = || {
            let generation = self.engine.current();
            let ca = generation.supplied().files.ca.as_deref();
            ca.is_some_and(|ca| ca.kept_at.is_none() && ca.certificate_file.is_none())
        };
        while waits() && Instant::now() < until {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The entries as of now.
    fn blocked_after(&self, since: u64, audience: &Audience) -> Blocked {
        let log = self.engine.blocked();
        // Read first, so that an entry that arrives in between is not skipped.
        let last = log.last().max(since);
        // The entries of earlier workers are gone and cannot be counted, so they do not count as
        // missed.
        let known = since.max(log.base());
        let entries = log.entries(since);
        Blocked {
            next: entries.last().map_or(last, |entry| entry.sequence),
            dropped: match entries.first() {
                Some(first) => first.sequence - known - 1,
                None => last - known,
            },
            ending: self.engine.drain().has_begun(),
            blocked: entries
                .into_iter()
                .filter(|entry| match audience {
                    Audience::SessionsOf(user) => entry.uid == Some(*user),
                    Audience::All | Audience::Session(_) => true,
                })
                .map(entry)
                .collect(),
        }
    }
}

impl CallerService {
    /// The caller, with its rights by the settings in force.
    fn answerer(&self) -> approvals::Caller<'_> {
        let permitted = self.service.reloader.admitted();
        let user = self.peer.user;
        approvals::Caller {
            engine: &self.service.engine,
            peer: self.peer,
            access: permitted.access(user, &self.groups),
            name: permitted.name(user.as_raw()).map(str::to_owned),
        }
    }
}

impl Control for CallerService {
    async fn hello(self, _: Context, request: Hello) -> Result<Welcome, ControlError> {
        if self.room == Admission::TurnedAway {
            return Err(ControlError::Failed {
                message: format!(
                    "{MAX_SERVED_OF_ONE_USER} calls of this user are open; try again, or end one of them, such as a \
                     `proxyctl blocked --follow`"
                ),
            });
        }
        let version = env!("CARGO_PKG_VERSION");
        let protocol = request.agree(version).inspect_err(|mismatch| {
            // The caller chooses the program's name.
            let program: String = request.program.escape_debug().take(100).collect();
            tracing::warn!(parent: None, uid = self.peer.user.as_raw(), pid = self.peer.pid, program, "cannot talk to a caller of the control socket: {mismatch}");
        })?;
        Ok(Welcome {
            protocol,
            version: version.to_owned(),
            access: self.access.known_to(protocol),
            files: paths(&self.service.engine.current().settings().files),
        })
    }

    async fn status(self, _: Context, _: NoArguments) -> Result<Status, ControlError> {
        Ok(self.service.status())
    }

    async fn mode(self, _: Context, _: NoArguments) -> Result<ModeInForce, ControlError> {
        let generation = self.service.engine.current();
        Ok(ModeInForce {
            mode: generation.policy().mode().as_str().to_owned(),
            generation: generation.number().get(),
            was: None,
        })
    }

    async fn set_mode(self, _: Context, change: ModeChange) -> Result<ModeInForce, ControlError> {
        let mode: Mode =
            change
                .mode
                .parse()
                .map_err(
                    |error: codex_network_policy::ModeError| ControlError::Invalid {
                        message: error.to_string(),
                    },
                )?;
        let was = self.service.engine.current().policy().mode();
        let generation = self.service.reloader.set_mode(mode).map_err(|error| {
            tracing::warn!(
                parent: None,
                uid = self.peer.user.as_raw(),
                pid = self.peer.pid,
                "refused a change of the mode through the control socket: {error}"
            );
            ControlError::ConstraintViolation {
                message: error.to_string(),
            }
        })?;
        tracing::info!(
            parent: None,
            mode = mode.as_str(),
            generation = generation.get(),
            uid = self.peer.user.as_raw(),
            pid = self.peer.pid,
            "the mode was changed through the control socket"
        );
        if mode == Mode::Limited {
            self.service.ca_is_published().await;
        }
        Ok(ModeInForce {
            mode: mode.as_str().to_owned(),
            generation: generation.get(),
            was: Some(was.as_str().to_owned()),
        })
    }

    async fn reload(self, _: Context, request: ReloadRequest) -> Result<Reloaded, ControlError> {
        let Service {
            engine, reloader, ..
        } = &*self.service;
        reload::answer(engine, reloader, self.peer, &request).await
    }

    async fn blocked(self, _: Context, query: BlockedQuery) -> Result<Blocked, ControlError> {
        let log = self.service.engine.blocked();
        // A number that was never used means: from now on.
        let mut since = query.since.min(log.last());
        let until = Instant::now() + Duration::from_secs(query.wait).min(MAX_WAIT);
        let mut dropped = 0;
        loop {
            let access = self.service.reloader.admitted();
            let access = access.access(self.peer.user, &self.groups);
            let audience = decisions::audience("blocked", self.peer.user.as_raw(), access)?;
            let mut found = self.service.blocked_after(since, &audience);
            dropped += found.dropped;
            if !found.blocked.is_empty() || found.ending || Instant::now() >= until {
                found.dropped = dropped;
                return Ok(found);
            }
            // Entries of others are not looked at again.
            since = found.next;
            // The record has no notification, so check again.
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn patterns(self, _: Context, _: NoArguments) -> Result<Patterns, ControlError> {
        let generation = self.service.engine.current();
        let list = |set: &DomainSet| set.rules().map(|rule| Rule::from(&rule)).collect();
        Ok(Patterns {
            allowed: list(generation.policy().allowed()),
            denied: list(generation.policy().denied()),
        })
    }

    async fn config(self, _: Context, _: NoArguments) -> Result<Config, ControlError> {
        let generation = self.service.engine.current();
        Ok(Config {
            settings: config::effective(&generation, &generation.settings().listen),
            files: paths(&generation.settings().files),
        })
    }

    async fn explain(self, _: Context, query: ExplainQuery) -> Result<Explained, ControlError> {
        let open = self.service.reloader.listeners();
        let listeners: Vec<_> = open
            .into_iter()
            .map(|(name, address, _)| (name, address))
            .collect();
        let (engine, access) = (&self.service.engine, self.access);
        let session = query.session.clone();
        let view = sessions::view(engine, self.peer.user, access, session.as_deref())?;
        let explained = explain::explain(&view, &listeners, query).await;
        let mut explained = explained.map_err(|message| ControlError::Invalid { message })?;
        let note = self.answerer().note(session.as_deref(), &explained);
        explained.notes.extend(note);
        Ok(explained)
    }

    async fn ca(self, _: Context, query: CaQuery) -> Result<Ca, ControlError> {
        let generation = self.service.engine.current();
        Ok(ca(&generation, query))
    }

    async fn wanted_credentials(
        self,
        _: Context,
        query: CredentialsQuery,
    ) -> Result<WantedCredentials, ControlError> {
        let caller = sessions::Caller {
            peer: self.peer,
            groups: &self.groups,
            permitted: &self.service.reloader.admitted(),
        };
        sessions::wanted(&self.service.engine, &caller, &query)
    }

    async fn open_session(
        self,
        _: Context,
        request: SessionRequest,
    ) -> Result<SessionOpened, ControlError> {
        let engine = &self.service.engine;
        let (user, isolation) = (self.peer.user.as_raw(), request.isolation);
        // Before the rights are checked, so that none of their changes is missed.
        let changes = self.service.reloader.changes();
        let caller = sessions::Caller {
            peer: self.peer,
            groups: &self.groups,
            permitted: &self.service.reloader.admitted(),
        };
        let claim = sessions::open(engine, &caller, &self.held, request).inspect_err(|error| {
            if engine.may_log_session_of(user) {
                tracing::info!(
                    parent: None,
                    uid = user,
                    pid = self.peer.pid,
                    "refused to open a session: {error}"
                );
            }
        })?;
        self.held.watch(claim, changes);
        if self.held.lacks_ca_files() {
            self.service.reloader.need_ca_files();
            self.service.ca_is_published().await;
        }
        self.held.opened(isolation)
    }

    async fn session_end(self, _: Context, _: NoArguments) -> Result<SessionEnd, ControlError> {
        self.held.end().await
    }

    async fn session_report(
        self,
        _: Context,
        _: NoArguments,
    ) -> Result<SessionReport, ControlError> {
        self.held.report().ok_or_else(|| ControlError::Invalid {
            message: "no session was opened over this connection".to_owned(),
        })
    }

    async fn sessions(self, _: Context, _: NoArguments) -> Result<Sessions, ControlError> {
        Ok(sessions::list(
            &self.service.engine,
            self.peer.user,
            self.access,
        ))
    }

    async fn credentials(self, _: Context, _: NoArguments) -> Result<Credentials, ControlError> {
        Ok(sessions::credentials(
            &self.service.engine,
            self.peer.user,
            self.access,
        ))
    }

    async fn end_session(
        self,
        _: Context,
        session: SessionId,
    ) -> Result<SessionEnded, ControlError> {
        let (engine, peer) = (&self.service.engine, self.peer);
        let ended = sessions::end(engine, peer.user, self.access, &session)?;
        if engine.may_log_session_of(peer.user.as_raw()) {
            tracing::info!(
                parent: None,
                session = ended.session.id,
                uid = peer.user.as_raw(),
                pid = peer.pid,
                "a session was ended through the control socket"
            );
        }
        Ok(ended)
    }

    async fn decisions(self, _: Context, query: DecisionsQuery) -> Result<Decisions, ControlError> {
        let (engine, user) = (&self.service.engine, self.peer.user);
        let access = || self.service.reloader.admitted().access(user, &self.groups);
        self.following
            .next(engine, user.as_raw(), access, query)
            .await
    }

    async fn approvals(self, _: Context, query: ApprovalsQuery) -> Result<Approvals, ControlError> {
        Ok(self.answerer().list(query).await)
    }

    async fn approve(self, _: Context, approval: Approval) -> Result<Granted, ControlError> {
        self.answerer().approve(&approval)
    }

    async fn deny(self, _: Context, question: QuestionId) -> Result<Denied, ControlError> {
        self.answerer().deny(&question.id)
    }

    async fn grant(self, _: Context, grant: TemporaryGrant) -> Result<Granted, ControlError> {
        self.answerer().grant(&grant)
    }

    async fn grants(self, _: Context, _: NoArguments) -> Result<Grants, ControlError> {
        Ok(self.answerer().grants())
    }

    async fn revoke(self, _: Context, grant: QuestionId) -> Result<Granted, ControlError> {
        self.answerer().revoke(&grant.id)
    }
}

/// The public facts about the CA.
fn ca(generation: &Generation, query: CaQuery) -> Ca {
    let files = &generation.supplied().files;
    let described = files
        .ca
        .as_deref()
        .and_then(|ca| Some((ca, describe(&ca.der)?)));
    let Some((ca, described)) = described else {
        return Ca::default();
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    Ca {
        subject: described.subject,
        fingerprint: described.fingerprint,
        not_before: described.not_before,
        not_after: described.not_after,
        kept_at: path(&ca.kept_at),
        certificate_file: path(&ca.certificate_file),
        bundle_file: path(&ca.bundle_file),
        unused: ca.certificate_file.is_none()
            && ca.kept_at.is_none()
            && !generation.settings().intercepts(),
        roots: files.roots.len(),
        pem: pem::certificate(&ca.der),
        bundle: query
            .bundle
            .then(|| pem::bundle(files.roots.iter().map(|root| &**root), &ca.der)),
    }
}

fn fingerprints(of: Fingerprints) -> message::Fingerprints {
    message::Fingerprints {
        settings: of.settings.unwrap_or_default(),
        rules: of.rules.unwrap_or_default(),
        requirements: of.requirements,
        ca: of.ca,
    }
}

fn degradation(fault: Fault) -> Degradation {
    Degradation {
        part: fault.part.as_str().to_owned(),
        since: fault.since,
        detail: fault.detail,
    }
}

/// The name servers in use.
fn names(servers: NameServers) -> Names {
    let server = |server: NameServerHealth| NameServer {
        address: server.address.to_string(),
        last_success: server.last_success.map(unix_seconds),
        failures: server.failures,
        failing_since: server.failing_since.map(unix_seconds),
        last_error: server.last_error,
    };
    let from = match servers.from {
        NameServersFrom::Settings => Names::SETTINGS,
        NameServersFrom::System => Names::SYSTEM,
    };
    Names {
        from: from.to_owned(),
        servers: servers.servers.into_iter().map(server).collect(),
        problem: servers.problem,
    }
}

fn paths(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

fn entry(entry: codex_network_engine::BlockedEntry) -> BlockedEntry {
    BlockedEntry {
        host: entry.host,
        reason: entry.reason.into_owned(),
        client: entry.client,
        method: entry.method,
        mode: entry.mode.map(str::to_owned),
        protocol: entry.protocol.to_owned(),
        decision: entry.decision.to_owned(),
        source: entry.source.to_owned(),
        port: entry.port,
        timestamp: entry.timestamp,
        attempt_id: entry.attempt_id,
        session: entry.session,
        user: entry.user,
        rule: entry.rule,
        credential: entry.credential,
        approval_id: entry.approval_id,
        would_deny: entry.would_deny,
        count: if entry.count > 1 { entry.count } else { 0 },
        sequence: entry.sequence,
    }
}
