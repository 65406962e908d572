//! The worker's listeners: sockets from the monitor, served by the engine.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use codex_network_config::Listen;
use codex_network_engine::{Door, Engine, Generation, Listening, OwnListener};
use codex_network_policy::{Enforcement, Reason};

use super::link::{ListenerChange, SocketSource};
use crate::admin::{self, Owner};
use crate::privsep::message::ListenerName;

/// The open listeners. Dropping them closes them.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// In the order of [`ListenerName::ALL`].
    open: [Option<(Listening, SocketSource)>; 3],
    /// Listeners that are closed because another program has their addresses.
    busy: BTreeSet<ListenerName>,
}

impl Doors {
    /// Opens and closes listeners by the monitor's orders. The addresses of all new ones count as
    /// our own before the first of them accepts (SPEC P6), and new ones accept before old ones
    /// close. On an error nothing has changed.
    pub(super) fn change(
        &mut self,
        engine: &Engine,
        owner: &Arc<dyn Owner>,
        changes: Vec<(ListenerName, ListenerChange)>,
    ) -> anyhow::Result<()> {
        let _coming = known_as_own(engine, &changes)?;
        let mut opened = Vec::new();
        let mut busy = self.busy.clone();
        for (name, change) in changes {
            if matches!(change, ListenerChange::Busy) {
                busy.insert(name);
            } else {
                busy.remove(&name);
            }
            let listening = match change {
                ListenerChange::Close | ListenerChange::Busy => None,
                ListenerChange::Open(socket, source) => {
                    let listening = match source {
                        SocketSource::SwitchedOff => open_closed(engine, name, socket),
                        SocketSource::Bound | SocketSource::ServiceManager => {
                            open(engine, owner, name, socket)
                        }
                    };
                    let listening = listening
                        .with_context(|| format!("cannot listen for {}", name.as_str()))?;
                    Some((listening, source))
                }
            };
            opened.push((name, listening));
        }
        self.busy = busy;
        for (name, listening) in opened {
            let label = name.as_str();
            match &listening {
                Some((listening, SocketSource::SwitchedOff)) => tracing::warn!(
                    listener = label,
                    address = %listening.address(),
                    "the listener {label} is switched off, but the service manager has a socket for it: the worker \
                     closes each connection at once; disable its socket unit too (codex-network-proxy-{label}.socket)"
                ),
                Some((listening, SocketSource::Bound | SocketSource::ServiceManager)) => {
                    tracing::info!(listener = label, address = %listening.address(), "listening");
                }
                None => {}
            }
            self.open[name as usize] = listening;
        }
        Ok(())
    }

    /// The open listeners: name, address and the process that made the socket.
    pub(super) fn listening(&self) -> Vec<(&'static str, SocketAddr, &'static str)> {
        let named = ListenerName::ALL.into_iter().zip(&self.open);
        named
            .filter_map(|(name, door)| {
                let open = door.as_ref();
                let (listening, source) =
                    open.filter(|(_, source)| *source != SocketSource::SwitchedOff)?;
                Some((name.as_str(), listening.address(), source.as_str()))
            })
            .collect()
    }

    /// The listeners that the settings want and that are missing, a line each.
    pub(super) fn missing(&self, listen: &Listen) -> Vec<String> {
        let line = |name: &ListenerName| {
            let (key, address) = match name {
                ListenerName::Http => ("proxy_url", Some(listen.http)),
                ListenerName::Socks5 => ("socks_url", listen.socks5),
                ListenerName::Admin => ("admin_url", listen.admin),
            };
            let (name, address) = (name.as_str(), address?);
            Some(format!(
                "there is no {name} listener, since something else listens on {address}; stop that and reload, or set \
                 {key} to another port"
            ))
        };
        self.busy.iter().filter_map(line).collect()
    }

