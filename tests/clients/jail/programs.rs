//! The table of programs that fetch something over HTTP.
//!
//! Each runs in jails of each user, with the service, with the proxy variables and without them, and with a private
//! proxy: it reaches the allowed host, and it says that it was refused the blocked one. A jail has no
//! capabilities, so no program can `chroot` in it, and user namespaces, which a jail needs, cannot be made in
//! a chroot. So `apt-get` runs with directories of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin, Request};
use e2e::program::{Program, installed};
use nix::unistd::User;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use super::{Installed, Jail, Proxy, Variables, for_users, users};
use crate::client::{CONTENT, Scheme, sha256};
use crate::{cargo, git, npm, pip};

/// A program of the table.
struct Row {
    program: &'static str,
    /// The Debian package that has it, or the place in this tree.
    from: &'static str,
    /// A script that fetches from `$URL`, which is `http://$HOST:$PORT`, and shows the content. It fails if it
    /// cannot fetch. `$TOOLS` is a directory with the programs of this tree.
    script: &'static str,
    /// The words for its user when it is refused, one of these: by the HTTP door, and without proxy variables.
    refused: [&'static [&'static str]; 2],
    /// Options of `proxyctl run`.
    options: &'static [&'static str],
}

/// The body of H5, which a program shows.
const BODY: &[&str] = &[r#""reason":"not_allowed""#];

const TABLE: [Row; 14] = [
    Row {
        program: "curl",
        from: "curl",
        script: "curl -sS --fail-with-body $URL/file",
        refused: [BODY, &["Could not resolve host: blocked.test"]],
        options: &[],
    },
    Row {
        program: "wget",
        from: "wget",
        script: "wget --tries=1 -O - $URL/file",
        refused: [
            &["ERROR 403: Forbidden"],
            &["unable to resolve host address"],
        ],
        options: &[],
    },
    Row {
        program: "git",
        from: "git",
        script: "git clone $URL/tiny.git cloned && cat cloned/file",
        refused: [
            &["The requested URL returned error: 403"],
            &["Could not resolve host: blocked.test"],
        ],
        options: &[],
    },
    Row {
        program: "python3",
        from: "pip of .ci/clients, in the python3 of the system",
        script: "PYTHONPATH=$TOOLS/pip python3 -m pip install -vv --no-deps --retries=0 --no-input \
                 --disable-pip-version-check --trusted-host $HOST --index-url $URL/simple/ --target got tiny==1.0 \
                 && cat got/tiny.py",
        refused: [
            &["403 Client Error: Forbidden"],
            &["Name or service not known"],
        ],
        options: &[],
    },
    Row {
        program: "npm",
        from: "npm",
        script: "echo {} >package.json && npm install tiny@1.0.0 --fetch-retries=0 --no-audit --no-fund \
                 --no-update-notifier --registry $URL/ && cat node_modules/tiny/index.js",
        refused: [&["403 Forbidden"], &["ENOTFOUND"]],
        options: &[],
    },
    Row {
        program: "cargo",
        from: "the Rust toolchain",
        script: "mkdir src home && cp $TOOLS/user.toml Cargo.toml && : >lib.rs && CARGO_HOME=$PWD/home \
                 CARGO_NET_RETRY=0 CARGO_REGISTRIES_TEST_INDEX=sparse+$URL/index/ cargo fetch --color=never \
                 && cat home/registry/src/*/tiny-1.0.0/src/lib.rs",
        refused: [&["got 403"], &["Could not resolve host: blocked.test"]],
        options: &[],
    },
    Row {
        program: "go",
        from: "golang-go",
        script: "GOPROXY=$URL/go GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-modcacherw \
                 go mod download allowed.test/tiny@v1.0.0 && cat go/pkg/mod/allowed.test/tiny@v1.0.0/tiny.go",
        refused: [&["403 Forbidden"], &["no such host"]],
        options: &[],
    },
    Row {
        program: "a program in Go",
        from: "tests/clients/go",
        script: "$TOOLS/fetch $URL/file GET",
        refused: [BODY, &["no such host"]],
        options: &[],
    },
    Row {
        program: "java",
        from: "default-jdk-headless",
        // Java reads no variable.
        script: "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp $TOOLS Get $URL/file",
        refused: [&["UnknownHostException: blocked.test"]; 2],
        options: &[],
    },
    Row {
        program: "node",
        from: "nodejs",
        // Versions before 24 read no variable.
        script: "node -e 'fetch(process.env.URL + \"/file\").then(async answer => { \
                 console.log(await answer.text()); process.exitCode = answer.ok ? 0 : 1; \
                 }).catch(error => { console.error(error); process.exitCode = 1; })'",
        refused: [&["ENOTFOUND", BODY[0]], &["ENOTFOUND"]],
        options: &[],
    },
    Row {
        program: "a static program in C",
        from: "tests/clients/jail/get.c",
        script: "$TOOLS/get $HOST $PORT GET /file",
        refused: [&["cannot find blocked.test"]; 2],
        options: &[],
    },
    Row {
        program: "apt-get",
        from: "apt",
        // As root, apt becomes the user _apt, whom a jail does not have.
        script: r#"mkdir -p apt/etc/apt.conf.d apt/etc/preferences.d apt/lib/lists/partial apt/cache/archives/partial
            : >apt/status; echo "deb [trusted=yes] $URL/debian ./" >apt/etc/sources.list
            export APT_CONFIG=$PWD/apt/config
            printf '%s "%s";\n' Dir "$PWD/apt" Dir::Etc etc Dir::State lib Dir::State::status "$PWD/apt/status" \
                Dir::Cache cache APT::Sandbox::User root Acquire::Retries 0 >apt/config
            apt-get update -eany && apt-cache show tiny"#,
        refused: [&["403  Forbidden"], &["Could not resolve 'blocked.test'"]],
        options: &[],
    },
    Row {
        program: "bash",
        from: "bash",
        script: r#"exec bash -c 'exec 3<>/dev/tcp/$HOST/$PORT && printf "GET /file HTTP/1.0\r\n\r\n" >&3 && cat <&3'"#,
        refused: [&["blocked.test: Name or service not known"]; 2],
        options: &[],
    },
    Row {
        program: "chromium",
        from: "chromium",
        // It speaks HTTP to the SOCKS5 door, since it takes ALL_PROXY first and does not know its scheme.
        script: "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                 --disable-background-networking --disable-component-update --user-data-dir=$PWD/profile \
                 --dump-dom $URL/file >page; cat page; grep -q 'brought home' page",
        // Without a network interface besides loopback, it explains a name without an address so.
        refused: [
            BODY,
            &["ERR_INTERNET_DISCONNECTED", "ERR_NAME_NOT_RESOLVED"],
        ],
        // It does not start without them.
        options: &["--allow-unix-sockets"],
    },
];

#[test]
fn j6_real_programs_with_a_service() {
    let config = for_users(&Config::example()).set("daemon.admin", "show_sessions", "true");
    let users = users();
    let Some(scene) = Scene::new(&users, &config) else {
        return;
    };
    let daemon = Daemon::start(&config);
    scene.run(
        &users,
        Proxy::Service(&daemon),
        &[Variables::Set, Variables::Unset],
    );
    let blocked = daemon.blocked();
    // Chromium looks for hosts of its own too.
    let refused = |protocol| {
        let mut entries = blocked
            .iter()
            .filter(|entry| entry["host"] == "blocked.test");
        let found = entries.find(|entry| entry["protocol"] == protocol);
        let entry = found.unwrap_or_else(|| panic!("no {protocol} in {blocked:#?}"));
        assert_eq!(entry["reason"], "not_allowed", "{entry}");
        assert!(entry["session"].is_string(), "{entry}");
    };
    refused("dns");
    refused("http");
}

#[test]
fn j3_j6_real_programs_with_a_private_proxy() {
    let config = Config::example();
    let users = users();
    let Some(scene) = Scene::new(&users, &config) else {
        return;
    };
    scene.run(&users, Proxy::Private, &[Variables::Unset]);
}

/// The origin of the table, and the programs of this tree.
struct Scene {
    origin: Origin,
    installed: Installed,
    tools: String,
}

impl Scene {
    /// `None` without users.
    fn new(users: &[Option<User>], config: &Config) -> Option<Self> {
        if users.is_empty() {
            return None;
        }
        let installed = Installed::new(config);
        let tools = installed.path().join("tools");
        fs::create_dir(&tools).expect("a directory of ours");
        prepare(&tools);
        Some(Self {
            origin: Origin::start(serve()),
            installed,
            tools: tools.into_os_string().into_string().expect("a plain path"),
        })
    }

    /// Runs the table, as many programs at a time as there are cores.
    fn run(&self, users: &[Option<User>], proxy: Proxy<'_>, variables: &[Variables]) {
        let mut runs = Vec::new();
        for row in &TABLE {
            for user in users {
                if user.is_none() || has_for_all(row) {
                    let jail = |variables| Jail {
                        installed: &self.installed,
                        user: user.as_ref(),
                        proxy,
                        variables,
                    };
                    runs.extend(variables.iter().map(|variables| (row, jail(*variables))));
                }
            }
        }
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some((row, jail)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.lock().extend(self.check(row, *jail));
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(work);
            }
        });
        let failures = failures.into_inner();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        for request in self.origin.requests() {
            assert!(!request.authority().starts_with("blocked"), "{request:?}");
        }
    }

    /// The failure of a program in a jail, if it fails.
    fn check(&self, row: &Row, jail: Jail<'_>) -> Option<String> {
        let port = self.origin.addr().port().to_string();
        let fetch = |host: &str| {
            let url = self.origin.url(host, "");
            let variables = [
                ("URL", url.as_str()),
                ("HOST", host),
                ("PORT", &port),
                ("TOOLS", &self.tools),
            ];
            jail.run(row.options, &variables, row.script)
        };
        let wrong = |what: &str, run| {
            let user = jail.user.map_or("the tests' user", |user| &user.name);
            Some(format!(
                "{} (from {}), variables {:?}, {user}: {what}: {run:#?}",
                row.program, row.from, jail.variables
            ))
        };
        let run = fetch("allowed.test");
        if run.code != Some(0) || !run.stdout.contains(CONTENT) {
            return wrong("does not reach the allowed host", run);
        }
        let run = fetch("blocked.test");
        let shown = |words: &&&str| run.stdout.contains(**words) || run.stderr.contains(**words);
        let words = match jail.variables {
            Variables::Set => row.refused[0],
            Variables::Unset => row.refused[1],
        };
        if run.code == Some(0) || run.stdout.contains(CONTENT) || !words.iter().any(|w| shown(&w)) {
            return wrong("is not refused in these words", run);
        }
        None
    }
}

