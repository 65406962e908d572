//! The listeners: bound, announced, and moved when a reload says so (SPEC L1 to L3, L6, C7).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use codex_network_config::Settings;
use codex_network_engine::{Door, Engine, Generation, Listening};
use socket2::{Domain, Socket, Type};

use super::admin;
use super::port_holder;
use super::reload::Reloader;

/// How many clients may wait in the kernel for us to accept them; the kernel cuts it down to its
/// own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The open listeners. Dropping them closes them.
#[derive(Debug, Default)]
pub(super) struct Doors {
    http: Option<Bound>,
    socks5: Option<Bound>,
    admin: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    /// What the settings ask for; with port 0 the real address differs.
    wanted: SocketAddr,
    listening: Listening,
}

/// Listeners that a change of settings asks for and that are bound, but not yet in their place.
#[derive(Debug, Default)]
pub(super) struct Pending {
    http: Change,
    socks5: Change,
    admin: Change,
}

#[derive(Debug, Default)]
enum Change {
    #[default]
    Keep,
    Close,
    Move(Bound),
}

impl Doors {
    /// Opens what the settings ask for; nothing when the proxy is disabled (SPEC L6).
    pub(super) fn open(
        engine: &Engine,
        reloader: &Arc<Reloader>,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let mut doors = Self::default();
        let pending = doors.prepare(engine, reloader, settings)?;
        doors.apply(pending);
        Ok(doors)
    }

    /// Binds what other settings ask for and what is not open yet. On an error nothing has changed.
    /// A proxy that a reload disables keeps its doors open, to say that it is disabled.
    pub(super) fn prepare(
        &self,
        engine: &Engine,
        reloader: &Arc<Reloader>,
        settings: &Settings,
    ) -> anyhow::Result<Pending> {
        if !settings.policy.is_enabled() {
            return Ok(Pending::default());
        }
        let listen = &settings.listen;
        Ok(Pending {
            http: change(
                self.http.as_ref(),
                Some(listen.http),
                Door::Http.as_str(),
                |socket| engine.open(Door::Http, socket),
            )?,
            socks5: change(
                self.socks5.as_ref(),
                listen.socks5,
                Door::Socks5.as_str(),
                |socket| engine.open(Door::Socks5, socket),
            )?,
            admin: change(self.admin.as_ref(), listen.admin, admin::NAME, |socket| {
                admin::open(engine, Arc::clone(reloader), socket)
            })?,
        })
    }

    /// Puts the prepared listeners in place; those that they replace close now.
    pub(super) fn apply(&mut self, pending: Pending) {
        pending.http.apply(&mut self.http);
        pending.socks5.apply(&mut self.socks5);
        pending.admin.apply(&mut self.admin);
    }

    /// The open listeners: name and address.
    pub(super) fn listening(&self) -> Vec<(&'static str, SocketAddr)> {
        let doors = [
            (Door::Http.as_str(), &self.http),
            (Door::Socks5.as_str(), &self.socks5),
            (admin::NAME, &self.admin),
        ];
        doors
            .into_iter()
            .filter_map(|(name, bound)| Some((name, bound.as_ref()?.listening.address())))
            .collect()
    }

    /// Says what listens where, in which mode, with how many rules, and how to try it.
    pub(super) fn announce(&self, generation: &Generation) {
        let policy = generation.policy();
        let doors = [
            (Door::Http.as_str(), &self.http),
            (Door::Socks5.as_str(), &self.socks5),
            (admin::NAME, &self.admin),
        ];
        for (listener, bound) in doors {
            if let Some(bound) = bound {
                tracing::info!(listener, address = %bound.listening.address(), "listening");
            }
        }
        let Some(http) = &self.http else {
            tracing::warn!(
                "the proxy is disabled (enabled = false) and listens nowhere; set enabled = true and send SIGHUP"
            );
            tracing::info!("ready");
            return;
        };
        if policy.allowed().is_empty() {
            tracing::warn!(
                "the allow list is empty, so everything is refused; add hosts to allowed_domains and reload"
            );
        }
        tracing::info!(
            mode = policy.mode().as_str(),
            allow_rules = policy.allowed().len(),
            deny_rules = policy.denied().len(),
            try_it = format!(
                "curl -x http://{} http://example.com/",
                http.listening.address()
            ),
            "ready"
        );
    }
}

impl Change {
    fn apply(self, place: &mut Option<Bound>) {
        match self {
            Self::Keep => {}
            Self::Close => *place = None,
            Self::Move(bound) => *place = Some(bound),
        }
    }
}

fn change(
    open: Option<&Bound>,
    wanted: Option<SocketAddr>,
    name: &str,
    listen: impl FnOnce(TcpListener) -> io::Result<Listening>,
) -> anyhow::Result<Change> {
    let Some(wanted) = wanted else {
        return Ok(Change::Close);
    };
    if open.is_some_and(|open| open.wanted == wanted) {
        return Ok(Change::Keep);
    }
    let socket = bind(wanted).with_context(|| cannot_listen(name, wanted))?;
    let listening = listen(socket).with_context(|| cannot_listen(name, wanted))?;
    Ok(Change::Move(Bound { wanted, listening }))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the connections of the one before to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One line that says which listener, which address, and who holds the port if that can be seen.
fn cannot_listen(name: &str, address: SocketAddr) -> String {
    let key = match name {
        "http" => "proxy_url",
        "socks5" => "socks_url",
        _ => "admin_url",
    };
    let holder = port_holder::find(address)
        .map_or_else(String::new, |holder| format!(", which {holder} listens on"));
    format!(
        "cannot listen on {address} for {name}{holder}; stop what holds it, or set {key} to another port"
    )
}
