//! The running part of an embedded proxy: the engine, its listeners, and how other settings come
//! into force.
//!
//! The handle and the admin API share it. For both, settings are checked off the threads that
//! serve, one change at a time, and put in force whole or not at all (SPEC C7).

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{Listen, Settings, Supplied, UpstreamProxies, Widening, duration_text};
use codex_network_engine::{Door, Engine, GenerationNumber, Listening};
use codex_network_policy::Mode;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;

use super::NetworkProxyError;
use super::builder::{self, Configuration, ListenOptions, Reserved};
use super::credentials::EmbedderCredentials;
use super::issuer::EmbeddedIssuer;
use super::listener::Listener;
use crate::admin::{self, Owner, Unchanged};
use crate::observation::{Observer, ProcessFacts};

/// How long the admin API waits for a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running proxy, as its handle and its admin API hold it.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) issuer: Arc<EmbeddedIssuer>,
    /// The configuration that the proxy was built from.
    pub(super) configuration: Configuration,
    /// Upstream proxies instead of those of the environment.
    upstream_proxies: Option<Arc<UpstreamProxies>>,
    pub(super) credentials: EmbedderCredentials,
    pub(super) listen_options: ListenOptions,
    state: Mutex<ProxyState>,
    /// Held while settings are checked and put in force, so that the last caller's settings are the
    /// ones that stay.
    turn: Arc<tokio::sync::Mutex<()>>,
    observer: Observer,
}

/// The state that changes with the settings.
struct ProxyState {
    open: [Option<Opened>; 3],
    by: SettingsSource,
    closing: Closing,
}

/// An open listener, and its requested address.
struct Opened {
    requested: SocketAddr,
    listening: Listening,
}

/// The source of the settings in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettingsSource {
    /// The configuration that the proxy was built from.
    Configuration,
    /// The embedder replaced it.
    Embedder,
}

/// Whether listeners may still be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Yes,
}

impl Running {
    /// Serves on reserved listeners, all of them or none.
    pub(super) fn start(
        engine: Engine,
        issuer: Arc<EmbeddedIssuer>,
        configuration: Configuration,
        upstream_proxies: Option<Arc<UpstreamProxies>>,
        credentials: EmbedderCredentials,
        listen_options: ListenOptions,
        reserved: [Option<Reserved>; 3],
    ) -> Result<Arc<Self>, NetworkProxyError> {
        let running = Arc::new(Self {
            engine,
            issuer,
            configuration,
            upstream_proxies,
            credentials,
            listen_options,
            state: Mutex::new(ProxyState {
                open: [None, None, None],
                by: SettingsSource::Configuration,
                closing: Closing::No,
            }),
            turn: Arc::default(),
            observer: Observer::new(ProcessFacts::default()),
        });
        let mut open = [None, None, None];
        // All addresses are registered as our own before the first listener accepts (SPEC P6).
        let mut held = Vec::new();
        for ((slot, reserved), which) in open.iter_mut().zip(reserved).zip(Listener::ALL) {
            if let Some(Reserved {
                requested,
                listener,
                own,
            }) = reserved
            {
                held.push(own);
                let listening = running.open(which, listener)?;
                *slot = Some(Opened {
                    requested,
                    listening,
                });
            }
        }
        running.state().open = open;
        Ok(running)
    }

    /// Puts new settings in force: those of `given`, or else of the builder's configuration, read
    /// again.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings cannot be used. Then the old ones stay in force.
    pub(super) async fn put_in_force(
        self: &Arc<Self>,
        given: Option<Configuration>,
    ) -> Result<GenerationNumber, NetworkProxyError> {
        let turn = self.turn().await;
        self.put_in_force_by(turn, given).await
    }

    /// The same for a caller that has its turn.
    async fn put_in_force_by(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        given: Option<Configuration>,
    ) -> Result<GenerationNumber, NetworkProxyError> {
        let running = Arc::clone(self);
        // Reading files and compiling long lists blocks, so it must not run on a thread that
        // serves. If the caller goes away meanwhile, the reading keeps the turn, so that a stuck
        // read holds one thread only.
        let settled = tokio::task::spawn_blocking(move || {
            let configuration = given.as_ref().unwrap_or(&running.configuration);
            let by = match given {
                Some(_) => SettingsSource::Embedder,
                None => SettingsSource::Configuration,
            };
            let current = running.engine.current();
            let proxies = match configuration {
                // Settings do not contain upstream proxies, so those in force stay: traffic that goes
                // through one must not go past it after a change of something else.
                Configuration::Settings(_) => Some(&current.supplied().upstream_proxies),
                Configuration::Sources(_) => running.upstream_proxies.as_ref(),
            };
            (configuration.settle(&running.issuer, proxies), by, turn)
        });
        let (settled, by, _turn) = settled.await.map_err(|_| NetworkProxyError::Runtime)?;
        let (mut settings, supplied) = settled?;
        self.credentials.add_to(&mut settings)?;
        self.apply(&Arc::new(settings), &supplied, by)
    }

