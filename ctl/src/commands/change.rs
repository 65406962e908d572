//! `proxyctl allow`, `deny` and `unset`: change the lists in the configuration, and reload the proxy
//! (SPEC W3).

mod in_force;

use std::path::PathBuf;

use codex_network_policy::{ListKind, Pattern};
use nix::unistd::{Uid, User};
use serde::Serialize;

use self::in_force::{NotInForce, RunningProxy};
use crate::args::Command;
use crate::args::change::ChangeArgs;
use crate::edit::{Configuration, ListChange, Plan, Planned, Refused, Replacement, Verb, plan};
use crate::failure::Failure;
use crate::output::{Output, OutputFormat, Tone, counted, printable, printable_line};

/// Attempts to plan and lock a file whose configuration changes meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// The note about a file that was written, while it is unknown whether the proxy has taken it.
const UNKNOWN: &str = "the file is changed, but it is unknown whether the proxy has taken the change; `proxyctl reload` \
                       puts it in force";

/// Why a change was not made, or may not be in force.
pub(super) enum ChangeFailure {
    /// The file is as it was, or has its old content again.
    NotMade(Failure),
    /// The same: the configuration has other changes that are not in force.
    OtherChanges(Failure),
    /// The file is changed. The proxy did not say whether it has taken the change.
    Unknown(Failure),
}

/// The answer with `--json`.
#[derive(Debug, Default, Serialize)]
struct ChangeReport {
    /// The file that changed, or would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    changed: bool,
    diff: String,
    reloaded: bool,
    /// The generation of the settings with the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    warnings: Vec<String>,
    /// Why nothing changed, or why nothing was reloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) fn run(
    socket: Option<PathBuf>,
    output: &Output,
    command: Command,
) -> Result<(), Failure> {
    let (verb, pattern, reason, options) = match command {
        Command::Allow {
            pattern,
            entry,
            change,
            ..
        } => (Verb::Allow, pattern, entry.reason, change),
        Command::Deny {
            pattern,
            entry,
            change,
        } => (Verb::Deny, pattern, entry.reason, change),
        Command::Unset { pattern, change } => (Verb::Unset, pattern, None, change),
        // The others have modules of their own.
        _ => return Ok(()),
    };
    let pattern = Pattern::parse(&pattern, ListKind::Allow)
        .map_err(|error| Failure::Failed(format!("{pattern}: {error}")))?;
    let change = ListChange {
        verb,
        pattern,
        comment: reason.map(|reason| comment(&reason)),
    };
    let made = runtime()?.block_on(make(socket, output, &change, &options));
    made.map_err(ChangeFailure::into_failure)
}

/// A runtime for one change.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}

/// Plans a change, writes it, and has the proxy reload.
pub(super) async fn make(
    socket: Option<PathBuf>,
    output: &Output,
    change: &ListChange,
    options: &ChangeArgs,
) -> Result<(), ChangeFailure> {
    let proxy = RunningProxy::find(socket).await?;
    let configuration = match (&options.config, &proxy) {
        (Some(file), _) => Configuration::of_file(file),
        (None, Some(proxy)) => {
            proxy.check_readable(change)?;
            Configuration::of_proxy(proxy.read()?, |name| std::env::var_os(name))
        }
        (None, None) => {
            Configuration::of_caller(Uid::effective().as_raw(), |name| std::env::var_os(name))
        }
    };
    let proxy = proxy.filter(|proxy| match &options.config {
        Some(file) => proxy.has_read(file),
        None => true,
    });
    if let (Some(file), Some(proxy)) = (&options.config, &proxy)
        && proxy.read()?.files.len() > 1
    {
        return Err(ChangeFailure::NotMade(Failure::Failed(format!(
            "the running proxy reads {} together with other files, whose lists it would replace or meet; leave --config \
             out, so that the change is judged with all of them",
            file.display()
        ))));
    }
    for _ in 0..MAX_ATTEMPTS {
        let planned = match plan(&configuration, change)? {
            Planned::Done(why) => return Ok(done(output, why)?),
            Planned::Change(planned) => planned,
        };
        if let Some(obstacle) = &planned.obstacle {
            return Err(not_ours(output, &planned, obstacle)?.into());
        }
        if options.dry_run {
            return Ok(shown(output, &planned)?);
        }
        let replacement = Replacement::of(&planned.file).map_err(failed)?;
        // Another command may have changed the file before it was locked.
        let planned = match plan(&configuration, change)? {
            Planned::Change(again) if again.file == planned.file => again,
            Planned::Done(why) => return Ok(done(output, why)?),
            Planned::Change(_) => continue,
        };
        replacement
            .replace(planned.old.as_deref(), Some(&planned.new))
            .map_err(failed)?;
        return put_in_force(output, proxy, &replacement, &planned, change).await;
    }
    Err(ChangeFailure::NotMade(Failure::Failed(
        "the configuration is being changed by others; nothing was changed".to_owned(),
    )))
}

