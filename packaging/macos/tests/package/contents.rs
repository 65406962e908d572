//! Compares the content of a package with the list.

use std::collections::BTreeMap;

use macos_package::contents::{self, CONTENTS, DIRECTORIES, Places};

use crate::scene::{Scene, VERSION, tree};
use crate::{bom, cpio, xar};

const DIRECTORY: u32 = 0o40_000;
const REGULAR: u32 = 0o100_000;

/// The directories above a path.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The expected content of a package: the mode and, for a file, the bytes.
fn expected(places: &Places) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut expected = BTreeMap::from([(".".to_owned(), (DIRECTORY | 0o755, Vec::new()))]);
    let files = contents::files(places).expect("files");
    let directories = files
        .iter()
        .flat_map(|file| above(&file.to))
        .chain(DIRECTORIES.iter().flat_map(|path| above(path)))
        .chain(DIRECTORIES.iter().copied());
    for directory in directories {
        expected.insert(directory.to_owned(), (DIRECTORY | 0o755, Vec::new()));
    }
    for file in files {
        let content = std::fs::read(&file.source).expect("a file");
        let before = expected.insert(file.to.clone(), (REGULAR | file.mode, content));
        assert_eq!(before, None, "{} is there twice", file.to);
    }
    expected
}

/// Asserts that a package has every file of the list, and nothing else.
pub(crate) fn check(package: &[u8], places: &Places) {
    let archive = xar::read(package);
    let names: Vec<&str> = archive.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Distribution",
            "codex-network-proxy.pkg/Bom",
            "codex-network-proxy.pkg/PackageInfo",
            "codex-network-proxy.pkg/Payload",
            "codex-network-proxy.pkg/Scripts",
        ]
    );
    let payload = cpio::read(&archive["codex-network-proxy.pkg/Payload"]);
    let expected = expected(places);
    for (path, entry) in &payload {
        let (mode, content) = expected
            .get(path)
            .unwrap_or_else(|| panic!("{path} is not in the list"));
        assert_eq!(format!("{:o}", entry.mode), format!("{mode:o}"), "{path}");
        assert_eq!((entry.user, entry.group), (0, 0), "{path}");
        assert!(entry.content == *content, "{path} has another content");
    }
    assert_eq!(payload.len(), expected.len(), "something is missing");

    // The installer takes owners and modes from here.
    let bill = bom::read(&archive["codex-network-proxy.pkg/Bom"]);
    assert_eq!(
        bill.keys().collect::<Vec<_>>(),
        payload.keys().collect::<Vec<_>>()
    );
    for (path, billed) in bill {
        let entry = &payload[&path];
        assert_eq!(
            (billed.mode, billed.user, billed.group),
            (entry.mode, 0, 0),
            "{path}"
        );
        assert_eq!(billed.size as usize, entry.content.len(), "{path}");
    }
}

#[test]
fn every_file_of_the_list_is_in_the_package_and_nothing_else() {
    let scene = Scene::new();
    check(&scene.package(), &scene.places());
}

#[test]
fn nothing_stands_where_a_mac_has_links_to_directories() {
    for path in CONTENTS
        .iter()
        .map(|line| line.to)
        .chain(DIRECTORIES.iter().copied())
    {
        for link in ["etc", "var", "tmp"] {
            assert_ne!(path.split('/').next(), Some(link), "{path}");
        }
    }
}

#[test]
fn the_property_lists_name_a_program_that_is_there_and_may_be_run() {
    let scene = Scene::new();
    let archive = xar::read(&scene.package());
    let payload = cpio::read(&archive["codex-network-proxy.pkg/Payload"]);
    let mut lists = 0;
    for (path, list) in &payload {
        if !path.starts_with("Library/LaunchDaemons/") || list.content.is_empty() {
            continue;
        }
        lists += 1;
        // launchd ignores a list that users other than root could have written.
        assert_eq!(list.mode, REGULAR | 0o644, "{path}");
        let text = std::str::from_utf8(&list.content).expect("XML");
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("<key>{key}</key>")).expect(key);
            let (_, rest) = rest.split_once("<string>").expect("a text");
            rest.split_once("</string>").expect("its end").0
        };
        assert_eq!(
            format!("Library/LaunchDaemons/{}.plist", after("Label")),
            *path
        );
        let program = after("ProgramArguments");
        // Programs of the system exist.
        if program == "/bin/launchctl" {
            continue;
        }
        let program = program.strip_prefix('/').expect("an absolute path");
        assert_eq!(payload[program].mode, REGULAR | 0o755, "{program}");
        // Root runs it, so no other user may be able to replace it. That is not guaranteed below
        // /usr/local/bin.
        assert!(program.starts_with("usr/local/libexec/"), "{program}");
    }
    assert_eq!(lists, 2);
}

