//! The loader: checks a configuration and ends (`ARCHITECTURE.md`, "Three roles, one program").
//!
//! It runs with the monitor's privilege, so that it may read the administrator's files, for
//! milliseconds and without the network. To its standard output it writes the facts for the monitor
//! in a fixed layout, and the configuration itself as a blob that the monitor does not parse. The
//! blob holds the files and secrets as they were read at this moment, so that every worker of this
//! configuration sees the same. The files of the system are apart from it: when one of them changes,
//! a loader reads these alone.

mod authority;
mod credentials;
#[cfg(target_os = "linux")]
mod end_with_loader;
mod interceptable;
mod last_good;
mod system_files;

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use codex_network_config::{
    Control, LogFormat, OtlpScheme, Principal, Sandbox, Settings, Sources, UpstreamProxies, load,
    user_state_directory,
};
use codex_network_control::socket_path;
use codex_network_files::Trust;
use nix::unistd::{Group, Uid, User};
use zeroize::Zeroizing;

use self::authority::ChosenCa;
use crate::args::Args;
use crate::logging;
use crate::opaque::{self, worker_settings};
use crate::permitted_callers::{PermittedCallers, SystemDirectory};
use crate::privsep::briefing::{Briefing, Environment, MAX_BRIEFING, WhichConfiguration};
use crate::privsep::message::{Account, Confinement, Fallback, Problems};
use crate::privsep::settled::{
    Authority, ControlPlace, Lines, Loaded, PathChoice, Power, Reach, Settled, SocketAccess,
};
use crate::privsep::system_files::{FileUse, Plan};
use crate::problems::{diagnosed, withheld};
use crate::trusted_paths::{self, PathScope};
use crate::{sequence, state};

/// The worker's user when root started the service, by default.
#[cfg(not(target_os = "macos"))]
const DEFAULT_USER: &str = "codex-network-proxy";
/// The same on macOS, where the names of services' users begin with an underscore.
#[cfg(target_os = "macos")]
const DEFAULT_USER: &str = "_codexnetproxy";
/// The worker's user where that one does not exist, as in a checkout: any user rather than root.
const NOBODY: &str = "nobody";

/// Loads, and writes the result to standard output: the key of a CA in files, or zeros, and then
/// the rest. Standard input has the monitor's [`Briefing`], which holds the variables: the
/// environment of this process is nearly empty.
pub(crate) fn run(args: &Args) -> ExitCode {
    // It may be reading from a file that never ends.
    if crate::worker::die_with_the_monitor().is_err() {
        return ExitCode::FAILURE;
    }
    let Some(briefing) = read_briefing() else {
        return ExitCode::FAILURE;
    };
    let loaded = match briefing {
        Briefing::Configuration {
            which,
            environment,
            certificate,
        } => configured(args, which, &environment, &certificate).unwrap_or_else(Loaded::Problems),
        Briefing::SystemFiles(plan) => Loaded::Files(system_files::again(&plan)),
        Briefing::Credentials {
            sources,
            environment,
        } => {
            let sources = sources.iter();
            let sources = sources.filter_map(|source| opaque::credentials::read_source(source));
            let readings = credentials::read(sources.collect(), &environment);
            let mut readings = opaque::credentials::encode(&readings);
            Loaded::Credentials(std::mem::take(&mut *readings))
        }
    };
    let (key, rest) = loaded.encode();
    // Not `Stdout`, whose buffer would keep a copy of the key.
    let mut out = std::fs::File::from(match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(out) => out,
        Err(_) => return ExitCode::FAILURE,
    });
    // The length shows the monitor whether the output is complete.
    let length = (rest.len() as u64).to_le_bytes();
    match out
        .write_all(&key[..])
        .and_then(|()| out.write_all(&length))
        .and_then(|()| out.write_all(&rest))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn read_briefing() -> Option<Briefing> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut given = std::io::stdin().lock().take(MAX_BRIEFING);
    given.read_to_end(&mut bytes).ok()?;
    Briefing::decode(&bytes).ok()
}

