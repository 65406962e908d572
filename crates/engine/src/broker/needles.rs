//! Finds any of several byte strings in bytes that arrive in pieces.
//!
//! The search crate gets only the first bytes of each string, since it does not overwrite its memory.
//! The strings themselves are kept in memory that is overwritten, and compared where their first bytes
//! occur. Strings with the same first bytes are in one sorted table, so thousands of dummies with the same
//! prefix cost one comparison more for each doubling. The search crate is slow with many different first bytes;
//! then a filter finds them.

use std::collections::HashSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, Input, MatchKind};
use zeroize::Zeroizing;

/// The bytes of each needle that the search crate gets. A needle is at least as long.
pub(super) const FRAGMENT_BYTES: usize = 4;

/// Most different first bytes that the search crate finds with vector instructions.
pub(super) const MAX_FEW: usize = 64;
/// The logarithm of the bits of a filter. With so many, the dummies of a busy machine set few of them.
const FILTER_BITS: u32 = 20;
/// The places that a filter looks at together. The processor then waits for none of them.
const BLOCK_PLACES: usize = 8;
const FIRST_PAIR: u8 = 1;
const LAST_PAIR: u8 = 2;

/// Byte strings to find, each with its meaning.
pub(super) struct Needles<T> {
    /// All needles, one after the other.
    bytes: Zeroizing<Vec<u8>>,
    /// In the order of their bytes; no two are equal.
    sorted: Vec<Needle<T>>,
    /// Finds where a needle may begin.
    fragments: Fragments,
    /// Whether a needle begins with this byte.
    first_bytes: [bool; 256],
    max_bytes: usize,
}

/// The first bytes of needles: strings of one length. More than [`MAX_FEW`] have [`FRAGMENT_BYTES`] bytes each.
pub(super) enum Fragments {
    None,
    Few(AhoCorasick),
    Many(Filter),
}

/// A set of fragments, which tells most others without a look at it.
pub(super) struct Filter {
    /// For each pair of bytes, whether a fragment has it first ([`FIRST_PAIR`]), and last ([`LAST_PAIR`]).
    pairs: Box<[u8; 1 << u16::BITS]>,
    bits: Box<[u64]>,
    fragments: HashSet<[u8; FRAGMENT_BYTES]>,
}

struct Needle<T> {
    range: Range<usize>,
    /// The longest other needle that this one begins with.
    shorter: Option<usize>,
    meaning: T,
}

/// A needle in a piece of content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'n, T> {
    /// Where it is.
    pub(super) range: Range<usize>,
    pub(super) meaning: &'n T,
}

impl<T> Needles<T> {
    /// Of equal strings, the first one counts.
    ///
    /// Strings of fewer than [`FRAGMENT_BYTES`] bytes are left out.
    pub(super) fn new(strings: impl IntoIterator<Item = (Zeroizing<Vec<u8>>, T)>) -> Self {
        let mut strings: Vec<_> = strings.into_iter().collect();
        strings.retain(|(string, _)| string.len() >= FRAGMENT_BYTES);
        strings.sort_by(|(one, _), (other, _)| one.cmp(other));
        strings.dedup_by(|(later, _), (earlier, _)| later == earlier);
        // In one piece, since a vector that grows leaves a copy behind.
        let length = strings.iter().map(|(string, _)| string.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        let mut sorted: Vec<Needle<T>> = Vec::with_capacity(strings.len());
        let mut first_bytes = [false; 256];
        let mut max_bytes = 0;
        for (string, meaning) in strings {
            let begin = bytes.len();
            bytes.extend_from_slice(&string);
            first_bytes[usize::from(string[0])] = true;
            max_bytes = max_bytes.max(string.len());
            let mut shorter = sorted.len().checked_sub(1);
            while let Some(index) = shorter {
                if string.starts_with(&bytes[sorted[index].range.clone()]) {
                    break;
                }
                shorter = sorted[index].shorter;
            }
            sorted.push(Needle {
                range: begin..bytes.len(),
                shorter,
                meaning,
            });
        }
        let mut firsts: Vec<&[u8]> = sorted
            .iter()
            .map(|needle| &bytes[needle.range.clone()][..FRAGMENT_BYTES])
            .collect();
        firsts.dedup();
        let fragments = Fragments::new(&firsts);
        Self {
            bytes,
            sorted,
            fragments,
            first_bytes,
            max_bytes,
        }
    }

    /// The needle in `content[from..]` that begins first; of those that begin there, the longest.
    pub(super) fn find(&self, content: &[u8], from: usize) -> Option<Found<'_, T>> {
        let mut from = from;
        while let Some(begin) = self.fragments.find(content, from) {
            if let Some(needle) = self.longest_at(&content[begin..]) {
                return Some(Found {
                    range: begin..begin + needle.range.len(),
                    meaning: &needle.meaning,
                });
            }
            from = begin + 1;
        }
        None
    }

