//! Installing below a temporary root, with tools that only log their calls.

use tempfile::TempDir;

use super::*;

// Any certificate will do; its content is not used.
fn pem(content: &[u8]) -> String {
    let pairs: Vec<String> = content.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = pairs.concat();
    // Hexadecimal digits are base64 too.
    let body = &body[..body.len() / 4 * 4];
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn system(kind: StoreKind) -> (TempDir, TrustStore) {
    let root = tempfile::tempdir().unwrap();
    let program = root.path().join(kind.program());
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(program, "").unwrap();
    let store = match kind {
        StoreKind::Macos => TrustStore {
            root: root.path().to_owned(),
            kind,
        },
        StoreKind::Debian | StoreKind::Fedora => TrustStore::of(root.path()).expect("a store"),
    };
    assert_eq!(store.kind, kind);
    (root, store)
}

/// The arguments of each run.
#[derive(Default)]
struct Runs(Vec<String>);

impl Runs {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "replaces the function that runs tools"
    )]
    fn note(&mut self, tool: &ToolCall<'_>) -> Result<(), String> {
        let words = tool.arguments.join(std::ffi::OsStr::new(" "));
        let program = tool.program.file_name().unwrap().to_string_lossy();
        self.0.push(
            format!("{program} {}", words.to_string_lossy())
                .trim_end()
                .to_owned(),
        );
        Ok(())
    }
}

#[cfg(not(target_os = "macos"))]
#[test]
fn k1_ca_install_uses_the_systems_own_place_and_tool_and_uninstall_undoes_it() {
    for (kind, place, [trust, distrust]) in [
        (
            StoreKind::Debian,
            "usr/local/share/ca-certificates",
            ["update-ca-certificates", "update-ca-certificates --fresh"],
        ),
        (
            StoreKind::Fedora,
            "etc/pki/ca-trust/source/anchors",
            ["update-ca-trust extract"; 2],
        ),
    ] {
        let (root, store) = system(kind);
        let mut runs = Runs::default();
        let pem = pem(b"the CA of this test");
        let changed = store.install(&pem, &mut |tool| runs.note(tool)).unwrap();
        let StoreChange::Files(files) = &changed else {
            panic!("{changed:?}");
        };
        let [file] = files.as_slice() else {
            panic!("{files:?}");
        };
        assert_eq!(file.parent(), Some(root.path().join(place).as_path()));
        let name = file.file_name().unwrap().to_str().unwrap();
        let mark = name_part(pem.as_bytes()).unwrap();
        assert_eq!(name, format!("codex-network-proxy-ca-{mark}.crt"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), pem);
        let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o644);
        // Again: nothing new, and the tool runs in case it did not before.
        let again = store.install(&pem, &mut |tool| runs.note(tool)).unwrap();
        assert_eq!(again, StoreChange::Nothing(files.clone()));
        assert_eq!(runs.0, [trust, trust]);
        let gone = store.uninstall(&mut |tool| runs.note(tool)).unwrap();
        assert_eq!(gone, changed);
        assert!(!file.exists());
        assert_eq!(runs.0, [trust, trust, distrust]);
        let again = store.uninstall(&mut |tool| runs.note(tool)).unwrap();
        assert_eq!(again, StoreChange::Nothing(Vec::new()));
        assert_eq!(runs.0.len(), 3, "nothing to do");
    }
}

#[test]
fn k1_ca_uninstall_leaves_what_is_not_ours() {
    let (_root, store) = system(StoreKind::Debian);
    let mut runs = Runs::default();
    let ours = pem(b"the CA of this test");
    store.install(&ours, &mut |tool| runs.note(tool)).unwrap();
    let directory = store.directory();
    let stranger = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mark = name_part(ours.as_bytes()).unwrap();
    let left = [
        stranger("codex-network-proxy-ca-0000000000000000.crt", &ours),
        stranger("company.crt", &ours),
        stranger(&format!("codex-network-proxy-ca-{mark}.pem"), &ours),
        stranger("codex-network-proxy-ca-.crt", ""),
    ];
    store.uninstall(&mut |tool| runs.note(tool)).unwrap();
    for path in left {
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn k1_ca_install_does_not_replace_what_is_not_this_ca() {
    let (_root, store) = system(StoreKind::Debian);
    let mut runs = Runs::default();
    let ours = pem(b"the CA of this test");
    let mark = name_part(ours.as_bytes()).unwrap();
    let path = store
        .directory()
        .join(format!("codex-network-proxy-ca-{mark}.crt"));
    std::fs::create_dir_all(store.directory()).unwrap();
    std::fs::write(&path, "something else").unwrap();
    let why = store
        .install(&ours, &mut |tool| runs.note(tool))
        .expect_err("a refusal");
    assert!(why.contains("is not this CA"), "{why}");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    store
        .install(&ours, &mut |tool| runs.note(tool))
        .expect_err("a symlink is not followed");
    assert!(runs.0.is_empty());
}

#[test]
fn k1_ca_install_leaves_nothing_when_the_tool_fails() {
    let (_root, store) = system(StoreKind::Debian);
    let ours = pem(b"the CA of this test");
    let why = store
        .install(&ours, &mut |_| Err("it failed".to_owned()))
        .expect_err("a failure");
    assert_eq!(why, "it failed");
    assert!(store.ours().is_empty());
}

#[test]
fn k1_ca_install_on_macos_uses_the_keychain_and_uninstall_takes_it_out() {
    let (_root, store) = system(StoreKind::Macos);
    let mut runs = Runs::default();
    let ours = pem(b"the CA of this test");
    let changed = store.install(&ours, &mut |tool| runs.note(tool)).unwrap();
    let file = changed.files()[0].display().to_string();
    let trust = store.trust(&ours, &mut |tool| runs.note(tool));
    assert_eq!(trust, CaTrust::Yes);
    store.uninstall(&mut |tool| runs.note(tool)).unwrap();
    let hash = fingerprint(ours.as_bytes()).unwrap().to_ascii_uppercase();
    let keychain = "/Library/Keychains/System.keychain";
    assert_eq!(
        runs.0,
        [
            format!("security add-trusted-cert -d -r trustRoot -k {keychain} {file}"),
            format!("security verify-cert -c {file} -p basic -l -L -q"),
            format!("security remove-trusted-cert -d {file}"),
            format!("security delete-certificate -Z {hash} {keychain}"),
        ]
    );
}

#[cfg(not(target_os = "macos"))]
#[test]
fn k1_whether_a_system_trusts_the_ca_is_read_from_its_own_list() {
    for (kind, list) in [
        (StoreKind::Debian, "etc/ssl/certs/ca-certificates.crt"),
        (
            StoreKind::Fedora,
            "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        ),
    ] {
        let (root, store) = system(kind);
        let (ours, other) = (pem(b"the CA of this test"), pem(b"another CA"));
        let trust = || store.trust(&ours, &mut |_| panic!("no tool is needed"));
        assert_eq!(trust(), CaTrust::Unknown, "no list");
        let list = root.path().join(list);
        std::fs::create_dir_all(list.parent().unwrap()).unwrap();
        std::fs::write(&list, &other).unwrap();
        assert_eq!(trust(), CaTrust::No);
        std::fs::write(&list, format!("{other}{ours}")).unwrap();
        assert_eq!(trust(), CaTrust::Yes);
    }
}
