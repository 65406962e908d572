//! The page of the admin API in a headless Chromium (SPEC O3): it goes live, survives a reload and the end of a worker,
//! can be used by all, and shows nothing to other origins. `page/drive.cjs` drives the browser.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::process::kill_process;
use e2e::program::installed;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Chromium that shows the page. It ends with the value.
struct Browser {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    fn show(daemon: &Daemon) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/page/drive.cjs");
        installed("node/node_modules/axe-core");
        let mut process = Command::new("node")
            .arg(script)
            .arg(format!("http://{}/", daemon.admin_addr()))
            .arg(chromium())
            .env("NODE_PATH", installed("node/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        Self {
            commands: process.stdin.take(),
            answers: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
        }
    }

    /// The answer to a command of the script.
    #[track_caller]
    fn ask(&mut self, command: &str) -> Value {
        let commands = self.commands.as_mut().expect("a pipe");
        writeln!(commands, "{command}").expect("the script reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("UTF-8");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{command}: {error}: {answer}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without further commands, the script ends the browser and itself.
        drop(self.commands.take());
        let _ = self.process.wait();
    }
}

/// The path of Chromium, which the script needs.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a path");
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    let found = places.find(|place| place.exists());
    found.expect("Chromium, which .ci/clients installs")
}

#[test]
fn o3_the_page_goes_live_and_survives_a_reload_and_the_end_of_a_worker() {
    let daemon = Daemon::start(&Config::example());
    let mut browser = Browser::show(&daemon);
    browser.ask("wait live");
    assert_eq!(daemon.get("http://blocked.test/").status, 403);
    browser.ask("wait blocked.test:80");
    daemon.reload_with(&Config::example().allow("other.test"));
    browser.ask("wait 2 allow rules");
    kill_process(daemon.worker());
    browser.ask("wait the worker was restarted once");
    assert_eq!(daemon.get("http://later.test/").status, 403);
    browser.ask("wait later.test:80");
    assert_eq!(browser.ask("violations"), json!([]));
}

#[test]
fn o3_the_page_can_be_used_by_keyboard_and_on_a_phone_and_has_no_serious_finding() {
    let daemon = Daemon::start(&Config::example());
    let host = format!("{}.test", ["long"; 12].join("-and-"));
    assert_eq!(daemon.get(&format!("http://{host}/")).status, 403);
    assert_eq!(daemon.get("http://denied.test/").status, 403);
    let mut browser = Browser::show(&daemon);
    browser.ask("wait live");
    let reached = browser.ask("keys");
    assert_eq!(
        reached.as_array().expect("a list")[..3],
        ["skip", "pause", "wide"]
    );
    assert_eq!(browser.ask("axe"), json!([]));
    let folder = TempDir::new().expect("a temporary directory");
    let folder = std::env::var_os("SCREENSHOTS").map_or(folder.path().to_owned(), Into::into);
    assert_eq!(
        browser.ask(&format!("shot {}", folder.display())),
        json!([])
    );
    assert_eq!(browser.ask("violations"), json!([]));
}

#[test]
fn o3_a2_a_page_of_another_origin_sees_and_frames_nothing() {
    let daemon = Daemon::start(&Config::example());
    let other = Origin::start(|_| Answer::text("another page"));
    let mut browser = Browser::show(&daemon);
    browser.ask("wait live");
    let seen = browser.ask(&format!("other http://{}/", other.addr()));
    assert_eq!(
        (&seen["read"], &seen["events"]),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(seen["linked"], 403);
    let framed = seen["framed"].as_str().expect("text");
    assert!(!framed.contains("State"), "{framed}");
}