/// The settings of a configuration that refuses everything (SPEC L16). Nothing shows or changes them
/// through the admin API.
const CLOSED: &str = "[network]\nenabled = false\nmitm = false\n\
                      [daemon.admin]\nread_only = true\nshow_config = false\nshow_patterns = false\n";

fn configured(
    args: &Args,
    which: WhichConfiguration,
    environment: &Arc<Environment>,
    ephemeral: &[u8],
) -> Result<Loaded, Problems> {
    let state = last_good::directory(environment);
    let words = args.for_loader();
    let (sources, files) = match which {
        WhichConfiguration::Current | WhichConfiguration::CurrentWithCopy => {
            (args.sources(|name| environment.get(name)), Files::AreRead)
        }
        WhichConfiguration::LastGood => {
            let state = state
                .as_deref()
                .ok_or_else(|| simple(state::NOWHERE.to_owned()))?;
            let sources = last_good::read(state, &words).map_err(simple)?;
            (sources, Files::AreCopied)
        }
        WhichConfiguration::Closed => (
            Sources::none().with_text("built-in settings", CLOSED),
            Files::AreCopied,
        ),
    };
    let here = Arc::clone(environment);
    let captured = sources
        .with_environment(move |name| here.get(name))
        .capture()
        .map_err(|found| diagnosed(&found))?;
    let state = state.filter(|_| which == WhichConfiguration::CurrentWithCopy);
    let copy = |warnings: &mut Vec<String>| {
        let state = state.as_deref()?;
        let written = last_good::write(state, &words, &captured);
        written.unwrap_or_else(|error| {
            warnings.push(error);
            Some(last_good::unwritten(state, &words))
        })
    };
    settle(captured.clone(), environment, ephemeral, files, copy)
}

fn simple(text: String) -> Problems {
    Problems {
        text,
        detail: String::new(),
    }
}

/// Whether the files of a configuration have just been read, or their text is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    AreRead,
    AreCopied,
}

/// The settings of a configuration. `copy` writes a copy of it, or adds a warning.
fn settle(
    captured: Sources,
    environment: &Environment,
    ephemeral: &[u8],
    files: Files,
    copy: impl FnOnce(&mut Vec<String>) -> Option<PathBuf>,
) -> Result<Loaded, Problems> {
    let mut loaded = load(&captured).map_err(|found| diagnosed(&found))?;
    if files == Files::AreCopied {
        // Others may change the files by now, which is a reason to use the copy.
        loaded.settings.files.clear();
    }
    let mut warnings =
        trusted_paths::judge(&loaded.settings, &loaded.secrets, &PathScope::default())
            .map_err(simple)?;
    // The worker can read neither the environment nor the files with the secrets.
    let captured = captured.with_secrets(loaded.secrets);
    let settings = loaded.settings;
    let proxies = upstream_proxies(&settings, environment)?;
    logging::check(&settings.daemon.log)
        .map_err(|why| withheld(&why, "[daemon] log is neither a level nor a filter"))?;
    let chosen = authority::choose(&settings, environment, ephemeral)
        .map_err(|why| simple(format!("error: {why}")))?;
    warnings.extend_from_slice(&chosen.warnings);
    let account = account(&settings, &mut warnings).map_err(simple)?;
    let plan = plan(&settings, &proxies, environment, &chosen, ephemeral);
    let files = system_files::first(plan).map_err(|why| simple(format!("error: {why}")))?;
    let state = state::directory(&settings.daemon, |name| environment.get(name));
    let (numbered_from, warning) = sequence::next(state.as_deref(), SystemTime::now());
    warnings.extend(warning);
    let listen = &settings.listen;
    Ok(Loaded::Settled(Settled {
        listen: [Some(listen.http), listen.socks5, listen.admin],
        control: control(&settings.daemon.control, environment),
        reach: [listen.proxy_reach, listen.proxy_reach, listen.admin_reach].map(
            |reach| match reach {
                codex_network_config::Reach::Anywhere => Reach::Anywhere,
                codex_network_config::Reach::Loopback
                | codex_network_config::Reach::ForcedLoopback => Reach::Loopback,
            },
        ),
        power: if settings.policy.is_enabled() {
            Power::On
        } else {
            Power::Off
        },
        account,
        confinement: match settings.daemon.sandbox {
            Sandbox::Off => Confinement::Off,
            Sandbox::Try => Confinement::Try,
            Sandbox::Require => Confinement::Require,
        },
        drain_limit: settings.daemon.limits.drain_timeout,
        lines: match settings.daemon.log_format {
            LogFormat::Json => Lines::Json,
            LogFormat::Text => Lines::Text,
            LogFormat::Journal => Lines::Journal,
            LogFormat::Auto => Lines::Auto,
        },
        interceptable: Arc::new(interceptable::of(&settings)),
        copy: copy(&mut warnings),
        fallback: Fallback::None,
        blob: for_worker(&settings, environment, &captured, warnings),
        system_files: Box::new(files),
        credential_sources: credential_sources(&settings),
        numbered_from,
        authority: chosen.authority,
    }))
}