#[test]
fn the_names_that_code_scripts_and_lists_share_are_the_same() {
    let read = |path: &str| std::fs::read_to_string(tree().join(path)).expect(path);
    let user = "_codexnetproxy";
    let scripts = [
        "packaging/macos/scripts/preinstall",
        "packaging/macos/scripts/postinstall",
        "packaging/macos/uninstall.sh",
    ];
    for script in scripts {
        assert!(
            read(script).contains(&format!("\nuser={user}\n")),
            "{script}"
        );
    }
    assert!(read("daemon/src/loader.rs").contains(&format!("DEFAULT_USER: &str = \"{user}\"")));
    let label = macos_package::archive::IDENTIFIER;
    for script in &scripts[1..] {
        assert!(
            read(script).contains(&format!("\nlabel={label}\n")),
            "{script}"
        );
    }
    assert!(read("daemon/src/args.rs").contains(&format!("label == \"{label}\"")));
    let list = read(&format!("launchd/{label}.plist"));
    let socket = list
        .split_once("<key>SockPathName</key>")
        .and_then(|(_, rest)| rest.split('>').nth(1)?.split('<').next())
        .expect("a path");
    assert!(read("crates/control/src/socket_path.rs").contains(&format!("\"{socket}\"")));
    let minimum = format!(
        "MACOSX_DEPLOYMENT_TARGET={}.{}\n",
        macos_package::program::MINIMUM_OS.0,
        macos_package::program::MINIMUM_OS.1
    );
    assert!(read("packaging/macos/build").contains(&minimum));
}

#[test]
fn the_scripts_are_in_the_package_and_the_installer_runs_them() {
    let scene = Scene::new();
    let archive = xar::read(&scene.package());
    let scripts = cpio::read(&archive["codex-network-proxy.pkg/Scripts"]);
    let info = String::from_utf8(archive["codex-network-proxy.pkg/PackageInfo"].clone());
    let info = info.expect("XML");
    for name in ["preinstall", "postinstall"] {
        let script = &scripts[name];
        assert_eq!(script.mode, REGULAR | 0o755, "{name}");
        let source = tree().join("packaging/macos/scripts").join(name);
        assert_eq!(script.content, std::fs::read(source).expect("a script"));
        assert!(
            info.contains(&format!("<{name} file=\"./{name}\"")),
            "{info}"
        );
    }
    assert_eq!(scripts.len(), 3, "the directory and two scripts");
    for said in [
        "identifier=\"com.openai.codex-network-proxy\"",
        &format!("version=\"{VERSION}\""),
        "install-location=\"/\"",
        "auth=\"root\"",
        // Existing directories keep their owners.
        "overwrite-permissions=\"false\"",
        "relocatable=\"false\"",
    ] {
        assert!(info.contains(said), "{said}: {info}");
    }
    let files = cpio::read(&archive["codex-network-proxy.pkg/Payload"]).len();
    assert!(
        info.contains(&format!("numberOfFiles=\"{files}\"")),
        "{info}"
    );
}

#[test]
fn the_installer_is_told_for_which_macs_the_package_is() {
    let archive = xar::read(&Scene::new().package());
    let text = String::from_utf8(archive["Distribution"].clone()).expect("XML");
    for said in [
        "<title>codex-network-proxy</title>",
        "<os-version min=\"11.0\"/>",
        "hostArchitectures=\"x86_64,arm64\"",
        "#codex-network-proxy.pkg</pkg-ref>",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_package_is_the_same_whenever_and_wherever_it_is_made() {
    let one = Scene::new();
    let package = one.package();
    let other = Scene::new();
    for file in contents::files(&other.places()).expect("files") {
        if !file.source.starts_with(tree()) {
            let file = std::fs::File::options()
                .append(true)
                .open(file.source)
                .expect("a file");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .expect("a time");
        }
    }
    assert!(other.package() == package);
}

#[test]
fn a_file_that_is_missing_is_named() {
    let scene = Scene::new();
    let file = scene.places().made.join("completions/_proxyctl");
    std::fs::remove_file(&file).expect("it was there");
    assert_eq!(scene.refusal(), format!("there is no {}", file.display()));
}

#[test]
fn what_is_no_man_page_is_not_taken_for_one() {
    let scene = Scene::new();
    let pages = scene.places().made.join("man");
    let stray = pages.join("proxyctl.html");
    scene.write(&stray, b"");
    assert!(scene.refusal().contains("proxyctl.html is not a man page"));
    std::fs::remove_dir_all(&pages).expect("it was there");
    std::fs::create_dir(&pages).expect("an empty one");
    assert!(scene.refusal().contains("no man page in"));
}