    /// Where in `content[from..]` a needle may have begun that later bytes complete; the length of the
    /// content if no such place exists.
    pub(super) fn incomplete_from(&self, content: &[u8], from: usize) -> usize {
        let end = content.len();
        let from = from.max(end.saturating_sub(self.max_bytes.saturating_sub(1)));
        let mut next = from;
        while let Some(begin) = self.fragments.find(content, next) {
            if self.may_become(&content[begin..]) {
                return begin;
            }
            next = begin + 1;
        }
        // The last bytes are not a whole fragment.
        (from.max(end.saturating_sub(FRAGMENT_BYTES - 1))..end)
            .find(|&begin| {
                self.first_bytes[usize::from(content[begin])] && self.may_become(&content[begin..])
            })
            .unwrap_or(end)
    }

    /// The length of the longest needle.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    fn bytes_of(&self, needle: &Needle<T>) -> &[u8] {
        &self.bytes[needle.range.clone()]
    }

    /// The longest needle that the text begins with. It is the last one in the order that is not above
    /// the text, or one that this one begins with.
    fn longest_at(&self, text: &[u8]) -> Option<&Needle<T>> {
        let above = self.sorted.partition_point(|n| self.bytes_of(n) <= text);
        let mut candidate = above.checked_sub(1);
        while let Some(index) = candidate {
            let needle = &self.sorted[index];
            if text.starts_with(self.bytes_of(needle)) {
                return Some(needle);
            }
            candidate = needle.shorter;
        }
        None
    }

    /// Whether a longer needle begins with the text.
    fn may_become(&self, text: &[u8]) -> bool {
        let above = self.sorted.partition_point(|n| self.bytes_of(n) <= text);
        let next = self.sorted.get(above);
        next.is_some_and(|needle| self.bytes_of(needle).starts_with(text))
    }
}

impl Fragments {
    /// Takes different fragments.
    pub(super) fn new(fragments: &[&[u8]]) -> Self {
        match fragments.len() {
            0 => Self::None,
            1..=MAX_FEW => {
                // All are of one length, so the kind matters for speed only: vector instructions need it.
                let search = AhoCorasickBuilder::new()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(fragments)
                    .expect("the fragments are few and short");
                Self::Few(search)
            }
            _ => Self::Many(Filter::new(fragments)),
        }
    }

    /// Where the first of them is in `content[from..]`.
    pub(super) fn find(&self, content: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Few(search) => {
                let found = search.find(Input::new(content).range(from..))?;
                Some(found.start())
            }
            Self::Many(filter) => filter.find(content, from),
        }
    }
}

impl Filter {
    fn new(fragments: &[&[u8]]) -> Self {
        let fragments = fragments.iter().filter_map(|bytes| bytes.first_chunk());
        let fragments: HashSet<_> = fragments.copied().collect();
        let mut bits = vec![0_u64; 1 << FILTER_BITS >> u64::BITS.ilog2()];
        for fragment in &fragments {
            let (word, bit) = Self::place(*fragment);
            bits[word] |= bit;
        }
        let pairs = vec![0; 1 << u16::BITS].into_boxed_slice();
        let mut pairs: Box<[u8; 1 << u16::BITS]> = pairs.try_into().expect("it has this length");
        for [one, two, three, four] in &fragments {
            pairs[pair_at(*one, *two)] |= FIRST_PAIR;
            pairs[pair_at(*three, *four)] |= LAST_PAIR;
        }
        Self {
            pairs,
            bits: bits.into(),
            fragments,
        }
    }

