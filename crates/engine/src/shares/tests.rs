//! The rules as examples, as invariants, and against a naive twin.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MIN_IDLE: Duration = Duration::from_secs(10);

fn user(uid: u32) -> Holder {
    Holder::User(uid)
}

fn admitted(rows: &[(u32, u64)]) -> Vec<AdmittedConnection> {
    rows.iter()
        .map(|&(uid, idle)| AdmittedConnection {
            holder: user(uid),
            idle: Duration::from_secs(idle),
        })
        .collect()
}

#[test]
fn c5_an_address_stands_for_its_network_and_a_mapped_one_for_itself() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("127.0.0.1", "127.0.0.2", true),
        ("127.0.0.1", "::1", true),
        ("127.0.0.1", "192.0.2.1", false),
        ("2001:db8::1", "2001:db8::2:0:0:1", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("2001:db8::1", "2001:db9::1", false),
    ] {
        let [one, other] = [one, other].map(|text: &str| text.parse().expect("an address"));
        let equal = Holder::at(one) == Holder::at(other);
        assert_eq!(equal, same, "{one} {other}");
    }
    let named = |text: &str| Holder::at(text.parse().expect("an address")).to_string();
    assert_eq!(named("2001:db8::1"), "2001:db8::/64");
    assert_eq!(named("::1"), "127.0.0.1");
    assert_eq!(user(7).to_string(), "uid 7");
}

#[test]
fn c5_who_is_let_in_and_who_gives_way() {
    /// Limit, admitted as (uid, seconds idle), waiting uids, admitted, ended.
    type Row = (
        usize,
        &'static [(u32, u64)],
        &'static [u32],
        &'static [usize],
        &'static [usize],
    );
    let rows: &[Row] = &[
        // A free slot, and then none.
        (3, &[(1, 0), (1, 0)], &[1, 1], &[0], &[]),
        // A free slot goes to the holder with fewer connections.
        (3, &[(1, 0), (1, 0)], &[1, 2], &[1], &[]),
        // A client below its share is let in though nothing is idle; the idlest of the largest ends.
        (3, &[(1, 1), (1, 2), (1, 0)], &[2], &[0], &[1]),
        // Its second one is above its share of one.
        (3, &[(1, 1), (1, 2), (1, 0)], &[2, 2], &[0], &[1]),
        // One holder: its own idle connections give way, the idlest first, and no others.
        (3, &[(1, 10), (1, 20), (1, 9)], &[1, 1, 1], &[0, 1], &[1, 0]),
        // A holder at its share keeps its connections, even if they are idle.
        (4, &[(1, 5), (1, 5), (2, 99), (2, 99)], &[1], &[], &[]),
        (4, &[(1, 50), (1, 5), (2, 99), (2, 99)], &[1], &[0], &[0]),
        // The larger holder gives way before the newcomer's own.
        (4, &[(1, 50), (1, 60), (1, 60), (2, 99)], &[2], &[0], &[2]),
        // Above its share without an idle connection: an idle one of a holder above its share ends.
        (
            5,
            &[(1, 9), (1, 9), (2, 20), (2, 0), (2, 0)],
            &[1],
            &[0],
            &[2],
        ),
        (5, &[(1, 9), (1, 9), (2, 9), (2, 0), (2, 0)], &[1], &[], &[]),
        // More holders than slots: the longest idle one of all ends, after the minimum.
        (2, &[(1, 11), (2, 12)], &[3], &[0], &[1]),
        (2, &[(1, 9), (2, 9)], &[3], &[], &[]),
        // A holder without a connection gets a slot from one with several, even if they are busy.
        (2, &[(1, 0), (1, 0)], &[3, 4, 5], &[0], &[1]),
        // A limit that was lowered ends nothing by itself.
        (1, &[(1, 0), (1, 0)], &[1], &[], &[]),
    ];
    for (limit, connections, waiting, admit, end) in rows {
        let waiting: Vec<_> = waiting.iter().copied().map(user).collect();
        let planned = plan(*limit, MIN_IDLE, &admitted(connections), &waiting);
        let wanted = Plan {
            admit: admit.to_vec(),
            end: end.to_vec(),
        };
        assert_eq!(planned, wanted, "{limit} {connections:?} {waiting:?}");
    }
}

#[test]
fn c5_the_newest_of_the_holder_of_whom_most_wait_is_turned_away() {
    let waiting = [1, 1, 2, 1, 2].map(user);
    assert_eq!(surplus(5, &waiting), Vec::<usize>::new());
    assert_eq!(surplus(4, &waiting), [3]);
    assert_eq!(surplus(1, &waiting).len(), 4);
    assert_eq!(surplus(0, &[]), Vec::<usize>::new());
}

