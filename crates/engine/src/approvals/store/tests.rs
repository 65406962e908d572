//! Tables of events. The time is a number of seconds.

use std::net::SocketAddr;

use super::*;
use crate::session::SessionNumber;

const LIMITS: config::Approvals = config::Approvals {
    enabled: true,
    own: false,
    hold: Duration::from_secs(5),
    expire: Duration::from_secs(600),
    max_pending: 8,
};

const DEFAULT: GrantRequest = GrantRequest {
    scope: None,
    ports: GrantPorts::Asked,
};

/// A store, a clock and the clients.
struct Table {
    store: Store,
    start: Instant,
    limits: config::Approvals,
    ids: u32,
    connection: ConnectionHandle,
}

impl Table {
    /// An administrator listens.
    fn new() -> Self {
        let mut store = Store::default();
        store.enter(Audience::All);
        Self {
            store,
            start: Instant::now(),
            limits: LIMITS,
            ids: 0,
            connection: connection(1),
        }
    }

    fn at(&self, second: u64) -> Moment {
        Moment {
            at: self.start + Duration::from_secs(second),
            wall: 1000,
        }
    }

    /// A request of an asker: the id of the open question, or a word.
    fn ask(&mut self, second: u64, asker: &Asker, to: &str) -> String {
        self.ask_as(second, asker, to, Protocol::HttpConnect)
    }

    fn ask_as(&mut self, second: u64, asker: &Asker, to: &str, protocol: Protocol) -> String {
        let (now, authority) = (self.at(second), authority(to));
        self.ids += 1;
        let id = format!("q{}", self.ids);
        let ask = Ask {
            asker,
            authority: &authority,
            protocol,
            connection: &self.connection,
        };
        let new_id = || Some(Arc::from(id.as_str()));
        match self.store.consider(now, &self.limits, &ask, new_id) {
            Considered::Granted(_) => "granted".to_owned(),
            Considered::Denied(_) => "denied".to_owned(),
            Considered::NotAsked => "not asked".to_owned(),
            Considered::Open(waiter) => waiter.id.to_string(),
            Considered::Unanswered(id) => format!("{id} at once"),
        }
    }

    fn approve(
        &mut self,
        second: u64,
        id: &str,
        request: GrantRequest,
    ) -> Result<GrantInfo, ApprovalError> {
        let now = self.at(second);
        self.store.approve(now, &self.limits, id, request, &alice())
    }

    fn deny(&mut self, second: u64, id: &str) -> Result<QuestionInfo, ApprovalError> {
        let now = self.at(second);
        self.store.deny(now, &self.limits, id, &alice())
    }

    fn state(&mut self, second: u64, id: &str) -> QuestionState {
        let now = self.at(second);
        let mut questions = self.store.questions(now).into_iter();
        let found = questions.find(|question| *question.id == *id);
        found.expect("a question").state
    }
}

fn alice() -> Approver {
    Approver {
        uid: 7,
        name: Some("alice".to_owned()),
    }
}

fn session(number: u64) -> Asker {
    Asker {
        id: AskerId::Session(SessionNumber(number)),
        uid: 1000,
        user: None,
        session: Some(format!("s{number}").into()),
        command: Some("curl".into()),
    }
}

fn session_of(number: u64, uid: u32) -> Asker {
    Asker {
        uid,
        ..session(number)
    }
}

const ANY_PORT: GrantRequest = GrantRequest {
    scope: None,
    ports: GrantPorts::Any,
};

fn authority(text: &str) -> Authority {
    let (host, port) = text.rsplit_once(':').expect("a port");
    Authority {
        host: Host::parse(host).expect("a host"),
        port: port.parse().expect("a port"),
    }
}

fn connection(port: u16) -> ConnectionHandle {
    let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
    ConnectionHandle::new(end(port), end(3128))
}

fn scope(scope: GrantScope) -> GrantRequest {
    GrantRequest {
        scope: Some(scope),
        ..DEFAULT
    }
}

