//! A booted Debian 12 in a container, with the units and the binary of this tree installed like a
//! package. All tests of a run share it, and it ends with them.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use e2e::process::find_field;
use e2e::program::{Program, Run};
use e2e::wait::{TIMEOUT, poll};
use nix::sched::{CloneFlags, setns};

const UNITS: [&str; 6] = [
    "codex-network-proxy.service",
    "codex-network-proxy-handover.service",
    "codex-network-proxy-http.socket",
    "codex-network-proxy-socks5.socket",
    "codex-network-proxy-admin.socket",
    "codex-network-proxy-control.socket",
];

/// The machine, or why it could not be booted.
static MACHINE: LazyLock<Result<Machine, String>> = LazyLock::new(Machine::boot);

pub(crate) struct Machine {
    /// The id of the machine's first process in the namespace of this process.
    leader: u32,
    /// The machine ends when this pipe closes, at the latest when this process ends.
    _keep: ChildStdin,
}

/// The one machine of this run, booted when it is first asked for.
pub(crate) fn machine() -> &'static Machine {
    MACHINE.as_ref().unwrap_or_else(|why| panic!("{why}"))
}

/// The root of the tree.
pub(crate) fn tree() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests stand in the tree")
}

impl Machine {
    fn boot() -> Result<Self, String> {
        let cache = tree().join("target/system");
        let root = cache.join("root");
        if !nix::unistd::Uid::effective().is_root() {
            return Err("only root can boot a machine: run these tests as root".to_owned());
        }
        if !root.join("etc/installed-for-tests").exists() {
            return Err(format!("{} is missing: run .ci/system", root.display()));
        }
        let console = cache.join("console.log");
        let (mut starter, keep) = start(&root, &console)?;
        let leader = poll(TIMEOUT, || {
            let ended = starter.try_wait().is_ok_and(|status| status.is_some());
            if ended {
                return Some(None);
            }
            leader(starter.id()).map(Some)
        });
        let trouble = |what: &str| {
            let logged = fs::read_to_string(&console).unwrap_or_default();
            format!("{what}; run .ci/system if something is missing; it said:\n{logged}")
        };
        let leader = leader
            .flatten()
            .ok_or_else(|| trouble("the machine does not start"))?;
        let machine = Self {
            leader,
            _keep: keep,
        };
        poll(TIMEOUT, || {
            let run = machine.run(["systemctl", "is-system-running"]);
            ["running", "degraded"]
                .contains(&run.stdout.trim())
                .then_some(())
        })
        .ok_or_else(|| trouble("the machine does not finish booting"))?;
        machine.install();
        Ok(machine)
    }

    /// Runs a command in the machine.
    pub(crate) fn run<'a>(&self, command: impl IntoIterator<Item = &'a str>) -> Run {
        Program::new("nsenter")
            .arg(format!("--target={}", self.leader))
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"])
            .arg("--")
            .args(command)
            .deadline(Duration::from_secs(90))
            .run()
    }

    /// The path of a machine's file from outside. The path must not contain absolute links.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    /// Writes a file in the machine that all its users can read.
    pub(crate) fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("root makes any folder");
        let mut file = File::create(&path).expect("root writes any file");
        file.write_all(content.as_ref())
            .expect("there is room in memory");
    }

    /// Moves the calling thread, and those that it starts from now on, into the machine's network.
    pub(crate) fn enter_network(&self) {
        let network =
            File::open(format!("/proc/{}/ns/net", self.leader)).expect("the machine runs");
        setns(network, CloneFlags::CLONE_NEWNET).expect("root enters any network");
    }

    /// The id outside of a process in the machine.
    pub(crate) fn outside(&self, inside: u32) -> u32 {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.leader);
        processes()
            .find(|pid| {
                namespace(*pid) == ours
                    && field(*pid, "NSpid").is_some_and(|ids| ids.ends_with(&format!("\t{inside}")))
            })
            .unwrap_or_else(|| panic!("there is no process {inside} in the machine"))
    }

    /// Installs all files like a package, without one.
    pub(crate) fn install(&self) {
        let shipped = |name: &str| {
            let path = tree().join("systemd").join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        for unit in UNITS {
            self.write(&format!("/usr/lib/systemd/system/{unit}"), shipped(unit));
        }
        for (name, place) in [
            ("sysusers", "sysusers.d/codex-network-proxy.conf"),
            ("tmpfiles", "tmpfiles.d/codex-network-proxy.conf"),
            (
                "preset",
                "systemd/system-preset/50-codex-network-proxy.preset",
            ),
        ] {
            let content = shipped(&format!("codex-network-proxy.{name}"));
            self.write(&format!("/usr/lib/{place}"), content);
        }
        for (program, built) in [
            ("codex-network-proxy", e2e::shipped::proxy()),
            ("proxyctl", e2e::shipped::proxyctl()),
        ] {
            let inside = format!("/usr/bin/{program}");
            self.write(&inside, fs::read(built).expect("cargo built it"));
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(self.path(&inside), executable).expect("the file is ours");
        }
        for command in [
            &["systemd-sysusers"][..],
            &["systemd-tmpfiles", "--create", "codex-network-proxy.conf"],
            &["systemctl", "daemon-reload"],
        ] {
            self.run(command.iter().copied()).succeeded();
        }
    }
}

/// Starts the script that boots the machine and keeps it until its standard input closes.
fn start(root: &Path, console: &Path) -> Result<(Child, ChildStdin), String> {
    let output =
        File::create(console).map_err(|error| format!("{}: {error}", console.display()))?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut starter = Command::new(tree().join("tests/system/machine.sh"))
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        // Ctrl-C ends the tests, and so the machine. The script must survive it to clean up.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start the machine: {error}"))?;
    let keep = starter.stdin.take().expect("a piped stdin");
    Ok((starter, keep))
}

/// The first process of the machine that descends from this one.
fn leader(starter: u32) -> Option<u32> {
    processes().find(|pid| {
        let first = field(*pid, "NSpid").is_some_and(|ids| ids.ends_with("\t1"));
        first && ancestors(*pid).any(|ancestor| ancestor == starter)
    })
}

fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| field(*pid, "PPid")?.parse().ok())
        .take_while(|pid| *pid > 1)
        .take(8)
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("there is a /proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A field of a process's status, as in `proc_pid_status(5)`.
fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    find_field(&status, name).map(str::to_owned)
}
