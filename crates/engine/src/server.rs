//! [`Engine`]: the interface for the program that owns an engine.

mod approvals;
mod counters;
mod credential_renewal;
mod measuring;
mod parts;
mod records;
mod session_broker;
mod session_doors;
mod session_network;
mod session_parts;
mod session_sockets;
mod sessions;
mod settings_view;
mod telemetry;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codex_network_config::{
    ResolverFiles, Settings, Supplied, SystemFiles, UpstreamProxy, Widening,
};
use codex_network_policy::Mode;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::counters::Counters;
pub use self::parts::EngineParts;
use self::session_broker::SessionBroker;
pub use self::session_parts::{SessionDoor, SessionError, SessionParts};
pub use self::sessions::OpenSession;
use self::sessions::OpenSessions;
pub use self::settings_view::SettingsView;
use self::telemetry::collector_of;
use crate::accept::{
    Accept, AcceptDoor, AcceptLog, AcceptSocket, AcceptTurn, NoDelay, ServingRuntime,
};
use crate::admission::{Admission, Bounds, BoundsInForce, Shortages};
use crate::approvals::{Approvals, Asker};
use crate::blocked::BlockedLog;
use crate::broker::Renewals;
use crate::closing::DescriptorCloser;
use crate::decider::Decider;
use crate::drain::Drain;
use crate::enforce::Enforcer;
use crate::http::Shared;
use crate::http2_memory::Http2Memory;
use crate::interceptor::{InterceptionError, Interceptor, LeafBudget, LeafSource};
use crate::limits::ConnectionCount;
use crate::live_policy::{Generation, GenerationNumber, LivePolicy};
use crate::own::{OwnCollector, OwnListener, OwnListeners, OwnSockets, OwnUnixSockets};
use crate::owner::{ConnectionHandle, Owners};
use crate::pipes::PipePool;
use crate::record::Recorder;
use crate::resolve::{DnsResolver, Resolve, Resolver, ResolverOptions, ResolverSetupError};
use crate::shared::SharedParts;
use crate::tls::UpstreamTls;
use crate::upstream::Upstream;
use crate::{doors, http, socks5};

/// A running proxy. Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// See [`EngineParts::runtimes`].
    runtimes: Arc<[Arc<ServingRuntime>]>,
    sessions: Arc<OpenSessions>,
    /// See [`EngineParts::session_runtime`].
    session_runtime: Option<(Arc<ServingRuntime>, Arc<AcceptTurn>)>,
    closer: DescriptorCloser,
    /// See [`EngineParts::credentials`].
    broker: Arc<SessionBroker>,
}

/// Why settings cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No resolver can be made.
    #[error(transparent)]
    Resolver(#[from] ResolverSetupError),
    /// The client's side of TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// TLS cannot be intercepted though it should be possible.
    #[error("TLS cannot be intercepted: {0}")]
    Interception(#[from] InterceptionError),
}

/// A door of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// HTTP forward proxy with CONNECT.
    Http,
    /// SOCKS5.
    Socks5,
}

/// An open door. Dropping it stops accepting; accepted connections go on. Its address counts as our
/// own until the last of them has ended, or, if the engine is draining by then, until the engine
/// ends.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
    _own: Arc<OwnListener>,
}

impl Door {
    /// The name in configurations, logs and systemd's `LISTEN_FDNAMES`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => http::DOOR,
            Self::Socks5 => socks5::DOOR,
        }
    }
}

