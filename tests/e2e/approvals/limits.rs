//! Floods of questions (SPEC Q7).

use super::*;

#[test]
fn q7_a_session_that_asks_about_many_hosts_has_few_questions_and_others_still_have_theirs() {
    let daemon = Daemon::start(&asking("0s").set("daemon.approvals", "max_pending", "8"));
    let (flooding, other) = (Session::open(&daemon), Session::open(&daemon));
    let follower = Follower::start(&daemon);
    ask(&flooding, "first.test", 1);
    for host in 0..500 {
        let refused = get(&flooding, &format!("h{host}.test"), 1);
        assert_eq!(refused.status, 403);
    }
    let listed = proxyctl_json(&daemon, &["approvals"]);
    // A quarter of `max_pending`.
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    ask(&other, "blocked.test", 1);
    follower.wait_for("blocked.test", "pending");
}
