//! `proxyctl env`: the variables that make programs use the running proxy, for a shell to evaluate.

mod shell;

use std::net::SocketAddr;

use codex_network_config::{CERTIFICATE_VARIABLES, ChildVariables};
use codex_network_control::Client;
use codex_network_control::message::{CaQuery, Status};
use serde_json::Value;

use self::shell::Syntax;
use crate::args::ShellName;
use crate::failure::Failure;
use crate::output::{Output, OutputFormat};

/// The variable that is set to the bundle by `env` alone, and so tells its value from the user's own.
const OWN_BUNDLE: &str = "CODEX_CA_CERTIFICATE";

/// Writes the commands that set the variables.
pub(super) async fn set(
    client: &Client,
    output: &Output,
    shell: Option<ShellName>,
) -> Result<(), Failure> {
    let status = client.status().await?;
    let http = address(&status, "http").ok_or_else(|| {
        Failure::Failed("the proxy has no HTTP listener now; `proxyctl status` says why".to_owned())
    })?;
    let http = format!("http://{http}");
    let all = address(&status, "socks5")
        .map_or_else(|| http.clone(), |socks5| format!("socks5h://{socks5}"));
    let config = client.config().await?;
    let allow_local_binding =
        config.settings.get("allow_local_binding") == Some(&Value::Bool(true));
    let ca = client.ca(CaQuery::default()).await?;
    if ca.bundle_file.is_none() && !ca.pem.is_empty() && !ca.unused {
        output.remark(
            "The CA is in no file that programs could read; `proxyctl ca show` says how they can trust it.",
        );
    }
    remark_on_replaced_files(output, ca.bundle_file.as_deref());
    let variables = ChildVariables {
        http: &http,
        all: &all,
        ftp: &all,
        allow_local_binding,
        has_own_loopback: false,
        bundle: ca.bundle_file.as_deref(),
    };
    let syntax = Syntax::of(shell, output.format() == OutputFormat::Json);
    let text = syntax.set(&variables.pairs());
    let text = text
        .map_err(|name| Failure::Failed(format!("the value of {name} has a control character")))?;
    Ok(output.line(&text)?)
}

/// Writes the commands that remove the variables. Asks no proxy.
pub(super) fn unset(output: &Output, shell: Option<ShellName>) -> Result<(), Failure> {
    let bundle = std::env::var_os(OWN_BUNDLE).filter(|value| !value.is_empty());
    // A file of the user's own stays.
    let is_ours = |name: &&&str| bundle.is_some() && std::env::var_os(name) == bundle;
    let certificates = CERTIFICATE_VARIABLES.iter().filter(is_ours).copied();
    let names: Vec<&str> = ChildVariables::names().chain(certificates).collect();
    let syntax = Syntax::of(shell, output.format() == OutputFormat::Json);
    Ok(output.line(&syntax.unset(&names))?)
}

/// The address of a listener.
fn address(status: &Status, name: &str) -> Option<SocketAddr> {
    let mut listeners = status.listeners.iter();
    listeners
        .find(|listener| listener.name == name)
        .and_then(|listener| listener.address.parse().ok())
}

/// The variables replace files that the shell named before. The running proxy cannot add their
/// certificates to its bundle.
fn remark_on_replaced_files(output: &Output, bundle: Option<&str>) {
    let Some(bundle) = bundle else {
        return;
    };
    let before = |name: &str| std::env::var(name).ok().filter(|file| !file.is_empty());
    let own = before(OWN_BUNDLE);
    let mut files: Vec<String> = CERTIFICATE_VARIABLES
        .iter()
        .filter_map(|name| before(name))
        .filter(|file| file != bundle && Some(file) != own.as_ref())
        .collect();
    files.sort();
    files.dedup();
    if !files.is_empty() {
        output.remark(&format!(
            "{bundle} replaces {}: certificates that only the latter has are not trusted then.",
            files.join(", ")
        ));
    }
}