#[cfg(test)]
impl Engine {
    /// The parts that the doors share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Engine {
    /// Makes an engine. No door is open yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings yield no usable resolver or TLS configuration.
    pub fn new(settings: Arc<Settings>, parts: EngineParts) -> Result<Self, SetupError> {
        let files = &parts.supplied.files;
        let resolver = resolver(parts.resolver.as_ref(), &settings, &files.resolver)?;
        let tls = UpstreamTls::renewed(None, &files.roots)?;
        let clock = Arc::clone(&parts.clock);
        let leaves = parts
            .issuer
            .map(|issuer| LeafSource::new(issuer, clock))
            .transpose();
        let leaves = leaves.map_err(InterceptionError::from)?;
        let interceptor = Interceptor::renewed(None, leaves.as_ref(), &settings, files);
        let drain = Drain::new();
        let owners = Arc::new(Owners::new(parts.client_owner));
        let command = parts.execution.command.as_deref();
        let embedder = parts
            .questions_of
            .map(|uid| Asker::of_embedder(uid, command));
        let approvals = Approvals::new(Arc::clone(&owners), Arc::clone(&parts.clock), embedder);
        let shortages = Arc::new(Shortages::default());
        let dummies = Arc::default();
        let broker = SessionBroker::without_session(&settings, &dummies, &parts.credentials);
        let live = LivePolicy::new(
            settings,
            parts.supplied,
            resolver,
            Arc::clone(&parts.machine),
            tls,
            interceptor,
            broker.credentials.clone(),
        );
        let recorder = Recorder::new(
            parts.audit,
            parts.clock,
            BlockedLog::after(parts.blocked_base).with_observer(parts.blocked_observer),
            parts.audit_metadata,
            Arc::clone(&owners),
            drain.clone(),
        );
        let collector = OwnCollector::new(Arc::clone(&parts.machine));
        collector.set(collector_of(live.current().settings()));
        let own = OwnSockets {
            collector,
            listeners: OwnListeners::kept_while_draining(Arc::clone(&parts.machine), drain.clone()),
            datagrams: OwnListeners::new(parts.machine),
            unix: OwnUnixSockets::default(),
            session: Arc::default(),
        };
        let decider = parts
            .decider
            .map(|decider| Decider::new(decider, parts.decider_timeout, parts.execution));
        let enforcer = Enforcer::new(live, recorder, decider, approvals, own, parts.unix_sockets);
        let shared = SharedParts {
            enforcer,
            upstream: Arc::new(Upstream::new(
                parts.dialler,
                drain.clone(),
                Http2Memory::new(Arc::clone(&owners)),
            )),
            admission: Admission::new(
                "proxy",
                Arc::clone(&owners),
                drain.clone(),
                Arc::clone(&shortages),
            ),
            shortages,
            leaf_budget: Arc::new(LeafBudget::new(Arc::clone(&owners))),
            owners,
            associations: Arc::new(ConnectionCount::default()),
            drain,
            pipes: Arc::new(PipePool::new(parts.broken_pipe_signal)),
            fixed_resolver: parts.resolver,
            leaves,
            dummies,
            renewals: Arc::new(Renewals::new(parts.credential_reader)),
        };
        Ok(Self {
            shared: Arc::new(shared),
            broker: Arc::new(broker),
            sessions: Arc::default(),
            closer: DescriptorCloser::default(),
            session_runtime: parts.session_runtime.map(|handle| {
                let runtime = ServingRuntime::only_accepting(handle);
                (runtime, Arc::new(AcceptTurn::new()))
            }),
            runtimes: parts
                .runtimes
                .into_iter()
                .map(ServingRuntime::new)
                .collect(),
        })
    }

