//! `proxyctl ca install` and `uninstall`: whether this system trusts the CA.

use std::path::Path;
use std::process::Stdio;

use codex_network_control::Client;
use codex_network_control::message::CaQuery;
use nix::unistd::Uid;
use serde_json::json;

use crate::failure::Failure;
use crate::listener::AnsweringProxy;
use crate::output::{Output, OutputFormat, printable};
use crate::system_tool;
use crate::trust_store::{StoreChange, ToolCall, TrustStore};

/// Installs the CA. The caller and the proxy must both be root's.
pub(super) async fn install(client: &Client, output: &Output) -> Result<(), Failure> {
    let ca = client.ca(CaQuery::default()).await?;
    if ca.subject.is_empty() {
        return Err(Failure::no_ca());
    }
    if ca.kept_at.is_none() {
        return Err(Failure::Failed(
            "this CA is lost when the proxy stops, so trusting it would be worthless after a restart; make a permanent one with `codex-network-proxy init`, \
             then `proxyctl reload`, then install that"
                .to_owned(),
        ));
    }
    let store = find()?;
    let changed = store.install(&ca.pem, &mut run).map_err(Failure::Failed)?;
    let proxy = AnsweringProxy::of(client);
    if output.format() == OutputFormat::Text {
        let (subject, fingerprint) = (printable(&ca.subject), printable(&ca.fingerprint));
        output.line(&format!(
            "CA of the proxy of {proxy}: {subject}, SHA-256 {fingerprint}"
        ))?;
    }
    report(
        output,
        "installed",
        "is installed already",
        &changed,
        Some(&proxy),
    )
}

/// Needs no proxy: installed files are found by name and content.
pub(crate) fn uninstall(output: &Output) -> Result<(), Failure> {
    need_root("uninstall")?;
    let changed = find()?.uninstall(&mut run).map_err(Failure::Failed)?;
    report(output, "removed", "was not installed", &changed, None)
}

pub(crate) fn need_root(what: &str) -> Result<(), Failure> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Failure::NotPermitted(format!(
        "the system's certificates belong to root: run `sudo proxyctl ca {what}`"
    )))
}

fn find() -> Result<TrustStore, Failure> {
    TrustStore::of(Path::new("/")).ok_or_else(|| {
        Failure::Failed(
            "this system has neither update-ca-certificates nor update-ca-trust; install ca-certificates, or see \
             `proxyctl ca show` for other ways"
                .to_owned(),
        )
    })
}

/// Runs a tool of the system. Its output goes to standard error.
fn run(tool: &ToolCall<'_>) -> Result<(), String> {
    let status = system_tool::command(tool.program)
        .args(&tool.arguments)
        .stdin(Stdio::null())
        // Standard output is for the command's own answer.
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|error| format!("cannot run {}: {error}", tool.program.display()))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} failed ({status})", tool.program.display()))
}

fn report(
    output: &Output,
    done: &str,
    nothing: &str,
    changed: &StoreChange,
    proxy: Option<&AnsweringProxy>,
) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        let mut answer = json!({ "status": done, "files": changed.files() });
        if let Some(proxy) = proxy {
            answer["answered_by"] = json!(proxy);
        }
        return Ok(output.json(&answer)?);
    }
    match changed {
        StoreChange::Nothing(files) if files.is_empty() => {
            Ok(output.line(&format!("the CA {nothing}"))?)
        }
        StoreChange::Nothing(files) | StoreChange::Files(files) => {
            let word = match changed {
                StoreChange::Nothing(_) => "was there already",
                StoreChange::Files(_) => done,
            };
            for file in files {
                output.line(&format!("{word}: {}", file.display()))?;
            }
            Ok(())
        }
    }
}