/// Whether every user may execute the program of a row. If not, one line says so.
fn has_for_all(row: &Row) -> bool {
    row.program.contains(' ') || has(Need::ForAll(row.program))
}

/// Makes the programs of this tree, for all users.
fn prepare(tools: &Path) {
    compile(tools);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java/Get.java");
    Program::new("javac")
        .arg("-d")
        .args([tools, &source])
        .run()
        .succeeded();
    fs::copy(installed("go/fetch"), tools.join("fetch")).expect("a new file");
    fs::write(tools.join("user.toml"), cargo::USER).expect("a new file");
    let find = "import os, pip; print(os.path.dirname(pip.__file__))";
    let pip = Program::new(installed("venv/bin/python")).args(["-c", find]);
    let pip = pip.run().succeeded().stdout.trim().to_owned();
    fs::create_dir(tools.join("pip")).expect("a directory of ours");
    Program::new("cp")
        .args(["-R", &pip])
        .arg(tools.join("pip"))
        .run()
        .succeeded();
}

/// Makes the static program, `get`.
pub(super) fn compile(tools: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/jail/get.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-static", "-o"])
        .args([tools.join("get"), source])
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{compiled:?}");
}

/// One server for all programs of the table.
fn serve() -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let (npm, cargo, pip) = (
        npm::registry(Scheme::Http),
        cargo::registry(Scheme::Http),
        pip::index(),
    );
    let (git, go, apt) = (git::Repository::new(), go_module(), packages());
    move |request| {
        let first = request.target.split('/').nth(1).unwrap_or_default();
        match first {
            "file" => Answer::text(CONTENT),
            "tiny.git" => git.answer(request),
            "tiny" => npm(request),
            "index" | "dl" => cargo(request),
            "simple" | "files" => pip(request),
            "go" => go(request),
            "debian" => apt(request),
            _ => Answer::status(404),
        }
    }
}

