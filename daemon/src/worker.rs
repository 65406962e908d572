//! The running proxy: an engine, its listeners, and the orders that it takes.

mod admin;
mod control;
mod listen;
mod port_holder;
mod reload;

use std::sync::Arc;

use anyhow::Context as _;
use codex_network_config::{Loaded, Sources, load};
use codex_network_engine::{Engine, EngineParts};
use tokio::signal::unix::{SignalKind, signal};

use crate::logging;
use listen::Doors;
use reload::Reloader;

/// Runs the proxy in the foreground until a signal ends it.
///
/// # Errors
///
/// What keeps it from starting, as one message for a person.
pub(crate) fn run(sources: Sources) -> anyhow::Result<()> {
    let loaded = load(&sources).map_err(|problems| {
        let places = problems.to_string();
        anyhow::anyhow!("the configuration cannot be used\n\n{places}")
    })?;
    logging::init(
        &loaded.settings.daemon.log,
        loaded.settings.daemon.log_format,
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(sources, loaded))
}

async fn serve(sources: Sources, loaded: Loaded) -> anyhow::Result<()> {
    let mut hang_up = signal(SignalKind::hangup()).context("cannot watch SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;

    let settings = Arc::new(loaded.settings);
    let engine = Engine::new(Arc::clone(&settings), EngineParts::default())?;
    let reloader = Reloader::new(engine.clone(), sources, &settings, &loaded.warnings);
    let doors = Doors::open(&engine, &reloader, &settings)?;
    let control = control::open(&engine, &reloader, &settings)?;
    doors.announce(&engine.current());
    reloader.keep(doors);

    loop {
        tokio::select! {
            _ = hang_up.recv() => {
                // What went wrong is in the log; there is nobody else to tell.
                let _ = reloader.reload().await;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }

    let limit = engine.current().settings().daemon.limits.drain_timeout;
    let open = engine.counters().connections;
    tracing::info!(open, limit = ?limit, "stopping: waiting for open connections");
    reloader.close();
    tokio::select! {
        cut = engine.drain().finish(limit) => tracing::info!(cut, "stopped"),
        _ = terminate.recv() => tracing::info!("stopped at once"),
        _ = interrupt.recv() => tracing::info!("stopped at once"),
    }
    if let Some(control) = control {
        control.close().await;
    }
    Ok(())
}
