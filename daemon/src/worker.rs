//! The worker: an engine, its doors, and the monitor's orders (`ARCHITECTURE.md`, "Three roles, one
//! program").
//!
//! It gets its settings and sockets from the monitor. It gives up its privilege before it looks at
//! either, and confines itself before it accepts connections. When it dies another worker replaces
//! it.

mod control;
mod door_threads;
mod doors;
mod issuer;
mod link;
mod open_descriptors;
mod owner;
mod reload;
mod reload_waiters;
mod report_only;
mod role_status;
mod sandbox;
mod system_files;
mod telemetry;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use codex_network_config::{Diagnostic, Loaded, Settings, duration_text, load};
use codex_network_engine::{
    AuditSink, BrokenPipeSignal, ClientOwner, CredentialReader, Engine, EngineParts,
};
use control::ControlServer;
use doors::Doors;
use issuer::MonitorIssuer;
use link::{Order, StartSettings};
use nix::sys::resource::{Resource, getrlimit};
use owner::Owners;
use reload::Reloader;
use role_status::RoleStatus;
use sandbox::AppliedConfinement;
use telemetry::{Exporting, Telemetry};
use tokio::sync::mpsc;

use crate::admin::Owner;
use crate::observation::ProcessFacts;
use crate::privsep::message::{Fallback, Mode, ToMonitor, WorkerReport};
use crate::privsep::ticket::Ticket;
use crate::{logging, memory};

/// Makes the kernel end this process when the monitor ends. On other systems a worker learns it
/// from the channel, and a loader ends soon anyway.
pub(crate) fn die_with_the_monitor() -> anyhow::Result<()> {
    sandbox::die_with_the_monitor()
}

/// Runs a worker until the monitor ends it or is gone.
///
/// # Errors
///
/// Returns the reason why the worker cannot start. The monitor has been sent the error.
pub(crate) fn run() -> anyhow::Result<()> {
    die_with_the_monitor().context("cannot tie the worker to its monitor")?;
    let (link, mut receiver) = link::open().context("cannot use the channel to the monitor")?;
    let Some(Order::FirstSettings(mut first)) = link::next(&mut receiver)? else {
        bail!("the monitor sent no settings");
    };
    let started = start(&mut first).and_then(|started| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let doors = door_threads::start().context("cannot start the threads of the doors")?;
        let sessions = door_threads::start_one("sessions")
            .context("cannot start the thread of the sessions")?;
        Ok((started, runtime, doors, sessions))
    });
    let (started, runtime, door_runtimes, session_runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            link.send(ToMonitor::Rejected {
                ticket: Ticket::FIRST,
                why: format!("{error:#}"),
            });
            return Err(error);
        }
    };
    let issuer = MonitorIssuer::new(Arc::clone(&link));
    let owners = Owners::new(Arc::clone(&link));
    let (orders_in, orders_out) = mpsc::channel(8);
    let answers = Arc::clone(&issuer);
    let owner_answers = Arc::clone(&owners);
    std::thread::spawn(move || {
        while let Ok(Some(order)) = link::next(&mut receiver) {
            match order {
                // Connections wait for these answers, even during a reload or a drain.
                Order::Leaf { question, outcome } => answers.answered(question, outcome),
                Order::Owners { question, users } => owner_answers.answered(question, users),
                // When orders are no longer taken, answers still arrive.
                order => drop(orders_in.blocking_send(order)),
            }
        }
        answers.close();
    });
    let parts = EngineParts {
        runtimes: door_runtimes,
        session_runtime: Some(session_runtime),
        blocked_base: first.message.blocked_base,
        issuer: Some(Arc::<MonitorIssuer>::clone(&issuer)),
        credential_reader: Some(Arc::clone(&link) as Arc<dyn CredentialReader>),
        // On other systems the monitor cannot find the user of a client.
        client_owner: cfg!(target_os = "linux").then_some(owners as Arc<dyn ClientOwner>),
        // The runtime of Rust ignores the signal before `main`.
        broken_pipe_signal: BrokenPipeSignal::Ignored,
        ..EngineParts::default()
    };
    runtime.block_on(serve(link, issuer, parts, *first, started, orders_out))
}

/// A worker without privilege.
struct Started {
    loaded: Loaded,
    confined: AppliedConfinement,
    role_status: RoleStatus,
    audit: Arc<dyn AuditSink>,
    telemetry: Telemetry,
}

