//! `proxyctl run`: a program, a session of its own, and the jail around it (SPEC J1 to J11).
//!
//! - `ask`: the questions of `--ask`.
//! - `credentials`: those of the caller, and their dummies.
//! - `plan`: the jail that the options ask for.
//! - `learn`: the policy that the program needed.
//! - `not_started`: why a command did not start.
//! - `proxy_choice`: the service, or a private proxy.
//! - `rules`: the rules of the session, from options and presets.
//! - `summary`: what was allowed and refused.
//!
//! The order matters. A private proxy starts first, since it needs the longest. The jail is made before
//! this process has threads. The session opens when the listeners in the jail exist, and the command
//! starts when the session is open.

mod ask;
mod credentials;
mod learn;
mod not_started;
mod plan;
mod proxy_choice;
mod rules;
mod summary;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::thread;

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{
    DoorKind, Isolation, SessionOpened, SessionReport, SessionRequest,
};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use self::credentials::LauncherCredentials;
use crate::args::run::{IsolationLevel, RunArgs, SummaryWhen};
use crate::failure::{EndedSession, Failure};
use crate::jail::{self, Door, Ended, JailEnd, PreparedJail, TerminalRelay};
use crate::output::{Output, printable};
use crate::terminal::{QuestionDesk, Relay};

/// The longest name of a command that records show, in bytes.
const MAX_COMMAND_BYTES: usize = 64;

/// Runs the command, and ends as it ended.
pub(super) fn run(socket: Option<PathBuf>, output: &Output, args: &RunArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::NoSession(format!("cannot start: {error}")))?;
    learn::check_output(args)?;
    let mut plan = plan::read(args)?;
    let (mut relay, desk) = ask::open(args)?.unzip();
    plan.hidden_terminal = relay.as_ref().map(Relay::device);
    let rules = rules::read(args, output)?;
    let mut proxy = proxy_choice::choose(&runtime, socket, args)?;
    let mut prepared = jail::prepare(&plan).map_err(|error| plan::failure(args, &error))?;
    if let (Some(relay), Some(terminal)) = (&mut relay, prepared.terminal.take()) {
        let connected = relay.connect(terminal);
        connected.map_err(|error| {
            Failure::NoSession(format!("cannot use the program's terminal: {error}"))
        })?;
    }
    let client = proxy.connected(&runtime, args)?;
    output.remark(&format!("proxyctl: {}", proxy.introduction(&client)));
    remark_on_jail(output, args, &prepared);
    if !args.ask
        && let Some(how) = proxy.how_to_answer(&runtime, &client, args)
    {
        output.remark(&format!("proxyctl: {how}"));
    }
    proxy.limit(&runtime, &client, args)?;
    let credentials = credentials::given(&runtime, &client, args)?;
    let (session, prepared) = open(&runtime, &client, args, rules, &credentials, prepared)?;
    for warning in &session.warnings {
        output.remark(&format!("proxyctl: {warning}"));
    }
    let (environment, remarks) = credentials.environment(&session);
    for remark in remarks
        .iter()
        .chain(&credentials.remarks_about(&args.command))
    {
        output.remark(&format!("proxyctl: {remark}"));
    }
    if relay.is_some() {
        ask::listen(&runtime, &client, &session.id, proxy.kind())?;
    }
    let mut running = prepared
        .start(&args.command, environment)
        .map_err(|error| Failure::NoSession(error.to_string()))?;
    let end = running
        .end_handle()
        .map_err(|error| Failure::NoSession(error.to_string()))?;
    let questions = desk.map(|desk| (session.id.clone(), desk));
    let watch = Watch::start(runtime, client, questions, end);
    let relay = relay
        .as_mut()
        .map(|relay| relay as &mut (dyn TerminalRelay + 'static));
    let ended = running.wait(relay);
    let results = watch.end();
    // Before the exit code is known to the caller, nothing of the jail is left.
    drop(running);
    if let (SessionResults::Report(report), Ok(ended)) = (&results, &ended)
        && !matches!(ended, Ended::NotStarted(_))
    {
        if wants_summary(args, report) {
            summary::write(output, args, proxy.kind(), report);
        }
        if args.learn {
            learn::write(output, args, &session.mode, report);
        }
    }
    drop(proxy);
    if let SessionResults::Ended(why) = &results {
        output.complain(&format!(
            "the proxy ended the session{why}, so the command reached nothing any more and was ended"
        ));
        return Err(Failure::Session(EndedSession::silent(
            EndedSession::NO_SESSION,
        )));
    }
    let ended = ended.map_err(|error| Failure::NoSession(error.to_string()))?;
    settled(&args.command[0], &ended)
}

fn remark_on_jail(output: &Output, args: &RunArgs, prepared: &PreparedJail) {
    if args.isolation == IsolationLevel::Env {
        output.remark(
            "proxyctl: unconfined: a program that ignores the proxy variables reaches the network past the policy",
        );
    } else if args.allow_unix_sockets {
        output.remark(
            "proxyctl: unix sockets are open: a process outside the jail may use the network for the program",
        );
    }
    if let Some(why) = &prepared.not_transparent {
        output.remark(&format!("proxyctl: {why}"));
    }
    if let Some(which) = prepared.signals_leave {
        output.remark(&format!("proxyctl: {which}"));
    }
}

/// Opens the session on the listeners of the jail.
fn open(
    runtime: &Runtime,
    client: &Client,
    args: &RunArgs,
    rules: codex_network_control::message::Narrowing,
    credentials: &LauncherCredentials,
    mut prepared: PreparedJail,
) -> Result<(SessionOpened, PreparedJail), Failure> {
    let (doors, sockets): (Vec<Door>, Vec<_>) =
        std::mem::take(&mut prepared.doors).into_iter().unzip();
    let doors = doors.into_iter().filter_map(|door| kind(&door, args));
    let request = SessionRequest {
        command: shown_name(&args.command[0]),
        pid: std::process::id(),
        isolation: match args.isolation {
            IsolationLevel::Jail => Isolation::Jail,
            IsolationLevel::Env => Isolation::Env,
        },
        profile: args.profile.clone(),
        narrowing: rules,
        credentials: credentials.given(),
        doors: doors.collect(),
        sockets: sockets.into(),
    };
    let opened = runtime.block_on(client.open_session(request));
    let opened = opened
        .map_err(|error| Failure::NoSession(format!("the proxy opened no session: {error}")))?;
    Ok((opened, prepared))
}

fn kind(door: &Door, args: &RunArgs) -> Option<DoorKind> {
    Some(match door {
        Door::Http => DoorKind::Http,
        Door::Socks5 => DoorKind::Socks5,
        Door::Transparent => DoorKind::Transparent,
        Door::DnsUdp => DoorKind::DnsUdp,
        Door::DnsTcp => DoorKind::DnsTcp,
        Door::Forward(place) => {
            let forward = args.forward.get(*place)?;
            DoorKind::Forward {
                host: forward.host.clone(),
                port: forward.to,
            }
        }
    })
}

/// The file name of the command, shortened. Records show it, and never the arguments.
fn shown_name(command: &OsStr) -> String {
    let name = Path::new(command).file_name().unwrap_or_default();
    let mut name: String = name
        .to_string_lossy()
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    if name.is_empty() {
        "-".clone_into(&mut name);
    }
    while name.len() > MAX_COMMAND_BYTES {
        name.pop();
    }
    name
}

/// Programs rarely show the words of a refusal, and those who read a log need them too.
fn wants_summary(args: &RunArgs, report: &SessionReport) -> bool {
    match args.summary {
        SummaryWhen::Auto => report.refused_total > 0 || std::io::stderr().is_terminal(),
        SummaryWhen::Always => true,
        SummaryWhen::Never => false,
    }
}

/// The exit status of the command, as a shell reports it.
fn settled(command: &OsStr, ended: &Ended) -> Result<(), Failure> {
    match (ended.exit_code(), ended) {
        (0, _) => Ok(()),
        (code, Ended::NotStarted(error)) => {
            let message = not_started::message(command, error);
            Err(Failure::Session(EndedSession::said(code, message)))
        }
        (code, _) => Err(Failure::Session(EndedSession::silent(code))),
    }
}

/// Watches the connection that the session lives on, on a thread of its own, while the command runs.
struct Watch {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<SessionResults>,
}

/// The results of a session, after its command.
enum SessionResults {
    Report(SessionReport),
    /// The proxy gave no report.
    Unknown,
    /// The proxy had ended the session, with this cause in brackets, and so the jail was ended.
    Ended(String),
}

impl Watch {
    /// With questions of this session, it shows them and gives the answers.
    fn start(
        runtime: Runtime,
        client: Client,
        mut questions: Option<(String, QuestionDesk)>,
        jail: JailEnd,
    ) -> Self {
        let (end, mut ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut ended => match client.session_report().await {
                        Ok(report) => SessionResults::Report(report),
                        Err(_) => SessionResults::Unknown,
                    },
                    why = end_of_session(&client) => {
                        jail.end();
                        SessionResults::Ended(why)
                    }
                    never = asked(&client, &mut questions) => match never {},
                }
            })
        });
        Self { end, thread }
    }

    /// The results of the session. It ends when this returns.
    fn end(self) -> SessionResults {
        let _ = self.end.send(());
        self.thread.join().unwrap_or(SessionResults::Unknown)
    }
}