    /// Where the first fragment is in `content[from..]`.
    fn find(&self, content: &[u8], from: usize) -> Option<usize> {
        let mut place = from;
        loop {
            let rest = content.get(place..)?;
            let Some(block) = rest.first_chunk::<{ BLOCK_PLACES + FRAGMENT_BYTES - 1 }>() else {
                let mut last = rest.windows(FRAGMENT_BYTES);
                let has = |bytes: &[u8]| bytes.first_chunk().is_some_and(|b| self.has(*b));
                return Some(place + last.position(has)?);
            };
            if self.may_have(block) {
                let mut places = block.windows(FRAGMENT_BYTES);
                let has = |bytes: &[u8]| bytes.first_chunk().is_some_and(|b| self.has(*b));
                if let Some(at) = places.position(has) {
                    return Some(place + at);
                }
            }
            place += BLOCK_PLACES;
        }
    }

    /// Whether both pairs of bytes at a place of the block are those of fragments.
    fn may_have(&self, block: &[u8; BLOCK_PLACES + FRAGMENT_BYTES - 1]) -> bool {
        let kinds: [u8; BLOCK_PLACES + 2] =
            std::array::from_fn(|at| self.pairs[pair_at(block[at], block[at + 1])]);
        let both = (0..BLOCK_PLACES).map(|at| kinds[at] & (kinds[at + 2] / LAST_PAIR));
        both.fold(0, |all, one| all | one) & FIRST_PAIR != 0
    }

    fn has(&self, fragment: [u8; FRAGMENT_BYTES]) -> bool {
        let (word, bit) = Self::place(fragment);
        self.bits[word] & bit != 0 && self.fragments.contains(&fragment)
    }

    /// The word, and the bit of it, for a fragment.
    fn place(fragment: [u8; FRAGMENT_BYTES]) -> (usize, u64) {
        // Fibonacci hashing: the highest bits of the product depend on all bytes.
        let product = u32::from_le_bytes(fragment).wrapping_mul(0x9e37_79b1);
        let hash = product >> (u32::BITS - FILTER_BITS);
        let word = usize::try_from(hash >> 6).unwrap_or_default();
        (word, 1 << (hash & 63))
    }
}