/// Gives up the privilege, which may be root's, and confines the process.
fn start(first: &mut StartSettings) -> anyhow::Result<Started> {
    let mut role_status = RoleStatus::open(first.message.restarts);
    sandbox::drop_privilege(first.message.account)
        .context("the worker cannot give up its privilege")?;
    let loaded = load(&first.settings.sources)
        .map_err(|problems| anyhow::anyhow!("{}", problems.one_line()))?;
    let daemon = &loaded.settings.daemon;
    let writing = logging::init(&daemon.log, daemon.log_format, logging::Confined::Yes)?;
    let telemetry = Telemetry::new();
    let confined = sandbox::confine(
        first.message.confinement,
        writing.socket(),
        first.message.release,
    )
    .context("the worker cannot confine itself")?;
    first.message.release = 0;
    let audit = telemetry.sink(writing.audit());
    // The first further thread. It is confined like this one.
    writing.start()?;
    role_status.record_landlock(confined.landlock().map(str::to_owned));
    Ok(Started {
        loaded,
        confined,
        role_status,
        audit,
        telemetry,
    })
}

async fn serve(
    link: Arc<link::Link>,
    issuer: Arc<MonitorIssuer>,
    parts: EngineParts,
    first: StartSettings,
    started: Started,
    mut incoming: mpsc::Receiver<Order>,
) -> anyhow::Result<()> {
    let ticket = Ticket::FIRST;
    let Serving {
        engine,
        reloader,
        doors,
        control,
        exporting,
    } = match open(&link, &issuer, parts, first, started) {
        Ok(serving) => serving,
        Err(error) => {
            link.send(ToMonitor::Rejected {
                ticket,
                why: format!("{error:#}"),
            });
            return Err(error);
        }
    };
    link.send(ToMonitor::Applied { ticket });
    doors.announce(&engine.current());
    reloader.keep(doors);
    tokio::spawn(report_only::remind(engine.clone()));

    // Without a monitor there is no reason to go on.
    let mut limit = Duration::ZERO;
    let mut is_starting = true;
    while let Some(order) = incoming.recv().await {
        // The monitor sends a ping as soon as it knows that this worker serves.
        let has_started = is_starting && matches!(order, Order::Ping);
        match order {
            Order::Settings(new) => {
                reloader.put_in_force(*new).await;
                exporting.follow(&engine);
            }
            Order::Drain(within) => {
                limit = within;
                break;
            }
            Order::HandOver {
                limit: within,
                release,
            } => {
                limit = within;
                outlive_the_monitor(release, &link);
                break;
            }
            Order::SystemFiles(files) => reloader.renew(files).await,
            Order::Credentials(readings) => engine.renew_credentials(&readings),
            other => obey(other, &reloader, &link, &engine),
        }
        if has_started {
            is_starting = false;
            memory::give_back_after_start();
        }
    }
    drain(limit, &engine, &reloader, &link, &exporting, incoming).await;
    if let Some(control) = control {
        control.close().await;
    }
    exporting.finish().await;
    Ok(())
}

/// A worker that serves.
struct Serving {
    engine: Engine,
    reloader: Arc<Reloader>,
    doors: Doors,
    control: Option<ControlServer>,
    exporting: Exporting,
}

/// Starts the engine and opens the listeners and the control socket.
fn open(
    link: &Arc<link::Link>,
    issuer: &Arc<MonitorIssuer>,
    mut parts: EngineParts,
    first: StartSettings,
    started: Started,
) -> anyhow::Result<Serving> {
    let Started {
        loaded,
        confined,
        role_status,
        audit,
        telemetry,
    } = started;
    confined.report();
    let StartSettings {
        message,
        settings: new,
        control,
    } = first;
    let mut settings = loaded.settings;
    close_if_unusable(&mut settings, message.fallback);
    issuer.use_ca(new.supplied.files.ca.as_deref());
    parts.supplied = new.supplied;
    parts.audit = audit;
    let engine = Engine::new(Arc::new(settings), parts)?;
    if let Some(mode) = message.mode {
        match engine.set_mode(mode.into()) {
            Ok(_) => tracing::info!("the mode that was set at run time stays in force"),
            Err(error) => {
                tracing::warn!("the mode that was set at run time does not stay in force: {error}");
            }
        }
    }
    let warnings = loaded
        .warnings
        .iter()
        .map(Diagnostic::one_line)
        .chain(new.warnings)
        .chain(engine.current().supplied().upstream_proxies.warnings());
    let reloader = Reloader::new(
        engine.clone(),
        Arc::clone(link),
        Arc::clone(issuer),
        new.admitted,
        message.fallback,
        [warnings.collect(), new.file_warnings],
        process_facts(message.restarts, &telemetry),
    );
    engine.follow_credentials();
    // Before the first door accepts, so that no event is missing.
    let exporting = telemetry.start(engine.clone());
    // Like the listeners' addresses, the control socket counts as our own before the first door
    // accepts.
    let control_path = control.as_ref().map(|(_, path, _)| Path::new(path));
    let _control = control_path.map(|path| engine.own_unix_sockets().add(path));
    let mut doors = Doors::default();
    let owner: Arc<dyn Owner> = Arc::<Reloader>::clone(&reloader);
    doors.change(&engine, &owner, new.listeners)?;
    reloader.warn(engine.looping_proxies());
    let control = match control {
        None => None,
        Some((listener, path, source)) => Some(control::open(
            &engine,
            &reloader,
            role_status,
            listener,
            &path,
            source.as_str(),
        )?),
    };
    Ok(Serving {
        engine,
        reloader,
        doors,
        control,
        exporting,
    })
}

