//! The cost of a decision by the size of the lists: the time must not grow with the number of
//! patterns. In the same run, `globset` with the same patterns.
//!
//! Two access patterns: `rotated` asks for 4096 hosts in turn, spread over the whole list, so that
//! caches do not flatter the result; `repeated` asks for one host again and again, as a busy client
//! does. The line before the measurements gives the compile time and the memory of 1 000 000
//! patterns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use codex_network_policy::{
    Facts, Host, HostCredentials, InterceptionSupport, ListKind, NoLocalAddresses,
    NoProxyListeners, Pattern, Policy, PolicySpec, Request, RequestKind, Verdict,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use globset::{Glob, GlobSet, GlobSetBuilder};

const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
/// Past this size building the twin takes minutes.
const MAX_GLOBSET: usize = 100_000;
const ROTATED: u32 = 4096;
const TLDS: [&str; 8] = ["com", "org", "net", "io", "dev", "co.uk", "de", "example"];
/// Of ten patterns, half are names; the others cover the names below a name.
const SHAPES: [Shape; 10] = [
    Shape::Exact,
    Shape::Below,
    Shape::Exact,
    Shape::ApexAndBelow,
    Shape::Exact,
    Shape::Below,
    Shape::Deep,
    Shape::Exact,
    Shape::ApexAndBelow,
    Shape::Exact,
];
/// Which of the ten are names.
const NAMES: [usize; 5] = [0, 2, 4, 7, 9];
/// Which of the ten cover the names below a name that is not deep.
const WILDCARDS: [usize; 4] = [1, 3, 5, 8];
/// Which of the ten is deep.
const DEEP: usize = 6;
/// Which of the ten stands on the deny list: blocklists and allowlists overlap.
const DENIED: usize = 5;

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Exact,
    Below,
    ApexAndBelow,
    Deep,
}

#[derive(Clone, Copy)]
enum Wanted {
    Hit,
    Exact,
    Miss,
    Deepest,
}

const WANTED: [(Wanted, &str); 4] = [
    (Wanted::Hit, "hit"),
    (Wanted::Exact, "exact"),
    (Wanted::Miss, "miss"),
    (Wanted::Deepest, "deepest"),
];
const FILLER: &str = "registry-of-packages";

/// The name in the pattern with this number. Names differ in length, but not with the size of the
/// list.
fn name(number: usize) -> String {
    let tld = TLDS[number % TLDS.len()];
    format!("{}n{number:06}.{tld}", &FILLER[..number % 13])
}

fn pattern(number: usize) -> String {
    let name = name(number);
    match SHAPES[number % SHAPES.len()] {
        Shape::Exact => name,
        Shape::Below => format!("*.{name}"),
        Shape::ApexAndBelow => format!("**.{name}"),
        Shape::Deep => format!("*.eu-west-1.cell.prod.{name}"),
    }
}

/// The host for a turn, from all over the list, in an order that no branch predictor or prefetcher
/// can learn. Its first label is new in each turn, whatever the size: otherwise ten patterns would
/// be faster because only ten hosts are asked for.
fn host(wanted: Wanted, turn: usize, size: usize) -> Host {
    let mut random = turn;
    // The first steps of a linear congruential generator; the upper bits are the good ones.
    let mut pick = |choices: usize| {
        random = (random.wrapping_add(turn))
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % choices
    };
    let front = format!("{}w{turn}", &FILLER[..pick(FILLER.len())]);
    let ten = pick(size / 10) * 10;
    let text = match wanted {
        Wanted::Miss => {
            let (filler, tld) = (&FILLER[..pick(13)], TLDS[pick(TLDS.len())]);
            format!("{front}.{filler}absent{turn}.{tld}")
        }
        Wanted::Deepest => format!("{front}.s3.eu-west-1.cell.prod.{}", name(ten + DEEP)),
        Wanted::Exact => name(ten + NAMES[pick(NAMES.len())]),
        Wanted::Hit => format!("{front}.{}", name(ten + WILDCARDS[pick(WILDCARDS.len())])),
    };
    Host::parse(&text).expect("the generator makes hosts")
}

fn hosts(wanted: Wanted, size: usize) -> Vec<Host> {
    (0..ROTATED)
        .map(|turn| host(wanted, turn as usize, size))
        .collect()
}

fn spec(size: usize) -> PolicySpec {
    let mut spec = PolicySpec::default();
    for number in 0..size {
        let pattern = Pattern::parse(&pattern(number), ListKind::Deny).expect("a pattern");
        let list = if number % 10 == DENIED {
            &mut spec.denied
        } else {
            &mut spec.allowed
        };
        list.push((pattern, None));
    }
    spec
}

/// The same lists as globs.
struct Twin {
    allowed: GlobSet,
    denied: GlobSet,
}

impl Twin {
    fn allows(&self, host: &str) -> bool {
        !self.denied.is_match(host) && self.allowed.is_match(host)
    }
}