/// Serves the questions of `--ask`.
async fn asked(client: &Client, questions: &mut Option<(String, QuestionDesk)>) -> Infallible {
    if let Some((session, desk)) = questions {
        ask::serve(client, session, desk).await;
    }
    std::future::pending().await
}

/// Waits for the end of the session. Returns the cause in brackets, if the proxy gives one.
async fn end_of_session(client: &Client) -> String {
    loop {
        match client.session_end().await {
            Ok(Some(why)) => return format!(" ({})", printable(&why)),
            // It goes on.
            Ok(None) | Err(CallError::TimedOut) => {}
            Err(_) => {
                client.ended().await;
                return String::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j12_records_show_the_name_of_the_program_and_no_path() {
        assert_eq!(shown_name(OsStr::new("/usr/bin/curl")), "curl");
        assert_eq!(shown_name(OsStr::new("./agent")), "agent");
        assert_eq!(shown_name(OsStr::new("/")), "-");
        assert_eq!(shown_name(OsStr::new("a\nb")), "ab");
        let long = "ä".repeat(100);
        assert_eq!(shown_name(OsStr::new(&long)).len(), MAX_COMMAND_BYTES);
    }

    #[test]
    fn j1_the_exit_status_is_that_of_the_command() {
        let code = |ended: Ended| match settled(OsStr::new("x"), &ended) {
            Ok(()) => 0,
            Err(Failure::Session(ended)) => ended.code,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(code(Ended::Exited(0)), 0);
        assert_eq!(code(Ended::Exited(3)), 3);
        assert_eq!(code(Ended::Killed(15)), 143);
        let missing = std::io::ErrorKind::NotFound.into();
        assert_eq!(code(Ended::NotStarted(missing)), 127);
        let refused = std::io::ErrorKind::PermissionDenied.into();
        assert_eq!(code(Ended::NotStarted(refused)), 126);
    }
}
