//! Floods of questions (SPEC Q7).

use super::*;

#[test]
fn q7_the_sessions_of_one_user_together_leave_room_for_others() {
    let config = asking("0s").set("daemon.approvals", "max_pending", "8");
    let daemon = Daemon::start(&config);
    let follower = Follower::start(&daemon);
    let sessions: Vec<_> = (0..5).map(|_| Session::open(&daemon)).collect();
    ask(&sessions[0], "first.test", 1);
    follower.wait_for("first.test", "pending");
    let open = || {
        for session in &sessions {
            get(session, "other.test", 1);
        }
        let listed = proxyctl_json(&daemon, &["approvals"]);
        let count = listed.as_array().map_or(0, Vec::len);
        (count >= 4).then_some(count)
    };
    // Half of `max_pending`: its sessions get no fifth question, however often they try.
    assert_eq!(poll(TIMEOUT, open), Some(4));
    assert_eq!(open(), Some(4));
}

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
