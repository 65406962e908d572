//! Every message on its way, whole and cut.

use super::*;

fn ticket() -> Ticket {
    Ticket::of_worker(7)
}

fn question() -> QuestionId {
    QuestionId::numbered(9)
}

fn problems() -> Problems {
    Problems {
        text: "line 1\nline 2".to_owned(),
        detail: "[]".to_owned(),
    }
}

/// A message is read back unchanged, and every shorter or longer one is refused.
fn round_trip<T: PartialEq + std::fmt::Debug>(
    message: &T,
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
) {
    assert_eq!(decode(bytes).as_ref(), Ok(message));
    for end in 0..bytes.len() {
        assert_eq!(
            decode(&bytes[..end]),
            Err(Malformed),
            "{message:?} cut to {end}"
        );
    }
    let longer = [bytes, &[0]].concat();
    assert_eq!(
        decode(&longer),
        Err(Malformed),
        "{message:?} with a byte behind it"
    );
}

#[test]
fn messages_to_the_worker_are_read_back_unchanged_and_never_in_part() {
    let account = Some(Account {
        uid: 65_534,
        gid: 65_534,
    });
    let listeners = [
        ListenerUpdate::Handed,
        ListenerUpdate::Shut,
        ListenerUpdate::Busy,
    ];
    for message in [
        ToWorker::FirstSettings(FirstSettings {
            control: Some("/run/control.sock".to_owned()),
            control_from: ListenerUpdate::Handed,
            mode: Some(Mode::Limited),
            restarts: 3,
            blocked_base: 1 << 50,
            listeners,
            account,
            confinement: Confinement::Try,
            fallback: Fallback::LastGood,
            release: u64::MAX - 1,
        }),
        ToWorker::FirstSettings(FirstSettings {
            control: None,
            control_from: ListenerUpdate::Keep,
            mode: None,
            restarts: 0,
            blocked_base: 0,
            listeners,
            account: None,
            confinement: Confinement::Off,
            fallback: Fallback::None,
            release: 0,
        }),
        ToWorker::Settings {
            ticket: ticket(),
            listeners,
        },
        ToWorker::Announce {
            ticket: ticket(),
            addresses: [
                Some(SocketAddr::from(([127, 0, 0, 1], 3128))),
                None,
                Some(SocketAddr::from(([0; 16], 8080))),
            ],
        },
        ToWorker::ReloadFailed {
            ticket: ticket(),
            problems: problems(),
        },
        ToWorker::Drain {
            limit: Duration::from_secs(30),
        },
        ToWorker::HandOver {
            limit: Duration::from_secs(30),
            release: 7,
        },
        ToWorker::Ping,
        ToWorker::SystemFiles,
        ToWorker::Credentials,
        ToWorker::Leaf {
            question: question(),
            certificate: b"DER".to_vec(),
            not_before: 1 << 39,
            not_after: 1 << 40,
        },
        ToWorker::LeafRefused {
            question: question(),
            why: NoLeaf::Failed,
        },
        ToWorker::Owners {
            question: question(),
            users: vec![None, Some(0), Some(u32::MAX)],
        },
        ToWorker::LeafRefused {
            question: question(),
            why: NoLeaf::TooManyHosts,
        },
    ] {
        let (operation, bytes) = message.encode();
        round_trip(&message, &bytes, |bytes| ToWorker::decode(operation, bytes));
        assert_eq!(
            ToMonitor::decode(operation, &bytes),
            Err(Malformed),
            "a direction has its own numbers"
        );
    }
}

#[test]
fn messages_to_the_monitor_are_read_back_unchanged_and_never_in_part() {
    for message in [
        ToMonitor::Noted { ticket: ticket() },
        ToMonitor::Applied { ticket: ticket() },
        ToMonitor::Rejected {
            ticket: ticket(),
            why: "because".to_owned(),
        },
        ToMonitor::Reload { ticket: ticket() },
        ToMonitor::ModeSet {
            mode: Mode::Limited,
        },
        ToMonitor::CaFilesNeeded,
        ToMonitor::ReadCredential { source: 7 },
        issue_leaf("a.test", 4),
        ask_owners(0),
        ask_owners(2),
        ToMonitor::Well(WorkerReport {
            mode: Mode::Full,
            allow_rules: 1,
            deny_rules: 2,
            connections: 3,
        }),
    ] {
        let (operation, bytes) = message.encode();
        round_trip(&message, &bytes, |bytes| {
            ToMonitor::decode(operation, bytes)
        });
        assert_eq!(
            ToWorker::decode(operation, &bytes),
            Err(Malformed),
            "a direction has its own numbers"
        );
    }
}

fn ask_owners(count: usize) -> ToMonitor {
    let ends = ConnectionEnds {
        client: "127.0.0.2:5".parse().expect("an address"),
        local: "[::1]:3128".parse().expect("an address"),
    };
    ToMonitor::AskOwners {
        question: question(),
        connections: vec![ends; count],
    }
}

#[test]
fn c5_no_more_owners_are_requested_at_once_than_the_limit() {
    for (count, sound) in [
        (MAX_OWNERS_REQUESTED, true),
        (MAX_OWNERS_REQUESTED + 1, false),
    ] {
        let (operation, bytes) = ask_owners(count).encode();
        let decoded = ToMonitor::decode(operation, &bytes);
        assert_eq!(decoded.is_ok(), sound, "{count}");
    }
}

fn issue_leaf(name: &str, first: u8) -> ToMonitor {
    let mut public_key = [9; 65];
    public_key[0] = first;
    ToMonitor::IssueLeaf {
        question: question(),
        authority: [7; 32],
        public_key,
        name: name.to_owned(),
        user: Some(7),
    }
}

#[test]
fn m4_a_leaf_is_requested_with_an_uncompressed_key_and_a_possible_name() {
    let longest = "a".repeat(MAX_NAME);
    for (message, sound) in [
        (issue_leaf("a.test", 4), true),
        (issue_leaf(&longest, 4), true),
        (issue_leaf(&format!("{longest}a"), 4), false),
        (issue_leaf("a.test", 2), false),
        (issue_leaf("a.test", 0), false),
    ] {
        let (operation, bytes) = message.encode();
        let decoded = ToMonitor::decode(operation, &bytes);
        assert_eq!(decoded.is_ok(), sound, "{message:?}");
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let why = "\u{e9}".repeat(MAX_TO_MONITOR);
    let (operation, bytes) = ToMonitor::Rejected {
        ticket: ticket(),
        why,
    }
    .encode();
    assert!(bytes.len() <= MAX_TO_MONITOR);
    assert!(ToMonitor::decode(operation, &bytes).is_ok());
}