/// The files of the system that these settings need.
fn plan(
    settings: &Settings,
    proxies: &UpstreamProxies,
    environment: &Environment,
    chosen: &ChosenCa,
    ephemeral: &[u8],
) -> Plan {
    let used = |is_used| if is_used { FileUse::Yes } else { FileUse::No };
    let resolver = &settings.daemon.resolver;
    Plan {
        hosts_file: resolver.hosts_file.clone(),
        resolv_conf: used(resolver.nameservers.is_empty()),
        // An upstream proxy in TLS is verified too (SPEC H12).
        roots: used(
            chosen.ca.is_some() || proxies.need_tls() || exports_with_system_roots(settings),
        ),
        ca: chosen.ca.clone(),
        ephemeral: ephemeral.to_vec(),
        state: state::directory(&settings.daemon, |name| environment.get(name)),
        public_files: used(
            !matches!(chosen.authority, Authority::Ephemeral) || settings.may_intercept(),
        ),
    }
}

/// Whether the collector of audit events is verified against the roots of the system (SPEC O2).
fn exports_with_system_roots(settings: &Settings) -> bool {
    let telemetry = &settings.daemon.telemetry;
    let collector = telemetry.collector.as_ref();
    telemetry.roots.is_none() && collector.is_some_and(|at| at.scheme == OtlpScheme::Https)
}

/// The sources of credentials that a loader reads, in the order of the readings that the worker gets.
fn credential_sources(settings: &Settings) -> Vec<Vec<u8>> {
    let read = settings.read_credentials().into_iter();
    read.map(|provider| opaque::credentials::source(&provider.source))
        .collect()
}

/// The part for the worker, which the monitor does not parse.
fn for_worker(
    settings: &Settings,
    environment: &Environment,
    captured: &Sources,
    mut warnings: Vec<String>,
) -> Vec<u8> {
    let (admitted, unknown) = PermittedCallers::resolve(&settings.daemon, &SystemDirectory);
    warnings.extend(unknown);
    let read = settings.read_credentials();
    let sources = read.iter().map(|provider| provider.source.clone());
    let credentials = credentials::read(sources.collect(), environment);
    for (provider, reading) in read.iter().zip(&credentials) {
        if let Some(why) = &reading.failure {
            warnings.push(format!("the credential {} {why}", provider.id));
        }
    }
    let is_used = settings.allow_upstream_proxy;
    let proxy_variable = |name: &str| environment.get(name).filter(|_| is_used);
    worker_settings::encode(&admitted, &warnings, proxy_variable, &credentials, captured)
}

/// The proxies in the environment that the service was started with (SPEC H12).
fn upstream_proxies(
    settings: &Settings,
    environment: &Environment,
) -> Result<UpstreamProxies, Problems> {
    if !settings.allow_upstream_proxy {
        return Ok(UpstreamProxies::default());
    }
    UpstreamProxies::from_environment(|name| environment.get(name)).map_err(|errors| {
        let errors: Vec<String> = errors
            .iter()
            .map(|error| format!("error: {error}"))
            .collect();
        Problems {
            text: errors.join("\n"),
            detail: String::new(),
        }
    })
}