#[test]
fn q2_requests_for_the_same_destination_share_a_question_and_others_do_not() {
    let mut table = Table::new();
    table.limits.max_pending = 100;
    let one = session(1);
    let first = table.ask(0, &one, "a.test:443");
    assert_eq!(table.ask(0, &one, "a.test:443"), first);
    for (second, asker, to) in [
        (1, &one, "a.test:80"),
        (1, &one, "b.test:443"),
        (1, &session(2), "a.test:443"),
        (1, &Asker::of_user(1000), "a.test:443"),
    ] {
        let other = table.ask(second, asker, to);
        assert_ne!(other, first, "{to}");
        assert!(other.starts_with('q'), "{other}");
    }
    let other = table.ask_as(2, &one, "a.test:443", Protocol::Socks5Tcp);
    assert_ne!(other, first);
}

#[test]
fn q3_a_grant_covers_its_session_host_and_port_and_nothing_else() {
    let mut table = Table::new();
    table.limits.max_pending = 100;
    let one = session(1);
    let id = table.ask(0, &one, "a.test:443");
    let grant = table.approve(1, &id, DEFAULT).expect("a grant");
    assert_eq!((grant.scope, grant.until), (GrantScope::Session, None));
    assert_eq!(table.state(1, &id), QuestionState::Granted);
    assert_eq!(table.ask(2, &one, "a.test:443"), "granted");
    assert_eq!(
        table.ask_as(2, &one, "a.test:443", Protocol::Socks5Tcp),
        "granted"
    );
    for (asker, to) in [
        (&one, "a.test:80"),
        (&one, "b.a.test:443"),
        (&session(2), "a.test:443"),
        (&Asker::of_user(1000), "a.test:443"),
    ] {
        assert_ne!(table.ask(3, asker, to), "granted", "{to}");
    }
    let any = table.ask(4, &one, "b.test:443");
    table.approve(4, &any, ANY_PORT).expect("a grant");
    assert_eq!(table.ask(5, &one, "b.test:1"), "granted");
}

#[test]
fn q3_scopes_end_by_the_monotonic_clock_and_with_their_connection() {
    let mut table = Table::new();
    let user = Asker::of_user(1000);
    let id = table.ask(0, &user, "a.test:443");
    let refused = table.approve(0, &id, scope(GrantScope::Session));
    assert_eq!(refused.unwrap_err(), ApprovalError::NoSession);
    for time in [Duration::ZERO, MAX_GRANT + Duration::from_secs(1)] {
        let refused = table.approve(0, &id, scope(GrantScope::For(time)));
        assert_eq!(refused.unwrap_err(), ApprovalError::Duration);
    }
    let grant = table.approve(0, &id, DEFAULT).expect("a grant");
    assert_eq!(grant.scope, GrantScope::For(DEFAULT_GRANT));
    assert_eq!(table.ask(899, &user, "a.test:443"), "granted");
    let again = table.ask(900, &user, "a.test:443");
    assert!(again.starts_with('q'), "{again}");

    table
        .approve(901, &again, scope(GrantScope::Once))
        .expect("a grant");
    // The requests of one connection are one use, for as long as it lasts.
    assert_eq!(table.ask(902, &user, "a.test:443"), "granted");
    assert_eq!(table.ask(5000, &user, "a.test:443"), "granted");
    let first = std::mem::replace(&mut table.connection, connection(2));
    let other = table.ask(5001, &user, "a.test:443");
    assert!(other.starts_with('q'), "{other}");
    drop(first);
    let now = table.at(5002);
    assert!(table.store.grants(now).is_empty());
    // Unused, it is over with the time of a question.
    table
        .approve(5003, &other, scope(GrantScope::Once))
        .expect("a grant");
    assert_ne!(table.ask(5603, &user, "a.test:443"), "granted");
}

