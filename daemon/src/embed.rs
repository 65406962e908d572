//! The proxy inside another program's process (SPEC E1): a builder, a proxy whose listeners are
//! reserved, and a handle to the running proxy.
//!
//! It is the same engine as the service's, without the service's other processes: no privilege is
//! given up, nothing is confined, and the CA's key is in this process. There is no control socket,
//! and an admin API only if the embedder requests one. The handle offers the operations of both.
//!
//! A running proxy notices within five seconds that the system's name servers or the hosts file have
//! changed. Root certificates are read once for the life of the process.

mod builder;
mod credentials;
mod error;
mod follow;
mod issuer;
mod listener;
mod observer;
mod questions;
mod running;

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

pub use builder::NetworkProxyBuilder;
use builder::{Configuration, ListenOptions, PermittedDoors, Reserved};
use codex_network_config::{Settings, Sources, UpstreamProxies, Widening};
use codex_network_engine::{BlockedEntry, ChildEnvironment, Counters, CredentialInfo, Engine};
use codex_network_policy::{Interception, Mode};
use credentials::EmbedderCredentials;
pub use error::NetworkProxyError;
use issuer::EmbeddedIssuer;
use listener::Listener;
pub use observer::BlockedRequestObserver;
use observer::ObserverTask;
use parking_lot::Mutex;
pub use questions::Questions;
use running::Running;
use tokio::sync::mpsc;

/// A proxy that is ready to run: its listeners are bound, and clients that connect wait. The [crate's
/// documentation](crate) has an example.
pub struct NetworkProxy {
    engine: Engine,
    issuer: Arc<EmbeddedIssuer>,
    configuration: Configuration,
    upstream_proxies: Option<Arc<UpstreamProxies>>,
    credentials: EmbedderCredentials,
    listen_options: ListenOptions,
    /// In the order of [`Listener::ALL`].
    reserved: [Option<Reserved>; 3],
    observing: Option<(
        Arc<dyn BlockedRequestObserver>,
        mpsc::Receiver<BlockedEntry>,
    )>,
}

/// A running proxy. Dropping it ends every connection at once; see [`shutdown`](Self::shutdown).
#[must_use = "a proxy whose handle is dropped ends"]
pub struct NetworkProxyHandle {
    running: Arc<Running>,
    observer_task: Mutex<Option<ObserverTask>>,
}

impl NetworkProxy {
    /// Begins a proxy that refuses everything, on ports that are free.
    pub fn builder() -> NetworkProxyBuilder {
        NetworkProxyBuilder::default()
    }

    /// The address of the HTTP door, also before the proxy runs.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.reserved(Listener::Http)
    }

    /// The address of the SOCKS5 door, also before the proxy runs.
    pub fn socks_addr(&self) -> Option<SocketAddr> {
        self.reserved(Listener::Socks5)
    }

    /// The address of the admin API, also before the proxy runs.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.reserved(Listener::Admin)
    }

    /// Serves, on the sockets that were reserved.
    ///
    /// # Errors
    ///
    /// Returns an error if a listener cannot be used; then none of them serves.
    #[expect(
        clippy::unused_async,
        reason = "it must be called inside a runtime, which `async` makes visible"
    )]
    pub async fn run(self) -> Result<NetworkProxyHandle, NetworkProxyError> {
        let running = Running::start(
            self.engine,
            self.issuer,
            self.configuration,
            self.upstream_proxies,
            self.credentials,
            self.listen_options,
            self.reserved,
        )?;
        follow::start(&running);
        for warning in running.engine.looping_proxies() {
            tracing::warn!("{warning}");
        }
        let observer_task = self
            .observing
            .map(|(observer, queue)| ObserverTask::start(observer, queue));
        Ok(NetworkProxyHandle {
            running,
            observer_task: Mutex::new(observer_task),
        })
    }

    fn reserved(&self, which: Listener) -> Option<SocketAddr> {
        let reserved = self.reserved[which as usize].as_ref()?;
        reserved.listener.local_addr().ok()
    }
}

impl NetworkProxyHandle {
    /// The questions of this proxy, to list and to answer them. While the value lives, questions are asked.
    pub fn questions(&self) -> Questions {
        Questions::of(&self.running.engine)
    }

    /// Resolves when the proxy has ended, every connection included.
    pub async fn wait(&self) {
        self.running.engine.drain().ended().await;
    }

    /// Stops accepting, lets open connections go on for at most `drain_timeout`, and ends what is left.
    /// When it is over, no task and no socket of the proxy is left.
    pub async fn shutdown(&self) {
        // Begun first, so that the addresses of closing listeners stay our own to the end (SPEC
        // P6).
        self.running.engine.drain().begin();
        self.running.close();
        let limit = self.settings().daemon.limits.drain_timeout;
        self.running.engine.drain().finish(limit).await;
        let observer_task = self.observer_task.lock().take();
        if let Some(observer_task) = observer_task {
            observer_task.finish().await;
        }
    }