/// Reloads the proxy. If it does not take the change, the file gets its old content back.
async fn put_in_force(
    output: &Output,
    proxy: Option<RunningProxy>,
    replacement: &Replacement,
    plan: &Plan,
    change: &ListChange,
) -> Result<(), ChangeFailure> {
    let mut report = ChangeReport {
        file: Some(plan.file.display().to_string()),
        changed: true,
        diff: plan.diff.clone(),
        ..ChangeReport::default()
    };
    let mut sentence = None;
    match proxy {
        None => {
            report.note = Some("no running proxy reads this file; the next start will".to_owned());
        }
        Some(proxy) => match proxy.put_in_force(change).await {
            Ok(reloaded) => {
                report.reloaded = true;
                report.generation = Some(reloaded.generation);
                sentence = Some(format!(
                    "reloaded: {} mode, {}, {}",
                    printable(&reloaded.mode),
                    counted(reloaded.allow_rules, "allow rule", "allow rules"),
                    counted(reloaded.deny_rules, "deny rule", "deny rules"),
                ));
                report.warnings = reloaded.warnings;
            }
            Err(NotInForce::Refused(why)) => {
                let failure = undone(replacement, plan, &why);
                proxy.reload_again().await;
                return Err(ChangeFailure::NotMade(failure));
            }
            Err(NotInForce::OtherChanges(why)) => {
                return Err(ChangeFailure::OtherChanges(undone(replacement, plan, &why)));
            }
            Err(NotInForce::Unknown(why)) => {
                report.note = Some(UNKNOWN.to_owned());
                written(output, &report, None)?;
                return Err(ChangeFailure::Unknown(why));
            }
        },
    }
    Ok(written(output, &report, sentence)?)
}

/// Gives the file its old content back.
fn undone(replacement: &Replacement, plan: &Plan, why: &str) -> Failure {
    let restored = replacement.replace(Some(&plan.new), plan.old.as_deref());
    let file = plan.file.display();
    Failure::Failed(match restored {
        Ok(()) => format!("{why}\n{file} has its old content again"),
        Err(error) => format!("{why}\n{file} stays changed: {error}"),
    })
}

fn written(
    output: &Output,
    report: &ChangeReport,
    sentence: Option<String>,
) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        return Ok(output.json(report)?);
    }
    show(output, &report.diff)?;
    if let Some(file) = &report.file {
        output.sentence(&format!("changed {}", printable(file)))?;
    }
    for warning in &report.warnings {
        output.remark(&format!("warning: {warning}"));
    }
    match sentence.or_else(|| report.note.clone()) {
        Some(text) => Ok(output.sentence(&text)?),
        None => Ok(()),
    }
}

/// No change is needed.
fn done(output: &Output, why: String) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&ChangeReport {
            note: Some(why),
            ..ChangeReport::default()
        })?);
    }
    Ok(output.sentence(&format!("{}; nothing was changed", printable(&why)))?)
}

/// The change of `--dry-run`.
fn shown(output: &Output, plan: &Plan) -> Result<(), Failure> {
    let file = plan.file.display().to_string();
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&ChangeReport {
            file: Some(file),
            diff: plan.diff.clone(),
            note: Some("--dry-run".to_owned()),
            ..ChangeReport::default()
        })?);
    }
    show(output, &plan.diff)?;
    Ok(output.sentence(&format!(
        "would change {}; nothing was changed",
        printable(&file)
    ))?)
}

/// The change of a file that this user may not change.
fn not_ours(output: &Output, plan: &Plan, obstacle: &str) -> Result<Failure, Failure> {
    let file = plan.file.display();
    if output.format() == OutputFormat::Json {
        output.json(&ChangeReport {
            file: Some(file.to_string()),
            diff: plan.diff.clone(),
            note: Some(obstacle.to_owned()),
            ..ChangeReport::default()
        })?;
    } else {
        show(output, &plan.diff)?;
    }
    Ok(Failure::NotPermitted(format!(
        "{file} is not yours to change: {obstacle}. The change above would do it; nothing was changed"
    )))
}

/// Writes a diff. Its lines are never wrapped.
fn show(output: &Output, diff: &str) -> Result<(), Failure> {
    for line in diff.lines() {
        let shown: Vec<String> = line.split('\t').map(printable).collect();
        let shown = shown.join("\t");
        let tone = match line.as_bytes().first() {
            Some(b'+') => Tone::Good,
            Some(b'-') => Tone::Bad,
            Some(b'@') => Tone::Faint,
            _ => {
                output.line(&shown)?;
                continue;
            }
        };
        output.line(&output.paint(tone, &shown))?;
    }
    Ok(())
}

/// The comment of an entry: the date, the user and the reason.
pub(super) fn comment(reason: &str) -> String {
    let today = time::OffsetDateTime::now_utc().date();
    // Characters that change how a line looks are escaped.
    printable_line(&format!("{today} {}: {reason}", user()))
}

/// The user's name. For root it is that of the user who called sudo, if there is one.
fn user() -> String {
    let uid = Uid::effective();
    let named = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
    let named = named.and_then(|name| User::from_name(&name).ok().flatten());
    let user = named.or_else(|| User::from_uid(uid).ok().flatten());
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("{error}; nothing was changed"))
}

impl ChangeFailure {
    /// The failure of the command.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::NotMade(failure) | Self::OtherChanges(failure) | Self::Unknown(failure) => {
                failure
            }
        }
    }
}

impl From<Failure> for ChangeFailure {
    fn from(failure: Failure) -> Self {
        Self::NotMade(failure)
    }
}

impl From<Refused> for ChangeFailure {
    fn from(refused: Refused) -> Self {
        Self::NotMade(refused.into())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotPermitted(why) => Self::NotPermitted(why),
            Refused::Failed(why) => Self::Failed(why),
        }
    }
}