    fn apply(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        supplied: &Supplied,
        by: SettingsSource,
    ) -> Result<GenerationNumber, NetworkProxyError> {
        let mut state = self.state();
        if state.closing == Closing::Yes {
            return Err(NetworkProxyError::Ended);
        }
        let mut opened = [None, None, None];
        let addresses = self.listen_options.addresses(settings);
        for (index, which) in Listener::ALL.into_iter().enumerate() {
            let there = state.open[index].as_ref().map(|open| open.requested);
            if let Some(open) = &state.open[index]
                && addresses[index] == there
            {
                // A listener that the embedder passed stays where it is, if that is still permitted
                // (SPEC L8).
                builder::may_be(which, open.listening.address(), &settings.listen)?;
            }
            if let Some(requested) = addresses[index]
                && there != Some(requested)
            {
                let listener = self.engine.own_listeners().listen(requested);
                let (listener, _own) =
                    listener.map_err(|error| builder::cannot_listen(which, requested, error))?;
                let listening = self.open(which, listener)?;
                opened[index] = Some(Opened {
                    requested,
                    listening,
                });
            }
        }
        let number = self.engine.replace_all(settings, supplied)?;
        // The old sockets close only now that the new ones accept (SPEC C7).
        for ((open, opened), address) in state.open.iter_mut().zip(opened).zip(addresses) {
            if opened.is_some() || address.is_none() {
                *open = opened;
            }
        }
        state.by = by;
        Ok(number)
    }

    /// Waits until no other change is under way, and keeps further ones waiting.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Closes the listeners for good.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closing = Closing::Yes;
        state.open = [None, None, None];
    }

    /// The address of a listener, if it is open.
    pub(super) fn address(&self, which: Listener) -> Option<SocketAddr> {
        let state = self.state();
        let open = state.open[which as usize].as_ref();
        open.map(|open| open.listening.address())
    }

    fn open(
        self: &Arc<Self>,
        which: Listener,
        listener: TcpListener,
    ) -> Result<Listening, NetworkProxyError> {
        let opened = match which {
            Listener::Http => self.engine.open(Door::Http, listener),
            Listener::Socks5 => self.engine.open(Door::Socks5, listener),
            Listener::Admin => admin::open(&self.engine, Arc::<Self>::clone(self), listener),
        };
        opened.map_err(|error| NetworkProxyError::Listener {
            door: which.as_str(),
            error,
        })
    }

    /// Whether the admin API may read the configuration again. A program that can connect to loopback must not undo the
    /// embedder's settings, and a configuration in memory does not change when it is read.
    fn readable(self: &Arc<Self>) -> Result<(), Unchanged> {
        if self.state().by == SettingsSource::Embedder {
            return Err(Unchanged::NothingToRead(
                "the program that runs this proxy has put other settings in force since it started; it alone can \
                 change them",
            ));
        }
        match &self.configuration {
            Configuration::Sources(sources) if sources.has_files() => Ok(()),
            Configuration::Sources(_) | Configuration::Settings(_) => {
                Err(Unchanged::NothingToRead(
                    "the settings of this proxy are in the memory of the program that runs it, and no file has \
                     them; it alone can change them",
                ))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock()
    }
}

/// The part of the admin API that makes changes. It holds an [`Arc`] of the running proxy while it
/// is open.
impl Owner for Running {
    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn listening(&self) -> Vec<(&'static str, SocketAddr)> {
        let all = Listener::ALL.into_iter();
        all.filter_map(|listener| Some((listener.as_str(), self.address(listener)?)))
            .collect()
    }

    fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        self.engine.set_mode(mode)
    }

    fn reload(self: Arc<Self>) -> BoxFuture<'static, Result<(), Unchanged>> {
        Box::pin(async move {
            let reloading = async {
                let turn = self.turn().await;
                // Checked only now: the embedder may have been faster.
                self.readable()?;
                Ok(self.put_in_force_by(turn, None).await)
            };
            let reloaded = tokio::time::timeout(RELOAD_TIMEOUT, reloading).await;
            if let Ok(Ok(outcome)) = &reloaded {
                self.observer.reloaded(outcome);
            }
            match reloaded {
                Ok(Ok(Ok(generation))) => {
                    tracing::info!(
                        generation = generation.get(),
                        "reloaded through the admin API"
                    );
                    Ok(())
                }
                Ok(Ok(Err(error))) => {
                    tracing::error!("the reload failed: {error}; the old settings stay in force");
                    Err(Unchanged::Unusable(error.without_content()))
                }
                Ok(Err(nothing)) => Err(nothing),
                Err(_) => Err(Unchanged::Unusable(format!(
                    "error: the configuration was not read within {}",
                    duration_text(RELOAD_TIMEOUT)
                ))),
            }
        })
    }

    fn listen(&self, settings: &Settings) -> Listen {
        Listen {
            http: self.address(Listener::Http).unwrap_or(settings.listen.http),
            socks5: self.address(Listener::Socks5),
            admin: self.address(Listener::Admin),
            ..settings.listen
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_network_config::Sources;

    use super::*;
    use crate::embed::NetworkProxy;

    /// A past bug: [`replace`](crate::NetworkProxyHandle::replace) with changed settings of the proxy
    /// itself made its traffic go past the upstream proxies of the environment.
    #[tokio::test]
    async fn h12_settings_that_are_replaced_keep_the_upstream_proxies_in_force() {
        let sources = Sources::none().with_text("config", "[network]\n");
        let proxy = NetworkProxy::builder().sources(sources).build().await;
        let handle = proxy.expect("a proxy").run().await.expect("it runs");
        let engine = &handle.running.engine;
        let variable = |name: &str| (name == "HTTP_PROXY").then(|| "http://proxy.test:8080".into());
        let proxies = UpstreamProxies::from_environment(variable).expect("a proxy");
        let supplied = Supplied {
            upstream_proxies: Arc::new(proxies),
            ..engine.current().supplied().clone()
        };
        let settings = handle.settings();
        engine.replace_all(&settings, &supplied).expect("as before");
        handle
            .replace(Settings::clone(&settings))
            .await
            .expect("the same settings");
        let current = engine.current();
        assert!(current.supplied().upstream_proxies.http().is_some());
        handle.shutdown().await;
    }
}