    /// The address of the HTTP door, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.running.address(Listener::Http)
    }

    /// The address of the SOCKS5 door, if there is one.
    pub fn socks_addr(&self) -> Option<SocketAddr> {
        self.running.address(Listener::Socks5)
    }

    /// The address of the admin API, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.running.address(Listener::Admin)
    }

    /// Puts other settings in force, all at once. Open connections that they forbid end, and doors
    /// open, move and close as they say.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings cannot be used. Then the old ones stay in force.
    pub async fn replace(&self, settings: Settings) -> Result<(), NetworkProxyError> {
        let given = Configuration::Settings(Box::new(settings));
        self.running.put_in_force(Some(given)).await.map(drop)
    }

    /// Puts a configuration from memory in force; as [`replace`](Self::replace).
    ///
    /// # Errors
    ///
    /// Every problem that it has; then the old settings stay in force.
    pub async fn replace_toml(&self, text: impl Into<String>) -> Result<(), NetworkProxyError> {
        let sources = Sources::none().with_text("config_toml", text);
        let given = Configuration::Sources(sources);
        self.running.put_in_force(Some(given)).await.map(drop)
    }

    /// Reads what the proxy was built from again and puts it in force; as [`replace`](Self::replace).
    ///
    /// # Errors
    ///
    /// Every problem that it has; then the old settings stay in force.
    pub async fn reload(&self) -> Result<(), NetworkProxyError> {
        self.running.put_in_force(None).await.map(drop)
    }

    /// Changes the mode: full mode until other settings come into force, limited mode until this is called
    /// again.
    ///
    /// # Errors
    ///
    /// Returns an error if a requirement forbids it (SPEC C6).
    pub fn set_mode(&self, mode: Mode) -> Result<(), Widening> {
        self.running.engine.set_mode(mode).map(|_generation| ())
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(self.running.engine.current().settings())
    }

    /// The last refusals, the oldest first.
    pub fn blocked(&self) -> Vec<BlockedEntry> {
        self.running.engine.blocked().entries(0)
    }

    /// Counts as of now.
    pub fn counters(&self) -> Counters {
        self.running.engine.counters()
    }

    /// The credentials that programs have dummies for, without the values.
    pub fn credentials(&self) -> Vec<CredentialInfo> {
        self.running.engine.own_credentials()
    }

    /// How many tasks of the proxy there are: its listeners, its connections, and one that follows
    /// name servers and the hosts file.
    pub fn tasks(&self) -> usize {
        self.running.engine.drain().tasks()
    }

    /// The certificate (PEM) that clients must trust where TLS is intercepted.
    pub fn ca_certificate_pem(&self) -> String {
        self.running.issuer.certificate_pem()
    }

    /// The variables that make a program use the proxy; `None` without an HTTP door.
    ///
    /// Its bundle is the same for all programs.
    /// [`child_environment_of`](Self::child_environment_of) keeps the certificates that one program
    /// trusted before.
    pub fn child_environment(&self) -> Option<ChildEnvironment> {
        let policy = &self.settings().policy;
        let mut child = ChildEnvironment::new(self.http_addr()?);
        child.socks5 = self.socks_addr();
        child.allow_local_binding = policy.allows_local_binding();
        if policy.interception() == Interception::Automatic {
            child.bundle = self.running.issuer.bundle_file();
        }
        Some(
            match self.running.credentials.of_child(&self.running.engine) {
                Some(credentials) => child.with_credentials(credentials),
                None => child,
            },
        )
    }

    /// Like [`child_environment`](Self::child_environment), for a program with this environment. If
    /// one of [`ChildEnvironment::BUNDLE_VARIABLES`] names certificates, the bundle includes them
    /// (SPEC B2).
    ///
    /// Reads these files, and writes the bundle into the
    /// [`bundle_directory`](NetworkProxyBuilder::bundle_directory). Only certificates in PEM are
    /// taken, from regular files of at most 4 MiB with an absolute path. A warning names the files
    /// that were left out.
    pub fn child_environment_of(
        &self,
        environment: &HashMap<String, String>,
    ) -> Option<ChildEnvironment> {
        let mut child = self.child_environment()?;
        if child.bundle.is_some() {
            child.bundle = self.running.issuer.bundle_for(environment);
        }
        Some(child)
    }

    /// Sets the variables that make a program use the proxy (SPEC B1), and overwrites old values.
    /// With [`bundle_directory`](NetworkProxyBuilder::bundle_directory), sets also those that make
    /// it trust the CA (SPEC B2) in addition to what it trusted before, as
    /// [`child_environment_of`](Self::child_environment_of). With
    /// [`credentials`](NetworkProxyBuilder::credentials), puts dummies in the place of real values (SPEC B3, B9), and
    /// removes credentials that have none. Does nothing without an HTTP door.
    pub fn apply_to_env(&self, environment: &mut HashMap<String, String>) {
        if let Some(child) = self.child_environment_of(environment) {
            child.apply_to(environment);
        }
    }
}

impl Drop for NetworkProxyHandle {
    fn drop(&mut self) {
        self.running.engine.drain().cut();
    }
}

/// Serves HTTP, and nothing else, on a listener that is already bound. The builder's settings for
/// listeners do not count.
///
/// # Errors
///
/// The same as [`NetworkProxyBuilder::build`].
pub async fn run_http_proxy_with_std_listener(
    builder: NetworkProxyBuilder,
    listener: TcpListener,
) -> Result<NetworkProxyHandle, NetworkProxyError> {
    let builder = builder.only(PermittedDoors::Http).http_listener(listener);
    builder.build().await?.run().await
}

/// Serves SOCKS5, and nothing else, on a listener that is already bound. The settings must not
/// switch SOCKS5 off. The builder's settings for listeners do not count.
/// # Errors
///
/// The same as [`NetworkProxyBuilder::build`].
pub async fn run_socks5_with_std_listener(
    builder: NetworkProxyBuilder,
    listener: TcpListener,
) -> Result<NetworkProxyHandle, NetworkProxyError> {
    let builder = builder
        .only(PermittedDoors::Socks5)
        .socks_listener(listener);
    builder.build().await?.run().await
}

impl fmt::Debug for NetworkProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkProxy")
            .field("http", &self.http_addr())
            .field("socks", &self.socks_addr())
            .field("admin", &self.admin_addr())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NetworkProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkProxyHandle")
            .field("http", &self.http_addr())
            .field("socks", &self.socks_addr())
            .field("admin", &self.admin_addr())
            .finish_non_exhaustive()
    }
}