fn pair_at(one: u8, other: u8) -> usize {
    usize::from(u16::from_le_bytes([one, other]))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needles(strings: &[&str]) -> Needles<String> {
        Needles::new(strings.iter().map(|string| {
            let bytes = Zeroizing::new(string.as_bytes().to_vec());
            (bytes, (*string).to_owned())
        }))
    }

    fn found(needles: &Needles<String>, content: &str) -> Option<(usize, String)> {
        let found = needles.find(content.as_bytes(), 0)?;
        Some((found.range.start, found.meaning.clone()))
    }

    #[test]
    fn b12_of_several_values_the_first_and_then_the_longest_is_found() {
        let all = needles(&["abcd", "abcdefgh", "abcdxx", "bcdefghi", "zzzz"]);
        for (content, expected) in [
            ("", None),
            ("abc", None),
            ("--abcd--", Some((2, "abcd"))),
            ("abcdefg", Some((0, "abcd"))),
            ("abcdefghi", Some((0, "abcdefgh"))),
            ("abcabcdxx", Some((3, "abcdxx"))),
            ("abcdy", Some((0, "abcd"))),
            ("bcdefghi", Some((0, "bcdefghi"))),
            ("zzzzz", Some((0, "zzzz"))),
        ] {
            let expected = expected.map(|(at, name)| (at, name.to_owned()));
            assert_eq!(found(&all, content), expected, "{content}");
        }
        assert_eq!(found(&needles(&[]), "abcd"), None);
        assert_eq!(found(&needles(&["abc"]), "abcd"), None, "too short");
    }

    #[test]
    fn b12_bytes_that_may_become_a_value_are_known() {
        let all = needles(&["abcd", "abcdefgh", "ghijk"]);
        for (content, expected) in [
            ("", 0),
            ("x", 1),
            ("a", 0),
            ("xxabc", 2),
            ("abcd", 0),
            ("abcdefgh", 6),
            ("abcdefg", 0),
            ("abcdeg", 5),
            ("ghijk", 5),
            ("gh", 0),
        ] {
            let place = all.incomplete_from(content.as_bytes(), 0);
            assert_eq!(place, expected, "{content}");
        }
        assert_eq!(all.incomplete_from(b"abcdefg", 1), 6);
    }

    /// The same by comparing at each place.
    pub(in crate::broker) fn naive_find<'s>(
        strings: &'s [Vec<u8>],
        content: &[u8],
        from: usize,
    ) -> Option<(usize, &'s Vec<u8>)> {
        (from..content.len()).find_map(|at| {
            let here = strings.iter().filter(|s| content[at..].starts_with(s));
            here.max_by_key(|s| s.len()).map(|string| (at, string))
        })
    }

    #[test]
    fn b11_many_different_needles_are_found_too() {
        let strings: Vec<String> = (0..4 * MAX_FEW)
            .map(|n| format!("{:08x}", n * 0x9e37_79b1))
            .collect();
        let refs: Vec<&str> = strings.iter().map(String::as_str).collect();
        let all = needles(&refs);
        assert!(matches!(all.fragments, Fragments::Many(_)));
        for string in &strings {
            let content = format!("--{string}--");
            assert_eq!(found(&all, &content), Some((2, string.clone())));
            let begun = &content[..9];
            assert_eq!(all.incomplete_from(begun.as_bytes(), 0), 2, "{begun}");
        }
        let others = (0..100_u32).map(|n| n.wrapping_mul(0x0101_0101).to_string());
        assert_eq!(found(&all, &others.collect::<Vec<_>>().join("-")), None);
    }

    proptest! {
        #[test]
        fn b12_a_filter_finds_the_first_of_many_fragments(
            fragments in prop::collection::vec("[abc]{4}", 1..6),
            content in "[abcd]{0,30}",
            from in 0usize..30,
        ) {
            let refs: Vec<&[u8]> = fragments.iter().map(String::as_bytes).collect();
            let from = from.min(content.len());
            let naive = (from..content.len()).find(|&at| {
                fragments.iter().any(|fragment| content[at..].starts_with(fragment))
            });
            prop_assert_eq!(Filter::new(&refs).find(content.as_bytes(), from), naive);
        }

        #[test]
        fn b12_the_search_finds_what_a_naive_one_finds(
            strings in prop::collection::vec("[ab]{4,7}", 0..6),
            content in "[abc]{0,40}",
            from in 0usize..40,
        ) {
            let from = from.min(content.len());
            let refs: Vec<&str> = strings.iter().map(String::as_str).collect();
            let needles = needles(&refs);
            let plain: Vec<Vec<u8>> = strings.iter().map(|s| s.clone().into_bytes()).collect();
            let found = needles.find(content.as_bytes(), from);
            let found = found.map(|found| (found.range.start, found.meaning.as_bytes().to_vec()));
            let naive = naive_find(&plain, content.as_bytes(), from);
            prop_assert_eq!(found, naive.map(|(at, string)| (at, string.clone())));

            let incomplete = needles.incomplete_from(content.as_bytes(), from);
            let naive = (from..content.len()).find(|&at| {
                let tail = &content.as_bytes()[at..];
                plain.iter().any(|s| s.len() > tail.len() && s.starts_with(tail))
            });
            prop_assert_eq!(incomplete, naive.unwrap_or(content.len()));
        }
    }
}