    /// Opens a door on a bound listener, which keeps its address. Call it inside a tokio runtime, which
    /// serves the door unless the engine has [runtimes](EngineParts::runtimes) of its own.
    ///
    /// # Errors
    ///
    /// Returns an error if the listener cannot be made non-blocking or has no address.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the engine takes the listener over; its owner must not use it any more"
    )]
    pub fn open(&self, door: Door, listener: std::net::TcpListener) -> io::Result<Listening> {
        let admission = &self.shared.admission;
        let bounds = self.bounds(None);
        let here;
        let runtimes = if self.runtimes.is_empty() {
            here = Arc::from([ServingRuntime::new(Handle::current())]);
            &here
        } else {
            &self.runtimes
        };
        let shared = Arc::clone(&self.shared);
        let name = door.as_str();
        match door {
            Door::Http => self.listen(
                name,
                &listener,
                admission,
                &bounds,
                runtimes,
                move |stream, address, connection| {
                    doors::serve_http(Arc::clone(&shared), stream, address, connection)
                },
            ),
            Door::Socks5 => self.listen(
                name,
                &listener,
                admission,
                &bounds,
                runtimes,
                move |stream, address, connection| {
                    doors::serve_socks5(Arc::clone(&shared), stream, address, connection)
                },
            ),
        }
    }

    /// The limits in force, with this many slots or with `max_connections`. A connection is idle
    /// after the time limit of a head.
    fn bounds(&self, slots: Option<usize>) -> BoundsInForce {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            let current = shared.live().current();
            let daemon = &current.settings().daemon;
            Bounds {
                slots: slots.unwrap_or(daemon.limits.max_connections),
                min_idle: daemon.limits.header_timeout,
                per_session: daemon.sessions.max_connections,
            }
        })
    }

    /// Opens a listener of the owner's own beside the doors, on the runtime of the caller. It accepts and
    /// drains like a door, and no request can reach it through a door. It has `limit` connections of its
    /// own, so that it answers when the doors are full. They are shared among users like those of the doors.
    /// `serve` uses the handle to mark a request in hand.
    ///
    /// # Errors
    ///
    /// The same as [`open`](Self::open).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the engine takes the listener over; its owner must not use it any more"
    )]
    pub fn open_beside<S, F>(
        &self,
        name: &'static str,
        listener: std::net::TcpListener,
        limit: usize,
        serve: S,
    ) -> io::Result<Listening>
    where
        S: Fn(TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (owners, shortages) = (&self.shared.owners, &self.shared.shortages);
        let admission = Admission::new(
            name,
            Arc::clone(owners),
            self.shared.drain.clone(),
            Arc::clone(shortages),
        );
        let bounds = self.bounds(Some(limit));
        let here = Arc::from([ServingRuntime::new(Handle::current())]);
        let serve = move |stream, address, connection: ConnectionHandle| {
            let served = serve(stream, address, connection.clone());
            async move {
                connection.until_it_gives_way(pin!(served)).await;
            }
        };
        self.listen(name, &listener, &admission, &bounds, &here, serve)
    }

    /// Accepts from a listener on each of these runtimes.
    fn listen<S, F>(
        &self,
        door: &'static str,
        listener: &std::net::TcpListener,
        admission: &Arc<Admission>,
        bounds: &BoundsInForce,
        runtimes: &Arc<[Arc<ServingRuntime>]>,
        serve: S,
    ) -> io::Result<Listening>
    where
        S: Fn(TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = self.shared.drain.stop();
        let own = Arc::new(self.own_listeners().add(address));
        let serve = move |_, stream, address, connection| serve(stream, address, connection);
        let (serve, log) = (Arc::new(serve), Arc::<AcceptLog>::default());
        let no_delay = NoDelay::of(listener);
        let mut loops = Vec::with_capacity(runtimes.len());
        for runtime in &**runtimes {
            let _entered = runtime.handle().enter();
            let door = AcceptDoor {
                listener: AcceptSocket::own(listener.try_clone()?)?,
                name: door,
                address,
                no_delay,
            };
            let accept = Accept {
                doors: Arc::from([door]),
                stop: stop.clone(),
                drain: self.shared.drain.clone(),
                admission: Arc::clone(admission),
                bounds: Arc::clone(bounds),
                own: Some(Arc::clone(&own)),
                log: Arc::clone(&log),
                session: None,
                turn: None,
                here: Arc::clone(runtime),
                runtimes: Arc::clone(runtimes),
            };
            loops.push(accept);
        }
        for accept in loops {
            let runtime = Arc::clone(&accept.here);
            let _entered = runtime.handle().enter();
            let serve = Arc::clone(&serve);
            let run = async move { accept.run(&serve).await };
            self.shared.drain.spawn(run);
        }
        Ok(Listening {
            address,
            stop,
            _own: own,
        })
    }

    /// Puts other settings in force, all at once. Requests that were judged go on under the old
    /// settings; tunnels that the new ones forbid end. Limited mode set by
    /// [`set_mode`](Self::set_mode) stays. Returns the generation's number.
    ///
    /// # Errors
    ///
    /// Returns an error if no resolver, or no TLS for upstreams, can be made from the settings.
    /// Then nothing has changed.
    pub fn replace(&self, settings: &Arc<Settings>) -> Result<GenerationNumber, SetupError> {
        self.replace_all(settings, self.current().supplied())
    }

    /// Like [`replace`](Self::replace), with other supplied files and upstream proxies.
    ///
    /// # Errors
    ///
    /// The same as [`replace`](Self::replace).
    pub fn replace_all(
        &self,
        settings: &Arc<Settings>,
        supplied: &Supplied,
    ) -> Result<GenerationNumber, SetupError> {
        let files = &supplied.files;
        let resolver = resolver(
            self.shared.fixed_resolver.as_ref(),
            settings,
            &files.resolver,
        )?;
        let current = self.current();
        let tls = UpstreamTls::renewed(Some(current.tls()), &files.roots)?;
        let leaves = self.shared.leaves.as_ref();
        let interceptor = Interceptor::renewed(current.interceptor(), leaves, settings, files);
        // The settings are usable. A request under way may not reach their collector either.
        self.shared
            .enforcer
            .own()
            .collector
            .set(collector_of(settings));
        let live = self.shared.live();
        let number = live.replace(settings, supplied, &resolver, &tls, interceptor.as_ref());
        self.rejudge_approvals();
        self.renew_values(&supplied.credentials);
        Ok(number)
    }

    /// Puts changed files of the system in force, without a change of the settings: open connections
    /// and tunnels go on, and the generation's number stays. New connections to upstreams use the new name
    /// servers, hosts and roots. Kept connections are not used again, since they lead to addresses from
    /// the old files. Owners must not call this and [`replace`](Self::replace) at the same time.
    ///
    /// # Errors
    ///
    /// Returns an error if no resolver, or no TLS for upstreams, can be made. Then nothing has
    /// changed.
    pub fn renew(&self, files: &SystemFiles) -> Result<(), SetupError> {
        let current = self.current();
        let settings = current.settings();
        let tls = UpstreamTls::renewed(Some(current.tls()), &files.roots)?;
        let resolver = match (current.dns(), &self.shared.fixed_resolver) {
            (Some(dns), None) => {
                let options = options(settings, &files.resolver);
                Resolver::Dns(Arc::new(dns.renewed(&options)?))
            }
            (_, fixed) => resolver(fixed.as_ref(), settings, &files.resolver)?,
        };
        self.shared.live().renew(files, &resolver, &tls);
        Ok(())
    }

    /// Changes the mode: full mode until the next [`replace`](Self::replace), limited mode until this is
    /// called again. Returns the generation's number.
    ///
    /// # Errors
    ///
    /// Returns an error if a requirement has a stricter mode (SPEC C6). Then nothing has changed.
    pub fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        self.shared.live().set_mode(mode)
    }

    /// The settings in force.
    pub fn current(&self) -> Arc<Generation> {
        self.shared.live().current()
    }

    /// Closes descriptors that others gave. Their close may wait.
    pub fn descriptor_closer(&self) -> &DescriptorCloser {
        &self.closer
    }

    /// The addresses that no request may reach because they are our own. Add every other listener
    /// of this process here before it opens: clients may be in the queue of each of them before the
    /// first one accepts.
    pub fn own_listeners(&self) -> &OwnListeners {
        &self.shared.enforcer.own().listeners
    }

    /// The unix sockets that no request may reach because they are our own. Add every one that this
    /// process listens on.
    pub fn own_unix_sockets(&self) -> &OwnUnixSockets {
        &self.shared.enforcer.own().unix
    }

    /// The upstream proxies whose address is a listener of this proxy. Every request that they
    /// would carry is refused (SPEC H12). A proxy's name that leads here is detected when it is
    /// looked up.
    pub fn looping_proxies(&self) -> Vec<String> {
        let generation = self.current();
        let proxies = &generation.supplied().upstream_proxies;
        let mut looping: Vec<_> = proxies.http().into_iter().chain(proxies.tunnel()).collect();
        looping.dedup();
        let enforcer = &self.shared.enforcer;
        looping.retain(|proxy| enforcer.is_looping_proxy(&generation, &proxy.authority));
        let warning = |proxy: &&Arc<UpstreamProxy>| {
            format!(
                "the upstream proxy {proxy} is this proxy itself, so traffic through it is refused \
                 (loop_detected); start the daemon without that variable, or set allow_upstream_proxy = false"
            )
        };
        looping.iter().map(warning).collect()
    }

    /// The current values of the counters.
    pub fn counters(&self) -> Counters {
        let opened = self.shared.upstream.opened();
        let shortages = &self.shared.shortages;
        Counters {
            connections: self.shared.admission.open(),
            udp_associations: self.shared.associations.open(),
            ended_for_others: shortages.ended.load(Ordering::Relaxed),
            turned_away: shortages.turned_away.load(Ordering::Relaxed),
            idle_upstream: self.shared.upstream.idle(),
            upstream_direct: opened.direct,
            upstream_http_proxy: opened.http_proxy,
            upstream_tunnel_proxy: opened.tunnel_proxy,
            allowed: self.shared.recorder().allowed_total(),
            blocked: self.shared.recorder().blocked.total(),
            reported: self.shared.recorder().blocked.reported(),
        }
    }

    /// The user id of a client on this machine, from the kernel's socket tables. `None` if they do
    /// not have it, and for a client elsewhere. The first call for a connection may take two
    /// seconds.
    pub async fn client_user(&self, connection: &ConnectionHandle) -> Option<u32> {
        let owners = &self.shared.owners;
        owners.look_up(std::slice::from_ref(connection)).await;
        connection.user()
    }

    pub(crate) fn enforcer(&self) -> &Enforcer {
        &self.shared.enforcer
    }

    /// The signals that end the engine.
    pub fn drain(&self) -> &Drain {
        &self.shared.drain
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Listening {
    /// The address on which the door listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn resolver(
    fixed: Option<&Arc<dyn Resolve>>,
    settings: &Settings,
    files: &ResolverFiles,
) -> Result<Resolver, ResolverSetupError> {
    if let Some(fixed) = fixed {
        return Ok(Resolver::Own(Arc::clone(fixed)));
    }
    let resolver = DnsResolver::new(&options(settings, files))?;
    Ok(Resolver::Dns(Arc::new(resolver)))
}

fn options(settings: &Settings, files: &ResolverFiles) -> ResolverOptions {
    let options = &settings.daemon.resolver;
    ResolverOptions {
        nameservers: options.nameservers.clone(),
        timeout: options.timeout,
        hosts_file: options.hosts_file.clone(),
        files: files.clone(),
    }
}