#[test]
fn q3_a_denial_wins_in_any_order_and_is_remembered() {
    let mut table = Table::new();
    let (one, user) = (session(1), Asker::of_user(1000));
    // Denied, then approved.
    let id = table.ask(0, &one, "a.test:443");
    let other = table.ask_as(0, &one, "a.test:443", Protocol::Socks5Tcp);
    table.deny(1, &id).expect("denied");
    assert_eq!(table.state(1, &other), QuestionState::Denied);
    let late = table.approve(1, &id, DEFAULT).unwrap_err();
    assert!(matches!(late, ApprovalError::Closed { .. }), "{late}");
    assert_eq!(table.ask(99_999, &one, "a.test:443"), "denied");
    // Approved, then denied at once: what the grant permitted ends.
    let id = table.ask(100_000, &one, "b.test:443");
    table.approve(100_000, &id, DEFAULT).expect("a grant");
    let grant = table
        .store
        .granted(table.at(100_000).at, &one, &authority("b.test:443"))
        .expect("in force");
    table.deny(100_000, &id).expect("denied");
    assert!(!grant.is_live(table.at(100_000).at));
    assert_eq!(table.state(100_000, &id), QuestionState::Denied);
    assert_eq!(table.ask(100_001, &one, "b.test:443"), "denied");
    // A wider grant does not lift it.
    let id = table.ask(100_002, &one, "b.test:80");
    table.approve(100_002, &id, ANY_PORT).expect("a grant");
    assert_eq!(table.ask(100_003, &one, "b.test:443"), "denied");
    assert_eq!(table.ask(100_003, &one, "b.test:81"), "granted");
    // A denial ends the grant for all ports that another question got.
    let (id, other) = (
        table.ask(150_000, &one, "c.test:80"),
        table.ask(150_000, &one, "c.test:443"),
    );
    table.approve(150_000, &id, ANY_PORT).expect("a grant");
    assert_eq!(table.state(150_000, &other), QuestionState::Granted);
    let grant = table
        .store
        .granted(table.at(150_000).at, &one, &authority("c.test:443"))
        .expect("in force");
    table.deny(150_001, &other).expect("denied");
    assert!(!grant.is_live(table.at(150_001).at));
    assert_eq!(table.ask(150_002, &one, "c.test:443"), "denied");
    // A client without a session is asked again when a question would have expired.
    let id = table.ask(200_000, &user, "a.test:443");
    table.deny(200_000, &id).expect("denied");
    assert_eq!(table.ask(200_599, &user, "a.test:443"), "denied");
    assert!(table.ask(200_600, &user, "a.test:443").starts_with('q'));
}

#[test]
fn q2_a_question_expires_and_its_session_abandons_it() {
    let mut table = Table::new();
    let one = session(1);
    let id = table.ask(0, &one, "a.test:443");
    assert_eq!(table.state(599, &id), QuestionState::Pending);
    assert_eq!(table.state(600, &id), QuestionState::Expired);
    assert!(table.approve(600, &id, DEFAULT).is_err());
    let id = table.ask(601, &one, "a.test:443");
    let granted = table.ask(601, &one, "b.test:443");
    table.approve(601, &granted, DEFAULT).expect("a grant");
    table.store.end_asker(one.id);
    assert_eq!(table.state(602, &id), QuestionState::Abandoned);
    assert!(table.approve(602, &id, DEFAULT).is_err());
    assert!(table.deny(602, &id).is_err());
    let now = table.at(602);
    assert!(table.store.grants(now).is_empty());
    let unknown = table.approve(602, "q0", DEFAULT).unwrap_err();
    assert_eq!(unknown, ApprovalError::NoQuestion("q0".to_owned()));
}