fn twin(size: usize) -> Option<Twin> {
    if size > MAX_GLOBSET {
        return None;
    }
    let mut lists = [GlobSetBuilder::new(), GlobSetBuilder::new()];
    for number in 0..size {
        let list = &mut lists[usize::from(number % 10 == DENIED)];
        let text = pattern(number);
        if let Some(apex) = text.strip_prefix("**.") {
            list.add(Glob::new(apex).expect("a glob"));
        }
        list.add(Glob::new(&text.replace("**", "*")).expect("a glob"));
    }
    let [allowed, denied] = lists.map(|list| list.build().expect("a set of globs"));
    Some(Twin { allowed, denied })
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages.unwrap_or(0) * 4096
}

#[expect(
    clippy::print_stderr,
    reason = "a measurement that criterion has no word for"
)]
fn report_compilation() {
    let spec = spec(1_000_000);
    let before = resident_bytes();
    let start = Instant::now();
    let policy = Policy::compile(&spec).expect("it fits");
    let took = start.elapsed();
    let bytes = resident_bytes().saturating_sub(before) / 1_000_000;
    eprintln!("1 000 000 patterns: compiled in {took:.0?}, {bytes} bytes each");
    drop(policy);
}

/// The shortest time of each size over many short rounds, taken in turn. Other work on the machine
/// disturbs some rounds and not the shortest one, so the ratios hold on a busy machine. Measured
/// once for the decision alone, and once including the parsing of the host's text, as a door does
/// it. The twin knows only texts. 0 stands for a twin that is too large to build.
#[expect(
    clippy::print_stderr,
    reason = "a measurement that criterion has no word for"
)]
fn report_flatness() {
    let policies = SIZES.map(|size| Policy::compile(&spec(size)).expect("it fits"));
    let twins = SIZES.map(twin);
    for (wanted, word) in WANTED {
        let hosts = SIZES.map(|size| hosts(wanted, size));
        let texts = hosts.each_ref().map(|hosts| texts(hosts));
        let decided = shortest(|size| {
            for host in &hosts[size] {
                let _ = black_box(policies[size].decide(black_box(&request(host))));
            }
        });
        let parsed = shortest(|size| {
            for text in &texts[size] {
                let host = Host::parse(black_box(text)).expect("a host");
                let _ = black_box(policies[size].decide(&request(&host)));
            }
        });
        let globbed = shortest(|size| {
            for text in twins[size].iter().flat_map(|_| &texts[size]) {
                black_box(twins[size].as_ref().is_some_and(|twin| twin.allows(text)));
            }
        });
        for (index, size) in SIZES.iter().enumerate() {
            eprintln!(
                "{word:8} {size:9} patterns: decide {:5.1} ns x{:.2}, parse and decide {:5.1} ns x{:.2}, globset {:6.0} ns",
                decided[index],
                decided[index] / decided[0],
                parsed[index],
                parsed[index] / parsed[0],
                globbed[index],
            );
        }
    }
}

/// The shortest time for one host, in nanoseconds, by the index of the size.
fn shortest(all_hosts: impl Fn(usize)) -> [f64; SIZES.len()] {
    let mut shortest = [Duration::MAX; SIZES.len()];
    for _ in 0..100 {
        for (size, shortest) in shortest.iter_mut().enumerate() {
            // The first pass over the hosts restores what the other sizes evicted from the caches.
            all_hosts(size);
            let start = Instant::now();
            all_hosts(size);
            *shortest = start.elapsed().min(*shortest);
        }
    }
    shortest.map(|time| time.as_secs_f64() * 1e9 / f64::from(ROTATED))
}

fn texts(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

fn decide(criterion: &mut Criterion) {
    report_compilation();
    report_flatness();
    for size in SIZES {
        let policy = Policy::compile(&spec(size)).expect("it fits");
        let twin = twin(size);
        for (wanted, word) in WANTED {
            let hosts = hosts(wanted, size);
            check(&policy, wanted, &hosts);
            let mut group = criterion.benchmark_group(word);
            for (access, count) in [("rotated", hosts.len()), ("repeated", 1)] {
                let hosts = &hosts[..count];
                group.bench_function(BenchmarkId::new(format!("decide/{access}"), size), |b| {
                    let mut turn = 0;
                    b.iter(|| {
                        turn = if turn + 1 < hosts.len() { turn + 1 } else { 0 };
                        policy.decide(black_box(&request(&hosts[turn])))
                    });
                });
                let Some(twin) = &twin else {
                    continue;
                };
                let texts = texts(hosts);
                group.bench_function(BenchmarkId::new(format!("globset/{access}"), size), |b| {
                    let mut turn = 0;
                    b.iter(|| {
                        turn = if turn + 1 < texts.len() { turn + 1 } else { 0 };
                        twin.allows(black_box(&texts[turn]))
                    });
                });
            }
            group.finish();
        }
    }
}

fn request(host: &Host) -> Request<'_> {
    Request {
        host,
        port: 443,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    }
}

/// Checks that the hosts are of the kind that their name says: a bench of the wrong thing is fast
/// too.
fn check(policy: &Policy, wanted: Wanted, hosts: &[Host]) {
    for host in hosts {
        let decision = policy.decide(&request(host));
        match wanted {
            Wanted::Hit | Wanted::Exact => assert!(decision.rule().is_some(), "{host}"),
            Wanted::Miss => assert!(decision.rule().is_none(), "{host}"),
            Wanted::Deepest => assert_eq!(decision.verdict(), Verdict::Allow, "{host}"),
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = decide
}
criterion_main!(benches);
