//! Commands that answer questions (SPEC Q6).

use super::*;

#[test]
fn q6_a_command_answers_the_questions_of_a_follower() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("60s"));
    let session = Session::open(&daemon);
    let command = "read -r question; case \"$question\" in \
                   *'\"host\":\"blocked.test\"'*'\"command\":\"curl\"'*) exit 3;; \
                   *'\"host\":\"blocked.test\"'*) echo 1h any-port;; \
                   *) echo once; exit 1;; esac";
    let _follower = Follower::start_with(&daemon, &["--exec", command]);
    let answered = |host: &'static str, wanted: &dyn Fn(&Response) -> bool| {
        let answer = || {
            let response = get(&session, host, port);
            wanted(&response).then_some(())
        };
        poll(TIMEOUT, answer).expect(host);
    };
    answered("blocked.test", &|response| response.status == 200);
    let grants = proxyctl_json(&daemon, &["grants"]);
    assert_eq!(
        (&grants[0]["scope"], &grants[0]["port"]),
        (&"time".into(), &Value::Null)
    );
    answered("other.test", &|response| {
        response.status == 403 && response.json().get("approval_id").is_some()
    });
    let refused = get(&session, "other.test", port).json();
    assert_eq!(refused["decision"], "deny");
}