/// A module for `GOPROXY` (the Go Modules Reference, "GOPROXY protocol").
fn go_module() -> impl Fn(&Request) -> Answer {
    const MANIFEST: &str = "module allowed.test/tiny\n";
    let directory = TempDir::new().expect("a temporary directory");
    let module = directory.path().join("allowed.test/tiny@v1.0.0");
    fs::create_dir_all(&module).expect("a directory");
    fs::write(module.join("go.mod"), MANIFEST).expect("a file");
    let source = format!("// {CONTENT}\npackage tiny\n");
    fs::write(module.join("tiny.go"), source).expect("a file");
    let files = ["go.mod", "tiny.go"].map(|file| format!("allowed.test/tiny@v1.0.0/{file}"));
    let files = files.each_ref().map(String::as_str);
    let archive = archive(directory.path(), &files);
    move |request| match request.target.as_str() {
        "/go/allowed.test/tiny/@v/v1.0.0.info" => Answer::json(&json!({ "Version": "v1.0.0" })),
        "/go/allowed.test/tiny/@v/v1.0.0.mod" => Answer::text(MANIFEST),
        "/go/allowed.test/tiny/@v/v1.0.0.zip" => Answer::bytes("application/zip", &archive),
        _ => Answer::status(404),
    }
}

/// A zip archive without entries for directories, which Go refuses.
fn archive(directory: &Path, files: &[&str]) -> Vec<u8> {
    let script = "import sys, zipfile\n\
                  with zipfile.ZipFile('archive.zip', 'w') as archive:\n\
                  \x20   for name in sys.argv[1:]: archive.write(name)";
    Program::new(installed("venv/bin/python"))
        .args(["-c", script])
        .args(files)
        .current_dir(directory)
        .run()
        .succeeded();
    fs::read(directory.join("archive.zip")).expect("the archive that was just made")
}

/// A flat repository of Debian packages, with an index and no package.
fn packages() -> impl Fn(&Request) -> Answer {
    let index = format!(
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@allowed.test>\n\
         Filename: ./tiny_1.0_all.deb\nSize: 1\nSHA256: {}\nDescription: {CONTENT}\n\n",
        "0".repeat(64)
    );
    let release = format!(
        "Origin: test\nSuite: test\nDate: Wed, 01 Jan 2020 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
        sha256(index.as_bytes()),
        index.len()
    );
    move |request| match request
        .target
        .trim_start_matches("/debian/")
        .trim_start_matches("./")
    {
        "Release" => Answer::text(&release),
        "Packages" => Answer::text(&index),
        _ => Answer::status(404),
    }
}
