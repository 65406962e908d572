//! The scripts, run on a root of the test's own with stand-ins for Apple's tools that log their
//! arguments.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::scene::tree;

const USER: &str = "Users/_codexnetproxy";
const GROUP: &str = "Groups/_codexnetproxy";
const LIBEXEC: &str = "usr/local/libexec/codex-network-proxy";
const LIST: &str = "Library/LaunchDaemons/com.openai.codex-network-proxy.plist";

/// `dscl`: a directory for each record, a file for each attribute.
const DSCL: &str = r#"
record=$MAC/directory$3
case $2 in
-read)
    [ -e "$record/$4" ] || exit 56
    # As dscl writes what is long.
    case $(cat "$record/$4") in
    *' '*) printf '%s:\n %s\n' "$4" "$(cat "$record/$4")" ;;
    *) echo "$4: $(cat "$record/$4")" ;;
    esac
    ;;
-create) mkdir -p "$record"; echo "$5" >"$record/$4" ;;
-delete) rm -r "$record" ;;
-list)
    for entry in "$record"/*; do
        [ -e "$entry/$4" ] || continue
        echo "$(basename "$entry")   $(cat "$entry/$4")"
    done
    ;;
*) exit 64 ;;
esac
"#;

/// `launchctl`: a file for each job that is loaded.
const LAUNCHCTL: &str = r#"
echo "launchctl $*" >>"$MAC/log"
case $1 in
print) [ -e "$MAC/jobs/${2#system/}" ] ;;
print-disabled) cat "$MAC/disabled" 2>/dev/null || true ;;
bootstrap) mkdir -p "$MAC/jobs"; touch "$MAC/jobs/$(basename "$3" .plist)" ;;
bootout) rm "$MAC/jobs/${2#system/}" ;;
esac
"#;

/// Apple's `stat -f`: owners come from the test, modes are real.
const STAT: &str = r#"
case $2 in
%Su) cat "$MAC/owner$3" 2>/dev/null || echo root ;;
%Sp) exec /usr/bin/stat -c %A "$3" ;;
esac
"#;

struct Mac {
    directory: TempDir,
}

impl Mac {
    /// A Mac that has one user and one group of Apple's.
    fn new() -> Self {
        let mac = Self {
            directory: TempDir::new().expect("a directory"),
        };
        for (name, body) in [
            ("dscl", DSCL),
            ("launchctl", LAUNCHCTL),
            ("stat", STAT),
            ("lsof", "[ -e \"$MAC/lsof\" ] && cat \"$MAC/lsof\"\n"),
            ("chown", "echo \"chown $*\" >>\"$MAC/log\"\n"),
            ("id", "echo 0\n"),
            (
                "pkgutil",
                "case $1 in --only-files) cat \"$MAC/receipt\" ;; esac\n",
            ),
        ] {
            mac.program(&format!("tools/{name}"), body);
        }
        mac.attribute("Users/root", "UniqueID", "0");
        mac.attribute("Users/_spotlight", "UniqueID", "89");
        mac.attribute("Groups/_spotlight", "PrimaryGroupID", "89");
        mac.copy_files();
        mac
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// A path on the volume.
    fn on(&self, path: &str) -> PathBuf {
        self.path("volume").join(path)
    }

    fn program(&self, path: &str, body: &str) {
        self.write(path, &format!("#!/bin/sh\n{body}"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// The installer's work between the scripts.
    fn copy_files(&self) {
        self.program(
            &format!("volume/{LIBEXEC}/codex-network-proxy"),
            "cat \"$0.problems\" 2>/dev/null && exit 1\nexit 0\n",
        );
        self.program(
            &format!("volume/{LIBEXEC}/proxyctl"),
            "echo \"proxyctl $*\" >>\"$MAC/log\"\n",
        );
        self.write(&format!("volume/{LIST}"), "the list");
        let resolver = LIST.replace(".plist", ".resolver.plist");
        self.write(&format!("volume/{resolver}"), "the other list");
        self.write(
            "volume/private/etc/codex-network-proxy/config.toml.default",
            "# ours",
        );
    }

    fn attribute(&self, record: &str, name: &str, value: &str) {
        self.write(&format!("directory/{record}/{name}"), &format!("{value}\n"));
    }

    fn of(&self, record: &str, name: &str) -> Option<String> {
        let value = fs::read_to_string(self.path(&format!("directory/{record}/{name}"))).ok()?;
        Some(value.trim_end().to_owned())
    }

    /// Runs a script as the installer does, which names the volume.
    fn script(&self, name: &str, volume: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("tools").display());
        Command::new("sh")
            .arg(tree().join("packaging/macos").join(name))
            .args(["/tmp/x.pkg", "/", volume])
            .env("CODEX_NETWORK_PROXY_ROOT", self.path("volume"))
            .env("PATH", path)
            .env("MAC", self.directory.path())
            .output()
            .expect("a shell")
    }

    fn before(&self) -> Output {
        self.script("scripts/preinstall", "/")
    }

    fn after(&self) -> String {
        told(&self.script("scripts/postinstall", "/"))
    }

    /// The calls of the tools since the last time.
    fn log(&self) -> Vec<String> {
        let path = self.path("log");
        let log = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        log.lines()
            .filter(|line| !line.starts_with("launchctl print"))
            .map(|line| line.replace(&self.path("volume").display().to_string(), ""))
            .collect()
    }
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told.lines().count(), 1, "{told}");
    told
}

#[test]
fn a_fresh_installation_makes_a_user_that_is_nobody_and_starts_the_service() {
    let mac = Mac::new();
    told(&mac.before());
    assert_eq!(mac.after(), "");
    assert_eq!(mac.of(USER, "UserShell").as_deref(), Some("/usr/bin/false"));
    assert_eq!(
        mac.of(USER, "NFSHomeDirectory").as_deref(),
        Some("/var/empty")
    );
    assert_eq!(mac.of(USER, "Password").as_deref(), Some("*"));
    assert_eq!(mac.of(USER, "IsHidden").as_deref(), Some("1"));
    assert_eq!(mac.of(USER, "UniqueID").as_deref(), Some("499"));
    assert_eq!(mac.of(USER, "PrimaryGroupID").as_deref(), Some("499"));
    assert_eq!(mac.of(GROUP, "PrimaryGroupID").as_deref(), Some("499"));
    let own = mac.on("private/etc/codex-network-proxy/config.toml");
    assert_eq!(fs::read_to_string(own).expect("a copy"), "# ours");
    for program in ["codex-network-proxy", "proxyctl"] {
        assert_eq!(
            fs::canonicalize(mac.on(&format!("usr/local/bin/{program}"))).expect("a link"),
            fs::canonicalize(mac.on(&format!("{LIBEXEC}/{program}"))).expect("a program")
        );
    }
    let resolver = LIST.replace(".plist", ".resolver.plist");
    assert_eq!(
        mac.log()[1..],
        [
            format!("launchctl bootstrap system /{LIST}"),
            format!("launchctl bootstrap system /{resolver}")
        ]
    );
}

#[test]
fn an_upgrade_leaves_the_sockets_with_launchd_and_the_configuration_alone() {
    let mac = Mac::new();
    mac.after();
    mac.log();
    mac.write(
        "volume/private/etc/codex-network-proxy/config.toml",
        "# theirs",
    );
    mac.copy_files();
    told(&mac.before());
    assert_eq!(mac.after(), "");
    assert_eq!(
        mac.log(),
        ["launchctl kill SIGTERM system/com.openai.codex-network-proxy"]
    );
    let own = mac.on("private/etc/codex-network-proxy/config.toml");
    assert_eq!(fs::read_to_string(own).expect("it"), "# theirs");
    assert_eq!(mac.of(USER, "UniqueID").as_deref(), Some("499"));
}

#[test]
fn an_upgrade_with_another_property_list_has_launchd_read_it() {
    let mac = Mac::new();
    mac.after();
    mac.log();
    mac.write(&format!("volume/{LIST}"), "another list");
    mac.after();
    assert_eq!(
        mac.log(),
        [
            "launchctl bootout system/com.openai.codex-network-proxy".to_owned(),
            format!("launchctl bootstrap system /{LIST}")
        ]
    );
}

#[test]
fn an_upgrade_over_a_broken_configuration_lets_the_old_program_go_on_and_says_why() {
    let mac = Mac::new();
    mac.after();
    mac.log();
    mac.write(
        &format!("volume/{LIBEXEC}/codex-network-proxy.problems"),
        "error: line 3",
    );
    let told = mac.after();
    assert!(told.contains("the old program keeps running"), "{told}");
    assert!(told.contains("error: line 3"), "{told}");
    assert!(mac.log().is_empty());
}

#[test]
fn who_holds_a_port_is_told_at_the_first_installation() {
    let mac = Mac::new();
    mac.write("lsof", "p42\ncsquid\n");
    let told = mac.after();
    assert!(
        told.contains("port 3128 is taken (lsof: p42 csquid )"),
        "{told}"
    );
}

#[test]
fn a_service_that_is_disabled_stays_so() {
    let mac = Mac::new();
    for said in ["disabled", "true"] {
        mac.write(
            "disabled",
            &format!("\t\"com.openai.codex-network-proxy\" => {said}\n"),
        );
        let told = mac.after();
        assert!(told.contains("disabled and stays so"), "{told}");
        assert_eq!(
            mac.log()
                .iter()
                .filter(|line| line.contains("bootstrap"))
                .count(),
            0
        );
    }
}

#[test]
fn another_volume_is_refused() {
    let mac = Mac::new();
    let told = refused(&mac.script("scripts/preinstall", "/Volumes/Other"));
    assert!(told.contains("not /Volumes/Other"), "{told}");
}

#[test]
fn a_number_is_taken_that_nobody_has() {
    let mac = Mac::new();
    mac.attribute("Users/a", "UniqueID", "499");
    mac.attribute("Groups/b", "PrimaryGroupID", "498");
    mac.after();
    assert_eq!(mac.of(GROUP, "PrimaryGroupID").as_deref(), Some("497"));
    assert_eq!(mac.of(USER, "UniqueID").as_deref(), Some("497"));
}

#[test]
fn an_interrupted_installation_is_completed() {
    let all = {
        let mac = Mac::new();
        mac.after();
        attributes(&mac)
    };
    assert_eq!(all.len(), 10, "{all:?}");
    for missing in &all {
        let mac = Mac::new();
        mac.after();
        fs::remove_file(mac.path(&format!("directory/{missing}"))).expect("it was there");
        told(&mac.before());
        mac.after();
        assert_eq!(attributes(&mac), all);
        assert_eq!(
            mac.of(USER, "PrimaryGroupID"),
            mac.of(GROUP, "PrimaryGroupID"),
            "{missing}"
        );
    }
}

fn attributes(mac: &Mac) -> Vec<String> {
    let mut found = Vec::new();
    for record in [USER, GROUP] {
        for entry in fs::read_dir(mac.path(&format!("directory/{record}"))).expect("a record") {
            let name = entry.expect("an attribute").file_name();
            found.push(format!("{record}/{}", name.display()));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn a_user_of_that_name_that_could_log_in_is_refused() {
    for (record, name, value) in [
        (USER, "UserShell", "/bin/zsh"),
        (USER, "UserShell", "/bin/a shell"),
        (USER, "NFSHomeDirectory", "/Users/me"),
        (USER, "UniqueID", "501"),
        (USER, "UniqueID", "0"),
        (USER, "UniqueID", "-2"),
        (GROUP, "PrimaryGroupID", "0"),
        (GROUP, "PrimaryGroupID", "20000"),
    ] {
        let mac = Mac::new();
        mac.attribute(record, name, value);
        let told = refused(&mac.before());
        assert!(told.contains(name) && told.contains(value), "{told}");
        assert!(told.contains("remove or rename it"), "{told}");
    }
}

#[test]
fn a_user_that_the_package_made_is_taken_again() {
    let mac = Mac::new();
    mac.after();
    told(&mac.before());
}

#[test]
fn directories_that_others_could_write_to_are_refused() {
    for directory in [
        "usr/local",
        "usr/local/libexec",
        LIBEXEC,
        "Library/LaunchDaemons",
        "private/etc/codex-network-proxy",
    ] {
        let mac = Mac::new();
        let path = mac.on(directory);
        mac.write(&format!("owner{}", path.display()), "alice\n");
        let told = refused(&mac.before());
        assert!(told.contains("belongs to alice"), "{told}");
        assert!(told.contains(&path.display().to_string()), "{told}");

        for mode in [0o775, 0o757] {
            let mac = Mac::new();
            let path = mac.on(directory);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let told = refused(&mac.before());
            assert!(told.contains("others than root may write"), "{told}");
        }

        let mac = Mac::new();
        let path = mac.on(directory);
        fs::rename(&path, mac.path("elsewhere")).expect("it moves");
        symlink(mac.path("elsewhere"), &path).expect("a link");
        assert!(refused(&mac.before()).contains("symbolic link"));
    }
}

#[test]
fn uninstalling_takes_away_what_was_installed_and_purging_the_rest() {
    for purge in [false, true] {
        let mac = Mac::new();
        mac.after();
        mac.log();
        mac.write(
            "receipt",
            &format!("{LIST}\n{LIBEXEC}/codex-network-proxy\n{LIBEXEC}/proxyctl\nprivate/etc/codex-network-proxy/config.toml.default\n"),
        );
        mac.write("volume/private/var/db/codex-network-proxy/ca.pem", "");
        mac.write(
            "volume/Library/Application Support/codex-network-proxy/x.crt",
            "",
        );
        // A user who owns the directory can put another program there, which root must not run.
        let planted = mac.on("usr/local/bin/proxyctl");
        fs::remove_file(&planted).expect("a link");
        mac.program(
            "volume/usr/local/bin/proxyctl",
            "echo planted >>\"$MAC/log\"\n",
        );
        let mut command = Command::new("sh");
        command
            .arg(tree().join("packaging/macos/uninstall.sh"))
            .args(purge.then_some("--purge"))
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", mac.path("tools").display()),
            )
            .env("MAC", mac.directory.path())
            .env("CODEX_NETWORK_PROXY_ROOT", mac.on(""));
        told(&command.output().expect("a shell"));
        assert_eq!(
            mac.log(),
            [
                "launchctl bootout system/com.openai.codex-network-proxy.resolver",
                "launchctl bootout system/com.openai.codex-network-proxy",
                "proxyctl ca uninstall"
            ]
        );
        assert!(planted.exists(), "it is not ours");
        assert!(!mac.on(LIST).exists());
        assert!(!mac.on(LIBEXEC).exists());
        assert!(fs::symlink_metadata(mac.on("usr/local/bin/codex-network-proxy")).is_err());
        let kept = !purge;
        assert_eq!(
            mac.on("private/etc/codex-network-proxy/config.toml")
                .exists(),
            kept
        );
        assert_eq!(
            mac.on("private/var/db/codex-network-proxy/ca.pem").exists(),
            kept
        );
        assert_eq!(mac.path(&format!("directory/{USER}")).exists(), kept);
        assert_eq!(mac.path(&format!("directory/{GROUP}")).exists(), kept);
    }
}