/// The facts about this process that an observer needs (SPEC O4).
fn process_facts(restarts: u32, telemetry: &Telemetry) -> ProcessFacts {
    ProcessFacts {
        restarts: Some(restarts),
        descriptors: Some(|| {
            let limit = getrlimit(Resource::RLIMIT_NOFILE);
            let limit = limit.map_or(0, |(soft, _hard)| soft);
            (open_descriptors::count(limit), limit)
        }),
        log_losses: Some(logging::losses),
        telemetry: Some(telemetry.record()),
    }
}

/// Without a usable configuration everything is refused (SPEC L16).
fn close_if_unusable(settings: &mut Settings, fallback: Fallback) {
    if fallback == Fallback::Closed {
        settings.policy = Arc::new(settings.policy.closed());
    }
}

/// Confirms a handover to the next monitor. Call it on the main thread. Without the confirmation
/// the monitor waits for the end of the drain.
fn outlive_the_monitor(release: u64, link: &link::Link) {
    match sandbox::outlive_the_monitor(release) {
        Ok(()) => link.send(ToMonitor::HandedOver),
        Err(error) => {
            tracing::warn!(%error, "the worker cannot be handed over to the next monitor");
        }
    }
}

/// Carries out an order that changes neither settings nor the state of the drain.
fn obey(order: Order, reloader: &Reloader, link: &link::Link, engine: &Engine) {
    match order {
        Order::Announce { ticket, addresses } => reloader.announced(ticket, addresses),
        Order::ReloadFailed { ticket, problems } => reloader.failed(ticket, problems),
        Order::Ping => {
            link.send(ToMonitor::Well(report(engine)));
            reloader.give_memory_back();
            reloader.look();
        }
        // Handled where they are received.
        Order::Leaf { .. }
        | Order::Owners { .. }
        | Order::FirstSettings(_)
        | Order::Settings(_)
        | Order::SystemFiles(_)
        | Order::Credentials(_)
        | Order::Drain(_)
        | Order::HandOver { .. } => {}
    }
}

/// Finishes open connections within `limit`. The monitor, or the next one, may still tighten the
/// policy (SPEC P11) or set another limit. If its channel ends, so do the connections.
async fn drain(
    limit: Duration,
    engine: &Engine,
    reloader: &Arc<Reloader>,
    link: &link::Link,
    exporting: &Exporting,
    mut incoming: mpsc::Receiver<Order>,
) {
    let open = engine.counters().connections;
    tracing::info!(
        open,
        limit = duration_text(limit),
        "stopping: waiting for open connections"
    );
    // Begun first, so that the addresses of closing listeners stay our own: the next process may
    // serve there while this one still carries requests.
    engine.drain().begin();
    reloader.close();
    let mut end = tokio::time::Instant::now() + limit;
    let ended = engine.drain().clone();
    loop {
        let order = tokio::select! {
            () = ended.ended() => break,
            () = tokio::time::sleep_until(end) => break,
            order = incoming.recv() => order,
        };
        match order {
            None => break,
            Some(Order::Drain(within)) => end = tokio::time::Instant::now() + within,
            Some(Order::HandOver { release, .. }) => outlive_the_monitor(release, link),
            Some(Order::Settings(new)) => {
                reloader.put_in_force_draining(*new).await;
                exporting.follow(engine);
            }
            Some(other) => obey(other, reloader, link, engine),
        }
    }
    let cut = engine.drain().finish(Duration::ZERO).await;
    tracing::info!(cut, "stopped");
}

impl From<codex_network_policy::Mode> for Mode {
    fn from(mode: codex_network_policy::Mode) -> Self {
        match mode {
            codex_network_policy::Mode::Limited => Self::Limited,
            codex_network_policy::Mode::Full => Self::Full,
        }
    }
}

impl From<Mode> for codex_network_policy::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Limited => Self::Limited,
            Mode::Full => Self::Full,
        }
    }
}

/// The worker's state, in a few numbers.
fn report(engine: &Engine) -> WorkerReport {
    let generation = engine.current();
    let policy = generation.policy();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    WorkerReport {
        mode: policy.mode().into(),
        allow_rules: count(policy.allowed().len()),
        deny_rules: count(policy.denied().len()),
        connections: count(engine.counters().connections),
    }
}