#[test]
fn q7_questions_have_a_rate_and_a_bound_for_each_session_each_user_and_in_all() {
    // In a second: 3 of one session, 6 of one user, and 10 in all.
    let flood = |uid: &dyn Fn(u8) -> u32| {
        let mut table = Table::new();
        table.limits.max_pending = 100;
        let mut counts = Vec::new();
        for number in 1..=5_u8 {
            let asker = session_of(number.into(), uid(number));
            let of_asker = (0..5).filter(|host| {
                let to = format!("h{host}.test:443");
                table.ask(0, &asker, &to) != "not asked"
            });
            counts.push(of_asker.count());
        }
        counts
    };
    assert_eq!(flood(&|_| 1000), [3, 3, 0, 0, 0]);
    assert_eq!(flood(&|number| 1000 + u32::from(number)), [3, 3, 3, 1, 0]);
    // Open: a quarter of `max_pending` for one session, half of it for one user, and `max_pending` in all.
    let mut table = Table::new();
    let mut open = Vec::new();
    for number in 1..=6 {
        let asker = session_of(number, if number <= 3 { 1000 } else { 1001 });
        for host in 0..3 {
            let to = format!("h{host}.test:443");
            let answer = table.ask(10 * number, &asker, &to);
            open.extend((answer != "not asked").then_some((number, host)));
        }
    }
    let wanted: Vec<_> = [1, 2, 4, 5]
        .map(|number| [(number, 0), (number, 1)])
        .concat();
    assert_eq!(open, wanted);
    // Ten thousand hosts change nothing.
    for host in 0..10_000 {
        let to = format!("x{host}.test:443");
        assert_eq!(table.ask(80, &session_of(9, 1002), &to), "not asked");
    }
    assert_eq!(table.store.questions.len(), 8);
}

#[test]
fn q7_a_user_with_many_answers_leaves_room_for_others_and_no_denial_is_forgotten() {
    let mut table = Table::new();
    let (mine, other) = (session_of(1, 1000), session_of(2, 1001));
    let id = table.ask(0, &mine, "first.test:443");
    table.deny(0, &id).expect("denied");
    let mut denied = 1;
    for second in 1..2 * MAX_ANSWERS as u64 {
        let id = table.ask(second, &mine, &format!("h{second}.test:443"));
        denied += usize::from(id != "not asked" && table.deny(second, &id).is_ok());
    }
    assert_eq!(denied, MAX_ANSWERS_OF_USER);
    assert_eq!(table.ask(9_000, &mine, "first.test:443"), "denied");
    let id = table.ask(9_001, &other, "a.test:443");
    table.deny(9_001, &id).expect("denied");
    assert_eq!(table.ask(9_002, &other, "a.test:443"), "denied");
}

#[test]
fn q2_at_most_64_requests_wait_for_one_answer() {
    let mut table = Table::new();
    let to = authority("a.test:443");
    let one = session(1);
    let mut waiting = Vec::new();
    for _ in 0..70 {
        let ask = Ask {
            asker: &one,
            authority: &to,
            protocol: Protocol::HttpConnect,
            connection: &table.connection,
        };
        let id = || Some(Arc::from("q"));
        waiting.push(table.store.consider(table.at(0), &LIMITS, &ask, id));
    }
    let is_open = |considered: &&Considered| matches!(considered, Considered::Open(_));
    assert_eq!(waiting.iter().filter(is_open).count(), 64);
    assert_eq!(table.store.questions(table.at(0))[0].waiting, 64);
    drop(waiting);
    assert_eq!(table.store.questions(table.at(0))[0].waiting, 0);
}

#[test]
fn q2_the_first_request_that_waits_and_the_last_one_that_leaves_are_changes() {
    let mut table = Table::new();
    let to = authority("a.test:443");
    let one = session(1);
    let ask = Ask {
        asker: &one,
        authority: &to,
        protocol: Protocol::HttpConnect,
        connection: &table.connection,
    };
    let (store, now) = (
        &mut table.store,
        Moment {
            at: table.start,
            wall: 1000,
        },
    );
    let mut waiting = Vec::new();
    // Whether a request comes or the last one leaves, and the numbers of both kinds of change then.
    for (comes, numbers) in [
        (true, (1, 0)),
        (true, (1, 0)),
        (false, (1, 0)),
        (false, (1, 2)),
        (true, (1, 3)),
        (false, (1, 4)),
        (true, (1, 5)),
    ] {
        if comes {
            let considered = store.consider(now, &LIMITS, &ask, || Some(Arc::from("q")));
            let Considered::Open(waiter) = considered else {
                panic!("{considered:?}");
            };
            waiting.push(waiter);
        } else {
            store.end_wait(waiting.pop().expect("one that waits"));
        }
        let [question] = &store.questions(now)[..] else {
            panic!("one question");
        };
        assert_eq!((question.sequence, question.awaited_sequence), numbers);
        assert_eq!(question.waiting, waiting.len());
    }
    // After the answer nobody is asked.
    store.deny(now, &LIMITS, "q", &alice()).expect("a denial");
    store.end_wait(waiting.pop().expect("one that waits"));
    assert_eq!(store.questions(now)[0].awaited_sequence, 5);
}

