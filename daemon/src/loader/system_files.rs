//! Reads the files of the system that the worker needs: with the configuration, and again whenever
//! one of them changes (SPEC L14).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use codex_network_config::{CaCertificate, ResolvConf};
use codex_network_files::{ReadError, Reading, Sources as Kinds, Trust};

use crate::ca::{publish, roots};
use crate::opaque::ca_and_roots::CaAndRoots;
use crate::opaque::file_contents::FileContents;
use crate::privsep::system_files::{FileUse, FoundFiles, Plan, SystemFiles};
use crate::state;
use crate::watched::{Collection, SYSTEM_HOSTS};

/// The file that names the name servers.
const RESOLV_CONF: &str = ResolvConf::PATH;
/// Large block lists are hosts files too, and `/dev/null` means no hosts file.
pub(super) const HOSTS: Reading = Reading::up_to(64 << 20).from_sources(Kinds::RegularOrNull);

/// Reads the files of new settings.
///
/// # Errors
///
/// One sentence, when the hosts file that the settings name cannot be read.
pub(super) fn first(plan: Plan) -> Result<SystemFiles, String> {
    let found = Found::read(&plan);
    if let (Err(why), Some(_)) = (&found.hosts, &plan.hosts_file) {
        return Err(format!("[daemon.resolver] hosts_file: {why}"));
    }
    let contents = FileContents {
        warnings: found.warnings("it counts as empty"),
        hosts: found.hosts.ok(),
        resolv_conf: found.resolv_conf.ok(),
        roots: Some(found.roots.unwrap_or_else(|missing| missing.otherwise)),
    };
    Ok(SystemFiles {
        plan,
        watched: found.watched,
        parts: contents.to_parts().map(Option::unwrap_or_default),
    })
}

/// Reads the files again. Those that cannot be used are left out.
pub(super) fn again(plan: &Plan) -> FoundFiles {
    let found = Found::read(plan);
    let contents = FileContents {
        warnings: found.warnings("what was read before stays in force"),
        hosts: found.hosts.ok(),
        resolv_conf: found.resolv_conf.ok(),
        roots: found.roots.ok(),
    };
    FoundFiles {
        watched: found.watched,
        parts: contents.to_parts(),
    }
}

/// The files as they are now, or why they cannot be used.
struct Found {
    watched: Vec<crate::watched::WatchedPath>,
    hosts: Result<Vec<u8>, String>,
    resolv_conf: Result<Vec<u8>, String>,
    roots: Result<CaAndRoots, NoRoots>,
    warnings: Vec<String>,
}

/// There are no roots.
struct NoRoots {
    why: String,
    /// The CA alone.
    otherwise: CaAndRoots,
}

impl Found {
    fn read(plan: &Plan) -> Self {
        // First, so that a change after the reading is noticed.
        let watched = watched(plan).stamped();
        let hosts = match &plan.hosts_file {
            Some(named) => HOSTS
                .kept_by(Trust::of_process())
                .read(named)
                .map(|mut content| std::mem::take(&mut *content))
                .map_err(|error| format!("cannot read {}: {error}", named.display())),
            None => of_system(SYSTEM_HOSTS, HOSTS),
        };
        let resolv_conf = match plan.resolv_conf {
            FileUse::No => Ok(Vec::new()),
            // Without it, lookups that need DNS fail and say so.
            FileUse::Yes => of_system(RESOLV_CONF, ResolvConf::READING).and_then(judged),
        };
        let mut warnings = Vec::new();
        Self {
            watched,
            hosts,
            resolv_conf,
            roots: ca_and_roots(plan, &mut warnings),
            warnings,
        }
    }

    /// The warnings. `instead` says what takes the place of a file that cannot be used.
    fn warnings(&self, instead: &str) -> Vec<String> {
        let files = [&self.hosts, &self.resolv_conf].into_iter();
        let unusable =
            files.filter_map(|file| Some(format!("{}; {instead}", file.as_ref().err()?)));
        let roots = self.roots.as_ref().err().map(|roots| roots.why.clone());
        unusable
            .chain(roots)
            .chain(self.warnings.iter().cloned())
            .collect()
    }
}

/// The paths of all files that a plan needs.
fn watched(plan: &Plan) -> Collection {
    let resolv_conf = (plan.resolv_conf == FileUse::Yes).then_some(Path::new(RESOLV_CONF));
    let mut paths = Collection::of_resolver(plan.hosts_file.as_deref(), resolv_conf);
    if plan.roots == FileUse::Yes {
        roots::watch(&mut paths);
    }
    paths
}

/// A file of the system that every program uses. It may be missing.
fn of_system(path: &str, reading: Reading) -> Result<Vec<u8>, String> {
    match reading.read(Path::new(path)) {
        Ok(mut content) => Ok(std::mem::take(&mut *content)),
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read {path}: {error}")),
    }
}

/// A text that names no name server may be one that is only half written.
fn judged(content: Vec<u8>) -> Result<Vec<u8>, String> {
    if ResolvConf::parse_whole(&String::from_utf8_lossy(&content)).is_some() {
        return Ok(content);
    }
    Err(format!(
        "{RESOLV_CONF} names no name server and has a line that resolv.conf(5) does not describe"
    ))
}

/// The roots, and the CA with its public files, whose bundle holds the roots.
fn ca_and_roots(plan: &Plan, warnings: &mut Vec<String>) -> Result<CaAndRoots, NoRoots> {
    if plan.roots == FileUse::No {
        return Ok(CaAndRoots::default());
    }
    let own: Vec<&[u8]> = [&plan.ephemeral]
        .into_iter()
        .chain(plan.ca.as_ref().map(|(der, _)| der))
        .map(Vec::as_slice)
        .collect();
    let roots = roots::load(&own);
    let ca = plan.ca.as_ref().map(|(der, kept_at)| {
        let (certificate_file, bundle_file) = match plan.public_files {
            FileUse::Yes => public_files(plan.state.as_deref(), der, &roots.certificates)
                .map_err(|why| {
                    warnings.push(format!(
                        "the CA's public files are missing, so programs cannot be pointed at them: {why}"
                    ));
                })
                .ok(),
            FileUse::No => {
                if let Some(state) = &plan.state {
                    publish::clean(state, SystemTime::now());
                }
                None
            }
        }
        .map(|published| (published.certificate, published.bundle))
        .unzip();
        Arc::new(CaCertificate {
            der: der.as_slice().into(),
            kept_at: kept_at.clone(),
            certificate_file,
            bundle_file,
        })
    });
    let found = CaAndRoots {
        ca,
        roots: roots.certificates.into(),
    };
    match roots.warning {
        None => Ok(found),
        Some(why) => Err(NoRoots {
            why,
            otherwise: found,
        }),
    }
}

fn public_files(
    state: Option<&Path>,
    certificate: &[u8],
    roots: &[Arc<[u8]>],
) -> Result<publish::Published, String> {
    let state = state.ok_or(state::NOWHERE)?;
    let roots = roots.iter().map(|root| &**root);
    publish::publish(state, certificate, roots, SystemTime::now())
}