/// The same rules, one newcomer after the other, with everything counted anew each time.
fn naive(limit: usize, held: &[AdmittedConnection], waiting: &[Holder]) -> Plan {
    let mut all: Vec<Holder> = held.iter().map(|held| held.holder).collect();
    all.extend(waiting);
    all.sort();
    all.dedup();
    let equal = limit / all.len().max(1);
    let mut plan = Plan::default();
    let mut given_up: Vec<Holder> = Vec::new();
    loop {
        let count = |holder: Holder| {
            let old = held
                .iter()
                .enumerate()
                .filter(|(at, held)| held.holder == holder && !plan.end.contains(at));
            let new = plan.admit.iter().filter(|&&at| waiting[at] == holder);
            old.count() + new.count()
        };
        let mut best: Option<usize> = None;
        for at in 0..waiting.len() {
            if plan.admit.contains(&at) || given_up.contains(&waiting[at]) {
                continue;
            }
            if best.is_none_or(|best| count(waiting[at]) < count(waiting[best])) {
                best = Some(at);
            }
        }
        let Some(at) = best else {
            return plan;
        };
        let newcomer = waiting[at];
        let open: usize = all.iter().map(|holder| count(*holder)).sum();
        if open < limit {
            plan.admit.push(at);
            continue;
        }
        let owed = count(newcomer) < equal.max(1);
        let mut victim: Option<(usize, bool, Duration, Holder, usize)> = None;
        for (position, connection) in held.iter().enumerate() {
            let holder = connection.holder;
            let own = holder == newcomer;
            let connections = count(holder) + usize::from(own && !owed);
            let is_idle = connections > equal && connection.idle >= MIN_IDLE;
            let is_surplus = owed && connections > equal.max(1);
            if plan.end.contains(&position) || !(is_idle || is_surplus) {
                continue;
            }
            let candidate = (connections, own, connection.idle, holder, position);
            if victim.is_none_or(|victim| candidate > victim) {
                victim = Some(candidate);
            }
        }
        match victim {
            Some((.., position)) => {
                plan.end.push(position);
                plan.admit.push(at);
            }
            None => given_up.push(newcomer),
        }
    }
}

fn scene() -> impl Strategy<Value = (usize, Vec<(u32, u64)>, Vec<u32>)> {
    (1..20_usize)
        .prop_flat_map(|limit| {
            let connections = vec((0..5_u32, 0..20_u64), 0..=limit + 2);
            (Just(limit), connections, vec(0..6_u32, 0..25))
        })
        .prop_map(|(limit, connections, waiting)| (limit, connections, waiting))
}

proptest! {
    #[test]
    fn c5_the_plan_is_that_of_a_naive_twin((limit, connections, waiting) in scene()) {
        let held = admitted(&connections);
        let waiting: Vec<_> = waiting.into_iter().map(user).collect();
        prop_assert_eq!(plan(limit, MIN_IDLE, &held, &waiting), naive(limit, &held, &waiting));
    }

    #[test]
    fn c5_shares_are_kept((limit, connections, waiting) in scene()) {
        let held = admitted(&connections);
        let waiting: Vec<_> = waiting.into_iter().map(user).collect();
        let plan = plan(limit, MIN_IDLE, &held, &waiting);
        let mut holders: Vec<Holder> = held.iter().map(|held| held.holder).chain(waiting.iter().copied()).collect();
        holders.sort();
        holders.dedup();
        let equal = limit / holders.len().max(1);
        let before = |holder: Holder| held.iter().filter(|held| held.holder == holder).count();
        let ended = |holder: Holder| plan.end.iter().filter(|&&at| held[at].holder == holder).count();
        let admitted = |holder: Holder| plan.admit.iter().filter(|&&at| waiting[at] == holder).count();
        let after = |holder: Holder| before(holder) + admitted(holder) - ended(holder);
        let total: usize = holders.iter().map(|holder| after(*holder)).sum();
        prop_assert!(total <= limit.max(held.len()), "never more than the limit");
        for holder in holders {
            let wanted = waiting.iter().filter(|&&waits| waits == holder).count();
            prop_assert!(admitted(holder) == wanted || after(holder) >= equal, "{holder} waits below its share");
            prop_assert!(after(holder) >= before(holder).min(equal), "{holder} lost a part of its share");
        }
        for &at in &plan.end {
            let same = held.iter().enumerate().filter(|(_, other)| other.holder == held[at].holder);
            for (other, connection) in same {
                prop_assert!(plan.end.contains(&other) || connection.idle <= held[at].idle, "a busier one ended");
            }
            let owner = held[at].holder;
            prop_assert!(held[at].idle >= MIN_IDLE || before(owner) > equal, "a busy one ended within its share");
        }
    }

    #[test]
    fn c5_no_more_are_turned_away_than_must_be(waiting in vec(0..4_u32, 0..30), most in 0..30_usize) {
        let waiting: Vec<_> = waiting.into_iter().map(user).collect();
        let gone = surplus(most, &waiting);
        prop_assert_eq!(waiting.len() - gone.len(), waiting.len().min(most));
        let left = |holder| waiting.iter().enumerate().filter(|(at, waits)| **waits == holder && !gone.contains(at)).count();
        for &at in &gone {
            for other in (0..4).map(user) {
                prop_assert!(left(waiting[at]) + 1 >= left(other), "a holder with fewer lost one");
            }
        }
    }
}
