//! The kernel kills a worker because the memory is used up.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, leaves_nothing_behind};
use crate::load::failures;
use crate::scene::Scene;

/// Less than a worker takes for its next connections.
const LIMIT: &str = "16384";

/// A group of processes with little memory, which ends with this value.
struct Group(PathBuf);

impl Group {
    /// `None` where the kernel keeps the memory controller elsewhere.
    fn new() -> Option<Self> {
        let groups = Path::new("/sys/fs/cgroup/memory");
        if !groups.join("memory.limit_in_bytes").exists() {
            let line = "cannot run here: faults::memory: needs the memory controller of control groups, version 1\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let group = groups.join(format!("codex-network-proxy-test-{}", std::process::id()));
        fs::create_dir(&group).expect("root makes any group");
        fs::write(group.join("memory.limit_in_bytes"), LIMIT).expect("root limits any group");
        Some(Self(group))
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root moves any process");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed when the last process has ended.
        poll(TIMEOUT, || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn l9_a_worker_that_the_kernel_kills_for_its_memory_is_replaced() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    // The service manager must not stop the whole service for it.
    assert_eq!(scene.show("OOMPolicy"), "continue");
    let monitor = scene.monitor();
    let traffic = Traffic::start(&scene, &origin);
    for _ in 0..3 {
        let Some(group) = Group::new() else {
            return;
        };
        let worker = scene.wait_for_worker(None);
        group.add(scene.machine().outside(worker));
        poll(TIMEOUT, || (!scene.is_alive(worker)).then_some(()))
            .unwrap_or_else(|| panic!("it is not killed\n{}", scene.log()));
        let gone = Instant::now();
        scene.wait_for_worker(Some(worker));
        traffic.recovers(&scene, gone);
        traffic.continues();
    }
    scene.wait_for_message("the worker is gone (signal: 9 (SIGKILL))");
    let lost = failures(&traffic.finish(&scene)).len();
    assert!(lost <= 3 * 2, "{lost} requests were lost");
    assert_eq!(scene.monitor(), monitor);
    leaves_nothing_behind(&scene);
}
