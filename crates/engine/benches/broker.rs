//! The cost of searching content for credentials (SPEC B11, B12). Quote ratios.
//!
//! - `scrubber`: 1 MiB of an answer in pieces of 16 KiB and of 100 bytes, with the values of 1, 3 and 12
//!   credentials. A copy of the bytes is the twin. `automaton` is the alternative: the search crate's own
//!   automaton of plain values and base64, over the whole answer, without replacing.
//! - `tripwire`: 64 KiB of a request's content, with the dummies of 1 and 1000 sessions.

// Private to the engine, so compiled here.
#[path = "../src/broker"]
mod broker {
    #[expect(unused, reason = "the module's tests are not measured")]
    pub(crate) mod encodings;
    #[expect(unused, reason = "the module's tests are not measured")]
    pub(crate) mod escapes;
    #[expect(unused, reason = "the module's tests are not measured")]
    pub(crate) mod needles;
    #[expect(unused, reason = "only streams are measured")]
    pub(crate) mod scrubber;
    #[expect(unused, reason = "only content is measured")]
    pub(crate) mod tripwire;
    #[expect(unused, reason = "the module's tests are not measured")]
    pub(crate) mod value_search;

    use super::{AhoCorasick, MatchKind};

    /// The alternative, of plain values and base64.
    pub(crate) fn automaton(values: &[(String, String)]) -> AhoCorasick {
        let base64 = |value: &str, place| encodings::base64_at(value.as_bytes(), place).to_string();
        let forms: Vec<String> = values
            .iter()
            .flat_map(|(value, _)| {
                (0..3)
                    .map(|place| base64(value, place))
                    .chain([value.clone()])
            })
            .collect();
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms)
            .expect("an automaton")
    }
}

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use self::broker::scrubber::{ScrubbedStream, Scrubber};
use self::broker::tripwire::{SearchedContent, Tripwire};

const CONTENT: usize = 1 << 20;
const PREFIXES: [&str; 6] = ["ghp_", "sk-proj-", "sk-ant-api03-", "hf_", "npm_", "glpat-"];
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Letters and digits from a simple generator.
fn letters(seed: &mut u64, count: usize) -> String {
    (0..count)
        .map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[usize::try_from((*seed >> 33) % 62).unwrap_or(0)])
        })
        .collect()
}

/// Pairs of a value and its dummy.
fn values(count: usize) -> Vec<(String, String)> {
    let mut seed = 7;
    (0..count)
        .map(|number| {
            let prefix = PREFIXES[number % PREFIXES.len()];
            let value = format!("{prefix}{}", letters(&mut seed, 36));
            (value, format!("{prefix}masked{}", letters(&mut seed, 30)))
        })
        .collect()
}

/// A JSON document as APIs answer it, with identifiers, URLs and some base64.
fn document() -> Bytes {
    let mut seed = 42;
    let mut text = String::new();
    while text.len() < CONTENT {
        let id = letters(&mut seed, 12);
        let _infallible = writeln!(
            text,
            "{{\"id\": \"{id}\", \"url\": \"https://api.github.com/repos/skills/github/issues/{id}\", \
             \"body\": \"The quick brown fox skips npm scripts and glances at 17 lazy dogs\", \
             \"content\": \"{}\", \"private\": false}},",
            letters(&mut seed, 76),
        );
    }
    text.truncate(CONTENT);
    Bytes::from(text)
}

fn scrub(scrubber: &Arc<Scrubber>, content: &Bytes, piece: usize) -> usize {
    let mut stream = ScrubbedStream::new(Arc::clone(scrubber));
    let mut sent = 0;
    let mut from = 0;
    while from < content.len() {
        let to = (from + piece).min(content.len());
        stream.push(content.slice(from..to), |piece| {
            sent += black_box(piece).len();
        });
        from = to;
    }
    stream.finish(|piece| sent += piece.len());
    sent
}

fn scrubber(c: &mut Criterion) {
    let content = document();
    let mut group = c.benchmark_group("scrubber");
    group.throughput(Throughput::Bytes(CONTENT as u64));
    group.bench_function("copy", |b| b.iter(|| black_box(content.to_vec()).len()));
    for count in [1, 3, 12] {
        let values = values(count);
        let pairs = values.iter().map(|(v, d)| (&**v, &**d));
        let scrubber = Arc::new(Scrubber::new(pairs));
        for piece in [16 << 10, 100] {
            group.bench_function(format!("{count} values, pieces of {piece}"), |b| {
                b.iter(|| assert_eq!(scrub(&scrubber, &content, piece), CONTENT));
            });
        }
        let automaton = broker::automaton(&values);
        group.bench_function(format!("{count} values, automaton"), |b| {
            b.iter(|| black_box(automaton.find_iter(&content[..]).count()));
        });
    }
    group.finish();
}

fn tripwire(c: &mut Criterion) {
    let content = document().slice(..64 << 10);
    let mut group = c.benchmark_group("tripwire");
    group.throughput(Throughput::Bytes(content.len() as u64));
    for sessions in [1, 1000] {
        let values = values(3 * sessions);
        let dummies = values.iter().map(|(_, dummy)| (dummy.as_bytes(), ()));
        let tripwire = Tripwire::new(dummies);
        group.bench_function(format!("{sessions} sessions"), |b| {
            b.iter(|| {
                let mut searched = SearchedContent::new();
                for piece in content.chunks(16 << 10) {
                    assert_eq!(searched.push(&tripwire, piece, |()| true), None);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scrubber, tripwire);
criterion_main!(benches);
