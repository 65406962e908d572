//! The cost of a credential: intercepted requests of a session without one, and of a session whose requests carry a
//! dummy, which the proxy replaces, and whose answers it scrubs.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use codex_network_control::message::{
    CredentialValue, DoorKind, GivenCredentials, Isolation, SessionRequest,
};
use codex_network_control::{Client, TrustedListeners};

use crate::compare::{self, Figures, Plan};
use crate::lab::Lab;
use crate::programs::{CREDENTIAL, Doors, Proxy, Setup, Started, Tls};
use crate::report::Table;
use crate::scenario::{self, Unit};

/// A value in the form of real ones.
const VALUE: &str = "bench_0123456789abcdefghijKLMNOPQRSTUVWXYZ";
/// The clients of a load, and the length of a body.
const LOADS: [(&str, usize, usize); 2] = [
    ("intercepted request, 32 connections", 32, 2),
    (
        "intercepted request, 64 KiB body, 16 connections",
        16,
        64 << 10,
    ),
];

/// A session with an HTTP door, the proxy that it belongs to, and the field that its requests carry.
struct Place {
    started: Started,
    field: String,
    // The session lives as long as its connection, which needs the runtime.
    _session: Client,
    _runtime: tokio::runtime::Runtime,
}

/// Measures both sessions in turn.
pub(super) fn table(proxy: &Proxy, lab: &Lab, plan: Plan) -> anyhow::Result<String> {
    let places = [Tls::Intercepted, Tls::Brokered].map(|tls| place(proxy, lab, tls));
    let [without, with] = places;
    let (without, with) = (without?, with?);
    let mut table = Table::new([
        "CPU µs of the proxy",
        "without a credential",
        "with one",
        "ratio",
    ]);
    for (name, clients, body) in LOADS {
        let mut taken = [Vec::new(), Vec::new()];
        for _ in 0..plan.rounds {
            for (place, taken) in [&without, &with].into_iter().zip(&mut taken) {
                let figures = compare::undisturbed(
                    lab,
                    &place.started,
                    Unit::One,
                    plan.length,
                    |lab, doors, length| {
                        scenario::repeat_with_field(clients, body, &place.field, doors, lab, length)
                    },
                )?;
                compare::progress(&format!("{name}: {:.1}", figures.cost));
                taken.push(figures);
            }
        }
        let [without, with] = taken.map(|taken| compare::median(&taken));
        let (without, with) = (without.context("no round")?, with.context("no round")?);
        table.add(vec![
            name.to_owned(),
            cost(&without),
            cost(&with),
            format!("{:.2}", with.cost / without.cost),
        ]);
    }
    Ok(format!("What a credential costs\n\n{table}\n"))
}

fn cost(figures: &Figures) -> String {
    let mark = if figures.disturbed { " ~" } else { "" };
    format!("{:.1}{mark}", figures.cost)
}

/// Starts a proxy, and opens a session.
fn place(proxy: &Proxy, lab: &Lab, tls: Tls) -> anyhow::Result<Place> {
    let mut started = proxy.start(
        lab,
        Setup {
            tls,
            ..Setup::default()
        },
    )?;
    super::wait_for_control_socket(&started)?;
    // The caller's side of the connection needs a thread to drive it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    door.set_nonblocking(true)?;
    let port = door.local_addr()?.port();
    let socket = started.folder().join("control.sock");
    let (session, dummy) = runtime.block_on(open(&socket, door, tls))?;
    started.doors = Doors {
        http: Some(port),
        ..Doors::default()
    };
    Ok(Place {
        started,
        field: format!("authorization: Bearer {dummy}\r\n"),
        _session: session,
        _runtime: runtime,
    })
}

/// Opens a session. Its dummy, or a word of the same length, which passes as it is.
async fn open(socket: &Path, door: TcpListener, tls: Tls) -> anyhow::Result<(Client, String)> {
    let client = Client::connect(socket, TrustedListeners::Any, "bench").await?;
    let mut credentials = GivenCredentials::default();
    if tls == Tls::Brokered {
        credentials.values.push((
            CREDENTIAL.to_owned(),
            CredentialValue::new(VALUE.to_owned()),
        ));
    }
    let request = SessionRequest {
        command: "bench".to_owned(),
        isolation: Isolation::Env,
        credentials,
        doors: vec![DoorKind::Http],
        sockets: vec![door.into()].into(),
        ..SessionRequest::default()
    };
    let opened = client.open_session(request).await?;
    let dummy = opened.dummies.into_iter().next().map(|each| each.dummy);
    anyhow::ensure!(
        dummy.is_some() == (tls == Tls::Brokered),
        "the session has the wrong credentials"
    );
    Ok((client, dummy.unwrap_or_else(|| VALUE.to_owned())))
}