/// Checks the hosts file that a configuration names. It must exist.
pub(crate) fn check_hosts(path: &Path) -> Result<(), Problems> {
    let read = system_files::HOSTS.kept_by(Trust::of_process()).read(path);
    read.map(drop).map_err(|error| Problems {
        text: format!(
            "error: [daemon.resolver] hosts_file: cannot read {}: {error}",
            path.display()
        ),
        detail: String::new(),
    })
}

/// The path of the control socket: the configured one, else the default for the user that runs the
/// service: in the runtime directory, or in the state directory without one. `None` for a user without
/// either.
fn control(control: &Control, environment: &Environment) -> Option<ControlPlace> {
    let default = || {
        if Uid::effective().is_root() {
            Some(socket_path::of_system().to_path_buf())
        } else {
            // `[daemon] state_dir` is not used here, because proxyctl does not know it.
            let in_state = || {
                let state = user_state_directory(|name| environment.get(name))?;
                Some(socket_path::in_state(&state))
            };
            socket_path::of_user(|name| environment.get(name)).or_else(in_state)
        }
    };
    Some(ControlPlace {
        path: control.socket.clone().or_else(default)?,
        chosen: if control.socket.is_some() {
            PathChoice::Configured
        } else {
            PathChoice::Default
        },
        callers: callers(control),
    })
}

fn callers(control: &Control) -> SocketAccess {
    let Control {
        socket: _,
        administrators,
        observers,
        users,
    } = control;
    let mut named = administrators.iter().chain(observers).chain(users);
    let Some(first) = named.next() else {
        return SocketAccess::Owner;
    };
    let alone = named.all(|other| other == first);
    match first {
        Principal::Group(name) if alone => match Group::from_name(name) {
            Ok(Some(group)) => SocketAccess::Group(group.gid.as_raw()),
            // No such group was found. `PermittedCallers::resolve` warns of that.
            _ => SocketAccess::Owner,
        },
        _ => SocketAccess::Everyone,
    }
}

/// The user that the worker becomes. Only root can make it another user.
fn account(settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<Account>, String> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let daemon = &settings.daemon;
    let user = match &daemon.user {
        Some(name) => find_user(name)?.ok_or_else(|| no_such("user", name))?,
        None => {
            if let Some(own) = find_user(DEFAULT_USER)? {
                own
            } else {
                warnings.push(shared_account());
                find_user(NOBODY)?.ok_or_else(|| no_such("user", DEFAULT_USER))?
            }
        }
    };
    let gid = match &daemon.group {
        Some(name) => {
            let group = Group::from_name(name)
                .map_err(|error| format!("cannot look up the group {name:?}: {error}"))?;
            group.ok_or_else(|| no_such("group", name))?.gid
        }
        None => user.gid,
    };
    if user.uid.is_root() {
        return Err(
            "error: the worker cannot be root; set [daemon] user to one that owns nothing"
                .to_owned(),
        );
    }
    Ok(Some(Account {
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
    }))
}

fn shared_account() -> String {
    let make = if cfg!(target_os = "macos") {
        "install the package, which makes it"
    } else {
        "make it with `systemd-sysusers`, or `useradd --system --no-create-home --shell /usr/sbin/nologin \
         codex-network-proxy`"
    };
    format!(
        "the worker runs as {NOBODY}, which other services may share, since there is no user {DEFAULT_USER}; \
         {make}, then restart the proxy"
    )
}

fn find_user(name: &str) -> Result<Option<User>, String> {
    User::from_name(name).map_err(|error| format!("cannot look up the user {name:?}: {error}"))
}

fn no_such(kind: &str, name: &str) -> String {
    format!(
        "error: there is no {kind} {name:?} on this machine; make it, or set [daemon] {kind} to one that exists"
    )
}
