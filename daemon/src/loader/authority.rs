//! Which CA a configuration uses (SPEC M3).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use codex_network_config::{CaPaths, Settings};
use codex_network_policy::Interception;

use crate::ca::Ca;
use crate::ca::files::{self, FileError};
use crate::privsep::briefing::Environment;
use crate::privsep::settled::Authority;
use crate::state;

/// The CA for the monitor, its certificate (DER) with its own file, and warnings.
pub(super) struct ChosenCa {
    pub(super) authority: Authority,
    pub(super) ca: Option<(Vec<u8>, Option<PathBuf>)>,
    pub(super) warnings: Vec<String>,
}

/// Finds the CA. `ephemeral` is the certificate of the one that the monitor made when it started.
///
/// # Errors
///
/// One sentence, when a CA in files cannot be used.
pub(super) fn choose(
    settings: &Settings,
    environment: &Environment,
    ephemeral: &[u8],
) -> Result<ChosenCa, String> {
    if settings.policy.interception() == Interception::Forbidden {
        return Ok(ChosenCa {
            authority: Authority::None,
            ca: None,
            warnings: Vec::new(),
        });
    }
    let now = SystemTime::now();
    let state = state::directory(&settings.daemon, |name| environment.get(name));
    let mut warnings = Vec::new();
    let kept = match &settings.mitm.ca_paths {
        Some(paths) => {
            let ca = files::read(paths, now).map_err(|error| error.to_string())?;
            let ca = match ca {
                Some(ca) => ca,
                None => make(paths, now, &mut warnings)?,
            };
            Some((ca, paths.certificate.clone()))
        }
        None => match state.as_deref().map(files::in_state) {
            Some(paths) => {
                in_state(files::read(&paths, now), &mut warnings)?.map(|ca| (ca, paths.certificate))
            }
            None => None,
        },
    };
    let (authority, ca) = match kept {
        Some((ca, at)) => {
            let certificate = ca.certificate().to_vec();
            (Authority::Kept(Arc::new(ca)), (certificate, Some(at)))
        }
        None => (Authority::Ephemeral, (ephemeral.to_vec(), None)),
    };
    Ok(ChosenCa {
        authority,
        ca: Some(ca),
        warnings,
    })
}

/// Makes the CA at the configured paths, where neither file exists yet, as `init` does. Programs do not
/// trust it yet, so this is a warning.
fn make(paths: &CaPaths, now: SystemTime, warnings: &mut Vec<String>) -> Result<Ca, String> {
    let made = files::make(paths, now).map_err(|error| {
        format!(
            "the CA of ca_cert_path and ca_key_path does not exist and cannot be made: {error}; make these \
             directories writable, or remove both keys for a CA that is made at each start"
        )
    })?;
    warnings.push(format!(
        "made the CA of ca_cert_path and ca_key_path, which did not exist; programs must be pointed at the new \
         certificate {} (`proxyctl ca show`)",
        paths.certificate.display()
    ));
    Ok(made.into_ca())
}

/// The result of looking into the default state directory. A user who may not read it can still run
/// the proxy.
fn in_state(
    found: Result<Option<Ca>, FileError>,
    warnings: &mut Vec<String>,
) -> Result<Option<Ca>, String> {
    match found {
        Ok(ca) => Ok(ca),
        Err(error) if error.is_permission_denied() => {
            warnings.push(format!(
                "{error}; a temporary CA is used, which ends with the process"
            ));
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}
