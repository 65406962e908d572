//! The system's root certificates, for the worker and for the bundle (SPEC M5, M6).

use std::sync::Arc;

/// The roots (DER), and what to tell when there are none.
#[derive(Default)]
pub(crate) struct Roots {
    pub(crate) certificates: Vec<Arc<[u8]>>,
    pub(crate) warning: Option<String>,
}

/// Reads the platform's roots, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Our own CA is
/// never one of them, even where it was installed: an upstream that presents a leaf of ours is us, or
/// somebody who has our key.
pub(crate) fn load(own: &[&[u8]]) -> Roots {
    let found = rustls_native_certs::load_native_certs();
    let certificates = without(found.certs.iter().map(AsRef::as_ref), own);
    let warning = certificates.is_empty().then(|| {
        let why = found
            .errors
            .first()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        format!(
            "no root certificates were found{why}, so no intercepted connection gets through to its upstream; \
             {}set SSL_CERT_FILE",
            if cfg!(target_os = "macos") {
                "" // They are in the keychain, which nobody installs.
            } else {
                "install ca-certificates, or "
            }
        )
    });
    Roots {
        certificates,
        warning,
    }
}

fn without<'a>(found: impl Iterator<Item = &'a [u8]>, own: &[&[u8]]) -> Vec<Arc<[u8]>> {
    let mut roots: Vec<Arc<[u8]>> = found
        .filter(|certificate| !own.contains(certificate))
        .map(Arc::from)
        .collect();
    // The bundle is named by its content, so the same roots have to make the same bundle.
    roots.sort_unstable();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m6_our_own_ca_is_no_root_even_when_it_was_installed() {
        let installed: [&[u8]; 3] = [b"one", b"ours", b"two"];
        let roots = without(installed.into_iter(), &[b"ours"]);
        assert_eq!(roots, [Arc::from(&b"one"[..]), Arc::from(&b"two"[..])]);
        let again: [&[u8]; 3] = [b"two", b"one", b"two"];
        assert_eq!(without(again.into_iter(), &[]), roots, "in one order");
    }
}
