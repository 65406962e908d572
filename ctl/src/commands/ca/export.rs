//! `proxyctl ca export`: the certificate, or the bundle, as PEM.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_network_control::Client;
use codex_network_control::message::CaQuery;
use serde_json::json;

use super::none;
use crate::Failure;
use crate::output::{Form, Output};

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Certificate,
    /// The system's roots and the certificate.
    Bundle,
}

pub(super) async fn run(
    client: &Client,
    output: &Output,
    what: What,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let bundle = what == What::Bundle;
    let ca = client.ca(CaQuery { bundle }).await?;
    let pem = if bundle {
        ca.bundle.unwrap_or_default()
    } else {
        ca.pem
    };
    if pem.is_empty() {
        return Err(none());
    }
    match out {
        Some(path) => write_new(path, pem.as_bytes()).map_err(|error| refused(path, &error)),
        None if output.form() == Form::Json => Ok(output.json(&json!({ "pem": pem }))?),
        None => Ok(output.line(pem.trim_end())?),
    }
}

/// A file that everybody may read, whatever the umask; one that is there stays as it is.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.sync_all()
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Failed(match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{path} is there already and stays as it is; remove it, or name another file")
        }
        _ => format!("cannot write {path}: {error}"),
    })
}
