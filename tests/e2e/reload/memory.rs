//! The memory of a large policy is released when the policy shrinks (SPEC C7).

use e2e::daemon::{Config, Daemon};
use e2e::wait::{TIMEOUT, poll};

/// Rules of the large policy. Each takes far more than this many bytes, in either process.
const RULES: usize = 200_000;
/// The memory that a process may keep, in KiB: a part of the large policy's.
const KEPT: u64 = 10 * 1024;

fn large() -> Config {
    let hosts = (0..RULES).map(|number| format!("host-{number}.department.example.com"));
    hosts.fold(Config::example(), |config, host| config.allow(&host))
}

fn own_memory(pid: u32) -> u64 {
    e2e::process::memory(pid).anonymous
}

#[test]
fn c7_the_memory_of_a_large_policy_is_released() {
    let daemon = Daemon::start(&Config::example());
    let roles = [daemon.pid(), daemon.worker()];
    let before = roles.map(own_memory);
    let large = large();
    // Reload twice, since the allocator may behave differently the second time.
    for round in ["the first", "the second"] {
        daemon.reload_with(&large);
        let most = roles.map(own_memory);
        for (most, before) in most.iter().zip(before) {
            assert!(*most > before + KEPT, "a policy too small for this test");
        }
        daemon.reload_with(&Config::example());
        let after = || roles.map(own_memory);
        let is_back = |after: [u64; 2]| {
            let mut both = after.iter().zip(before);
            both.all(|(after, before)| *after <= before + KEPT)
        };
        poll(TIMEOUT, || is_back(after()).then_some(())).unwrap_or_else(|| {
            panic!(
                "after {round} large policy: {before:?}, then {most:?}, then {:?} KiB",
                after()
            )
        });
    }
}