#[test]
fn q1_nothing_is_asked_without_a_listener_who_may_answer() {
    let mut table = Table::new();
    let (one, user) = (session(1), Asker::of_user(1000));
    let now = table.at(10).at;
    table.store.leave(&Audience::All, now);
    // The next call of a listener follows in a moment.
    assert!(table.ask(12, &one, "a.test:443").starts_with('q'));
    assert_eq!(table.ask(13, &one, "a.test:443"), "not asked");
    assert!(table.store.is_idle(table.at(13).at));
    table.store.enter(Audience::SessionsOf(1000));
    assert_eq!(table.ask(14, &one, "b.test:443"), "not asked");
    table.limits.own = true;
    assert!(table.ask(14, &one, "b.test:443").starts_with('q'));
    assert_eq!(table.ask(15, &user, "b.test:443"), "not asked");
    let other = Asker {
        uid: 1001,
        ..session(2)
    };
    assert_eq!(table.ask(15, &other, "b.test:443"), "not asked");
    // A listener for one session hears no other.
    table.limits.own = false;
    table.store.enter(Audience::Session("s2".into()));
    assert!(table.ask(16, &session(2), "b.test:443").starts_with('q'));
    assert_eq!(table.ask(16, &session(3), "b.test:443"), "not asked");
}

#[test]
fn q3_a_revoked_grant_permits_nothing_and_the_number_of_grants_is_bounded() {
    let mut table = Table::new();
    let one = session(1);
    let id = table.ask(0, &one, "a.test:443");
    table.approve(0, &id, DEFAULT).expect("a grant");
    let now = table.at(1);
    table.store.revoke(now, &id).expect("revoked");
    let again = table.store.revoke(now, &id).unwrap_err();
    assert_eq!(again, ApprovalError::NoGrant(id));
    assert!(table.ask(2, &one, "a.test:443").starts_with('q'));
    let mut fill = |uid: u32| {
        for given in 0.. {
            let (second, asker) = (
                10 + u64::from(uid) * 1000 + given,
                session_of(uid.into(), uid),
            );
            let id = table.ask(second, &asker, &format!("h{given}.test:443"));
            if let Err(error) = table.approve(second, &id, DEFAULT) {
                return (given, error);
            }
        }
        unreachable!("the table has a bound");
    };
    let of_user = MAX_ANSWERS_OF_USER;
    let most = (of_user as u64, ApprovalError::Full { of_user });
    for uid in 11..15 {
        assert_eq!(fill(uid), most);
    }
    assert_eq!(fill(15), (0, ApprovalError::Full { of_user: 0 }));
    assert!(table.store.questions.len() <= MAX_CLOSED + 2);
}

#[test]
fn q2_a_name_is_looked_up_if_it_may_be_asked_about_or_a_grant_covers_it() {
    let mut table = Table::new();
    let one = session(1);
    let id = table.ask(0, &one, "a.test:443");
    table.approve(0, &id, DEFAULT).expect("a grant");
    let may = |table: &Table, second, asker: &Asker, host| {
        let host = Host::parse(host).expect("a host");
        let now = table.at(second);
        table.store.may_permit(now, &table.limits, asker, &host)
    };
    assert!(may(&table, 0, &one, "b.test"));
    let now = table.at(10).at;
    table.store.leave(&Audience::All, now);
    assert!(may(&table, 20, &one, "a.test"));
    assert!(!may(&table, 20, &one, "b.test"));
    assert!(!may(&table, 20, &session(2), "a.test"));
}

