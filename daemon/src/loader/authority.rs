//! Which CA a configuration uses (SPEC M3), and what the worker may know about it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use codex_network_config::{CaCertificate, CaPaths, Settings};
use codex_network_policy::Interception;

use crate::ca::files::{self, FileError};
use crate::ca::handed::Handed;
use crate::ca::roots::Roots;
use crate::ca::{Ca, publish, roots};
use crate::privsep::briefing::Environment;
use crate::privsep::settled::Authority;
use crate::state;

/// The CA for the monitor, the part for the worker, and warnings.
pub(super) struct Chosen {
    pub(super) authority: Authority,
    pub(super) handed: Handed,
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
) -> Result<Chosen, String> {
    if settings.policy.interception() == Interception::Forbidden {
        // An upstream proxy in TLS is verified too (SPEC H12).
        let roots = if settings.upstream_proxies.need_tls() {
            roots::load(&[ephemeral])
        } else {
            Roots::default()
        };
        return Ok(Chosen {
            authority: Authority::None,
            handed: Handed {
                roots: roots.certificates.into(),
                ..Handed::default()
            },
            warnings: roots.warning.into_iter().collect(),
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
    let (authority, certificate, kept_at): (_, Arc<[u8]>, _) = match kept {
        Some((ca, at)) => {
            let certificate = Arc::clone(ca.certificate());
            (Authority::Kept(Arc::new(ca)), certificate, Some(at))
        }
        None => (Authority::Ephemeral, ephemeral.into(), None),
    };
    let roots = roots::load(&[&certificate, ephemeral]);
    warnings.extend(roots.warning);
    let published = public_files(state.as_deref(), &certificate, &roots.certificates, now)
        .map_err(|why| {
            warnings.push(format!(
                "the CA's public files are missing, so programs cannot be pointed at them: {why}"
            ));
        })
        .ok();
    let (certificate_file, bundle_file) = published
        .map(|published| (published.certificate, published.bundle))
        .unzip();
    let ca = CaCertificate {
        der: certificate,
        kept_at,
        certificate_file,
        bundle_file,
    };
    Ok(Chosen {
        authority,
        handed: Handed {
            ca: Some(Arc::new(ca)),
            roots: roots.certificates.into(),
        },
        warnings,
    })
}

/// Makes the CA at the configured paths, where neither file exists yet, as `init` does. Programs do not
/// trust it yet, so the operator is told.
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

fn public_files(
    state: Option<&Path>,
    certificate: &[u8],
    roots: &[Arc<[u8]>],
    now: SystemTime,
) -> Result<publish::Published, String> {
    let state = state.ok_or(state::NOWHERE)?;
    publish::publish(state, certificate, roots.iter().map(|root| &**root), now)
}