    /// Logs the mode, the number of rules, and a command to try the proxy.
    pub(super) fn announce(&self, generation: &Generation) {
        let policy = generation.policy();
        let http = self.open[ListenerName::Http as usize].as_ref();
        if http.is_none() && !policy.is_enabled() {
            tracing::warn!(
                "the proxy is disabled (enabled = false) and listens nowhere; set enabled = true and send SIGHUP"
            );
            tracing::info!("ready");
            return;
        }
        if let Some(refused) = policy.refuses_everything()
            && refused.reason() == Reason::ConfigurationUnusable
        {
            // The monitor has logged why.
            tracing::info!("ready to refuse everything");
            return;
        }
        if !policy.is_enabled() {
            tracing::warn!(
                "the proxy is disabled (enabled = false) and refuses everything at the sockets that the service \
                 manager has for it; set enabled = true and send SIGHUP, or disable its socket units too"
            );
            tracing::info!("ready");
            return;
        }
        let enforcement = policy.enforcement();
        let reports = enforcement == Enforcement::Report;
        if policy.allowed().is_empty() && !reports {
            tracing::warn!(
                "the allow list is empty, so everything is refused; add hosts to allowed_domains and reload"
            );
        }
        tracing::info!(
            mode = policy.mode().as_str(),
            enforcement = reports.then_some(enforcement.as_str()),
            allow_rules = policy.allowed().len(),
            deny_rules = policy.denied().len(),
            try_it = http
                .map(|(http, _)| format!("curl -x http://{} http://example.com/", http.address())),
            "ready"
        );
    }
}

/// Makes the addresses of all new listeners count as our own, for as long as the value lives.
fn known_as_own(
    engine: &Engine,
    changes: &[(ListenerName, ListenerChange)],
) -> anyhow::Result<Vec<OwnListener>> {
    let mut known = Vec::new();
    for (name, change) in changes {
        if let ListenerChange::Open(socket, _) = change {
            let address = socket.local_addr();
            let address =
                address.with_context(|| format!("cannot listen for {}", name.as_str()))?;
            known.push(engine.own_listeners().add(address));
        }
    }
    Ok(known)
}

/// Connections that are being closed at once.
const MAX_REFUSED_AT_ONCE: usize = 64;

/// Takes connections off a socket's queue, where clients would wait for ever, and closes them (SPEC
/// L6).
fn open_closed(
    engine: &Engine,
    name: ListenerName,
    socket: TcpListener,
) -> std::io::Result<Listening> {
    engine.open_beside(
        name.as_str(),
        socket,
        MAX_REFUSED_AT_ONCE,
        |stream, _, _| async {
            drop(stream);
        },
    )
}

fn open(
    engine: &Engine,
    owner: &Arc<dyn Owner>,
    name: ListenerName,
    socket: TcpListener,
) -> std::io::Result<Listening> {
    match name {
        ListenerName::Http => engine.open(Door::Http, socket),
        ListenerName::Socks5 => engine.open(Door::Socks5, socket),
        ListenerName::Admin => admin::open(engine, Arc::clone(owner), socket),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_config::{Sources, Supplied, UpstreamProxies, load};
    use codex_network_engine::EngineParts;

    use super::*;

    /// An engine with an upstream proxy at this address. The engine warns if the address is its
    /// own.
    fn engine(proxy: SocketAddr) -> Engine {
        let loaded = load(&Sources::none()).expect("the defaults");
        let variable =
            |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{proxy}").into());
        let proxies = UpstreamProxies::from_environment(variable).expect("a proxy");
        let parts = EngineParts {
            supplied: Supplied {
                upstream_proxies: Arc::new(proxies),
                ..Supplied::default()
            },
            ..EngineParts::default()
        };
        Engine::new(Arc::new(loaded.settings), parts).expect("an engine")
    }

    #[tokio::test]
    async fn p6_the_last_listener_counts_as_our_own_before_the_first_one_opens() {
        let sockets = [
            ListenerName::Http,
            ListenerName::Socks5,
            ListenerName::Admin,
        ]
        .map(|name| (name, TcpListener::bind("127.0.0.1:0").expect("a listener")));
        let last = sockets[2].1.local_addr().expect("an address");
        let changes =
            sockets.map(|(name, socket)| (name, ListenerChange::Open(socket, SocketSource::Bound)));
        let engine = engine(last);
        assert_eq!(engine.looping_proxies(), [""; 0]);
        let known = known_as_own(&engine, &changes).expect("bound listeners");
        assert_eq!(engine.looping_proxies().len(), 1);
        drop(known);
        assert_eq!(engine.looping_proxies(), [""; 0]);
    }
}