fn direct(host: &str, seconds: u64) -> DirectGrant {
    DirectGrant {
        // The store looks at the asker alone.
        audience: Audience::All,
        host: Host::parse(host).expect("a host"),
        time: Duration::from_secs(seconds),
    }
}

#[test]
fn w3_a_grant_without_a_question_is_for_one_session_those_of_a_user_or_everyone() {
    let by = Approver { uid: 0, name: None };
    let (one, two) = (session(1), session(2));
    let other_user = Asker {
        uid: 2000,
        ..session(3)
    };
    let user = Asker::of_user(one.uid);
    assert_eq!(one.uid, two.uid);
    for (to, covered) in [
        (one.clone(), [true, false, false, false]),
        (Asker::of_sessions(one.uid), [true, true, false, false]),
        (Asker::of_everyone(0), [true, true, true, true]),
    ] {
        let mut table = Table::new();
        let id = table.ask(0, &one, "a.test:80");
        let now = table.at(1);
        let granted = table
            .store
            .grant(now, to, &direct("a.test", 60), &by, || Some("g1".into()));
        assert_eq!(&*granted.expect("a grant").id, "g1");
        // It answers what waits.
        assert_eq!(table.state(1, &id), QuestionState::Granted);
        let clients = [&one, &two, &other_user, &user];
        let found = clients.map(|client| table.ask(2, client, "a.test:443") == "granted");
        assert_eq!(found, covered);
        assert_ne!(table.ask(3, &one, "b.test:443"), "granted");
        assert_ne!(
            table.ask(61, &one, "a.test:443"),
            "granted",
            "its time is over"
        );
    }
}

#[test]
fn w3_a_denial_of_one_client_ends_no_grant_for_everyone_and_wins_for_this_client() {
    let by = Approver { uid: 0, name: None };
    let (one, two) = (session(1), session(2));
    for (to, goes_on) in [
        (Asker::of_everyone(0), true),
        (Asker::of_sessions(one.uid), false),
    ] {
        let mut table = Table::new();
        let id = table.ask(0, &one, "a.test:443");
        table.approve(0, &id, DEFAULT).expect("a grant");
        let now = table.at(1);
        let granted = table
            .store
            .grant(now, to, &direct("a.test", 60), &by, || Some("g1".into()));
        granted.expect("a grant");
        table.deny(2, &id).expect("denied");
        assert_eq!(table.ask(3, &one, "a.test:443"), "denied");
        assert_eq!(table.ask(3, &two, "a.test:443") == "granted", goes_on);
    }
}

#[test]
fn w3_a_grant_without_a_question_has_bounds_and_an_id_of_its_own() {
    let by = Approver { uid: 0, name: None };
    let mut table = Table::new();
    let id = table.ask(0, &session(1), "a.test:443");
    let now = table.at(0);
    let mut grant = |seconds, id: Option<&str>| {
        let id = id.map(Arc::from);
        let to = Asker::of_everyone(0);
        let granted = table
            .store
            .grant(now, to, &direct("b.test", seconds), &by, || id);
        granted.map(drop)
    };
    assert_eq!(grant(0, Some("g1")), Err(ApprovalError::Duration));
    assert_eq!(grant(86_401, Some("g1")), Err(ApprovalError::Duration));
    assert_eq!(grant(60, Some(&id)), Err(ApprovalError::NoId));
    assert_eq!(grant(60, None), Err(ApprovalError::NoId));
    assert_eq!(grant(86_400, Some("g1")), Ok(()));
    assert_eq!(grant(60, Some("g1")), Err(ApprovalError::NoId));
    for number in 2..=MAX_ANSWERS_OF_USER {
        assert_eq!(grant(60, Some(&format!("g{number}"))), Ok(()));
    }
    let full = grant(60, Some("more"));
    assert_eq!(
        full,
        Err(ApprovalError::Full {
            of_user: MAX_ANSWERS_OF_USER
        })
    );
}
