//! Finds the values of credentials in content, each character of them in any form that encoders write
//! (`escapes`), and in base64 at each of the three places in a group (SPEC B12).
//!
//! The search crate finds the first bytes of these forms, since it does not overwrite its memory. The texts
//! themselves are kept in memory that is overwritten, and compared where their first bytes occur.
//!
//! A comparison stops at the first character that differs, and a value has the same three bytes only a bounded
//! number of times (`dummy::fitness`), so the steps for each byte of content are bounded too.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, Input, MatchKind};
use zeroize::Zeroizing;

use super::encodings::{BASE64_PLACES, base64_at};
use super::escapes::{self, MAX_WRITTEN_BYTES, Reading};

/// The bytes of each beginning that the search crate gets. A text is at least as long.
const BEGINNING_BYTES: usize = 4;

/// Values to find.
pub(super) struct ValueSearch {
    texts: Vec<SearchedText>,
    /// Finds where a text may begin; `None` without texts.
    beginnings: Option<AhoCorasick>,
    /// Each beginning in the order of their bytes, and the texts that have it.
    begun: Vec<(Vec<u8>, Vec<usize>)>,
    /// Whether a beginning has this byte first.
    first_bytes: [bool; 256],
    max_bytes: usize,
}

/// A value, or a value in base64.
pub(super) struct SearchedText {
    text: Zeroizing<String>,
    /// The number of the value.
    pub(super) value: usize,
    pub(super) encoding: TextEncoding,
}

/// The encoding of a text, before its characters are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextEncoding {
    Plain,
    /// In base64. The value begins at this byte of a group of three.
    Base64(usize),
}

/// The result of a search.
pub(super) enum SearchResult<'s> {
    /// The first place with a text, and of those that begin there, the longest.
    Found(Range<usize>, &'s SearchedText),
    /// A text may begin here that later bytes complete. No text begins before.
    Incomplete(usize),
    Nothing,
}

impl ValueSearch {
    /// Takes values. Those of fewer than [`BEGINNING_BYTES`] bytes are left out.
    pub(super) fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut texts = Vec::new();
        for (value, text) in values.into_iter().enumerate() {
            let plain = (TextEncoding::Plain, Zeroizing::new(text.to_owned()));
            let base64 = (0..BASE64_PLACES).map(|place| {
                (
                    TextEncoding::Base64(place),
                    base64_at(text.as_bytes(), place),
                )
            });
            for (encoding, text) in [plain].into_iter().chain(base64) {
                if text.len() >= BEGINNING_BYTES {
                    texts.push(SearchedText {
                        text,
                        value,
                        encoding,
                    });
                }
            }
        }
        let mut begun: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (number, text) in texts.iter().enumerate() {
            for beginning in text.beginnings() {
                begun.entry(beginning).or_default().push(number);
            }
        }
        let mut first_bytes = [false; 256];
        for beginning in begun.keys() {
            first_bytes[usize::from(beginning[0])] = true;
        }
        let beginnings = (!begun.is_empty()).then(|| {
            // All are of one length, so the kind matters for speed only: vector instructions need it.
            AhoCorasickBuilder::new()
                .match_kind(MatchKind::LeftmostFirst)
                .build(begun.keys())
                .expect("the beginnings are few and short")
        });
        let longest = texts.iter().map(|text| text.text.len()).max().unwrap_or(0);
        Self {
            texts,
            beginnings,
            begun: begun.into_iter().collect(),
            first_bytes,
            max_bytes: MAX_WRITTEN_BYTES * longest,
        }
    }

    /// Searches `content[from..]`. If it is the last content, nothing is incomplete.
    pub(super) fn search(&self, content: &[u8], from: usize, is_last: bool) -> SearchResult<'_> {
        let Some(beginnings) = &self.beginnings else {
            return SearchResult::Nothing;
        };
        let mut next = from;
        while let Some(found) = beginnings.find(Input::new(content).range(next..)) {
            let begin = found.start();
            let (_, texts) = &self.begun[found.pattern().as_usize()];
            if let Some(result) = self.compare(content, begin, is_last, texts.iter().copied()) {
                return result;
            }
            next = begin + 1;
        }
        let last = content.len().saturating_sub(BEGINNING_BYTES - 1);
        let last = if is_last {
            content.len()
        } else {
            last.max(from)
        };
        for begin in last..content.len() {
            let tail = &content[begin..];
            if !self.first_bytes[usize::from(tail[0])] {
                continue;
            }
            let first = self.begun.partition_point(|(text, _)| &text[..] < tail);
            let begun = self.begun[first..].iter();
            let begun = begun.take_while(|(text, _)| text.starts_with(tail));
            let texts = begun.flat_map(|(_, texts)| texts.iter().copied());
            if let Some(result) = self.compare(content, begin, is_last, texts) {
                return result;
            }
        }
        SearchResult::Nothing
    }

    fn compare(
        &self,
        content: &[u8],
        begin: usize,
        is_last: bool,
        texts: impl Iterator<Item = usize>,
    ) -> Option<SearchResult<'_>> {
        let mut longest: Option<(usize, &SearchedText)> = None;
        for text in texts {
            let text = &self.texts[text];
            match text.compare(&content[begin..]) {
                Comparison::Begins(length) => {
                    if longest.is_none_or(|(longest, _)| length > longest) {
                        longest = Some((length, text));
                    }
                }
                Comparison::Incomplete if !is_last => {
                    return Some(SearchResult::Incomplete(begin));
                }
                Comparison::Incomplete | Comparison::Differs => {}
            }
        }
        let (length, text) = longest?;
        Some(SearchResult::Found(begin..begin + length, text))
    }

    /// The most bytes in which a text is written.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// A text beside the beginning of content.
enum Comparison {
    /// The content begins with it, in so many bytes.
    Begins(usize),
    /// The content ends before it.
    Incomplete,
    Differs,
}

impl SearchedText {
    fn compare(&self, content: &[u8]) -> Comparison {
        if content.starts_with(self.text.as_bytes()) {
            return Comparison::Begins(self.text.len());
        }
        let mut at = 0;
        for character in self.text.chars() {
            count_step();
            match self.read(&content[at..], character) {
                Reading::Is(length, _) => at += length,
                // The character itself may begin another form of it, such as `%`.
                Reading::Differs if self.text.as_bytes().starts_with(content) => {
                    return Comparison::Incomplete;
                }
                Reading::Differs => return Comparison::Differs,
                Reading::Incomplete => return Comparison::Incomplete,
            }
        }
        Comparison::Begins(at)
    }

    /// Looks for a character of the text at the beginning of content. Base64 has two alphabets.
    pub(super) fn read(&self, content: &[u8], character: char) -> Reading {
        let twin = match (self.encoding, character) {
            (TextEncoding::Base64(_), '+') => '-',
            (TextEncoding::Base64(_), '/') => '_',
            _ => return escapes::read(content, character),
        };
        match escapes::read(content, character) {
            Reading::Differs => escapes::read(content, twin),
            reading => reading,
        }
    }

    /// Whether it is written there without escapes.
    pub(super) fn is_plainly(&self, raw: &[u8]) -> bool {
        self.text.as_bytes() == raw
    }

    /// Its characters.
    pub(super) fn chars(&self) -> impl Iterator<Item = char> {
        self.text.chars()
    }

    /// The first bytes of all forms that encoders write.
    fn beginnings(&self) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        let mut partial = vec![Vec::new()];
        for (at, character) in self.text.chars().enumerate() {
            // Base64 is encoded again only where it must be.
            let every = self.encoding == TextEncoding::Plain;
            let mut longer = Vec::new();
            for begun in partial {
                let is_begun = begun.first().is_some_and(|first| b"%\\&".contains(first));
                let mut forms = escapes::forms(character, every && (at == 0 || is_begun));
                if let (TextEncoding::Base64(_), '+') = (self.encoding, character) {
                    forms.push(b"-".to_vec());
                }
                if let (TextEncoding::Base64(_), '/') = (self.encoding, character) {
                    forms.push(b"_".to_vec());
                }
                longer.extend(forms.into_iter().map(|form| [&begun[..], &form].concat()));
            }
            partial = Vec::new();
            for mut text in longer {
                if text.len() < BEGINNING_BYTES {
                    partial.push(text);
                } else {
                    text.truncate(BEGINNING_BYTES);
                    complete.push(text);
                }
            }
            partial.sort();
            partial.dedup();
        }
        complete.sort();
        complete.dedup();
        complete
    }
}

#[cfg(not(test))]
const fn count_step() {}

#[cfg(test)]
use tests::count_step;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::fmt::Write as _;

    use super::*;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count_step() {
        STEPS.set(STEPS.get() + 1);
    }

    fn found(values: &[&str], content: &str) -> Option<(Range<usize>, usize)> {
        let search = ValueSearch::new(values.iter().copied());
        match search.search(content.as_bytes(), 0, true) {
            SearchResult::Found(range, text) => Some((range, text.value)),
            _ => None,
        }
    }

    #[test]
    fn b12_of_several_values_the_first_and_then_the_longest_is_found() {
        let values = ["abcd", "abcdefgh", "abcdxx", "bcdefghi", "zzzz"];
        for (content, expected) in [
            ("", None),
            ("abc", None),
            ("--abcd--", Some((2..6, 0))),
            ("abcdefg", Some((0..4, 0))),
            ("abcdefghi", Some((0..8, 1))),
            ("abcabcdxx", Some((3..9, 2))),
            ("abcdy", Some((0..4, 0))),
            ("bcdefghi", Some((0..8, 3))),
            ("zzzzz", Some((0..4, 4))),
            ("%61%62%63%64", Some((0..12, 0))),
        ] {
            assert_eq!(found(&values, content), expected, "{content}");
        }
        assert_eq!(found(&[], "abcd"), None);
    }

    #[test]
    fn b12_bytes_that_may_become_a_value_are_known() {
        let search = ValueSearch::new(["a/cdefgh", "a/cdefghijkl", "%25xyzvw"]);
        for (content, expected) in [
            ("", None),
            ("x", None),
            ("xa", Some(1)),
            ("xa%", Some(1)),
            ("xa%2", Some(1)),
            ("xa%2F", Some(1)),
            ("xa%3F", None),
            (r"xa\", Some(1)),
            (r"xa\u002", Some(1)),
            ("xa&#4", Some(1)),
            ("a/cdefgh", Some(0)),
            ("a/cdefghx", None),
            ("a/cdefgx", None),
            ("%25xyz", Some(0)),
            ("%2525xyz", Some(0)),
            ("%252x", None),
        ] {
            let place = match search.search(content.as_bytes(), 0, false) {
                SearchResult::Incomplete(place) => Some(place),
                _ => None,
            };
            assert_eq!(place, expected, "{content}");
        }
    }

    #[test]
    fn b12_a_value_has_few_beginnings() {
        for (value, most) in [
            ("sk-proj-abcdefgh", 17),
            ("a/b+c=d&e", 40),
            ("/+=&/+=&abcdefgh", 200),
        ] {
            let search = ValueSearch::new([value]);
            assert!(search.begun.len() <= most, "{value} {}", search.begun.len());
        }
    }

    #[test]
    fn b12_content_like_a_repetitive_value_costs_bounded_steps_for_each_byte() {
        // As repetitive as a value may be.
        let mut value = "abcde".repeat(32);
        while value.len() < 4096 {
            let number = value.len();
            let _infallible = write!(value, "{:x}", number * number * 977);
        }
        let content = "abcde".repeat(4000) + &value[..4000];
        let search = ValueSearch::new([&*value]);
        for content in [content.clone(), content.replace('e', "%65")] {
            STEPS.set(0);
            let result = search.search(content.as_bytes(), 0, true);
            assert!(matches!(result, SearchResult::Nothing));
            let steps = STEPS.get();
            assert!(steps > content.len() / 5, "{steps} steps");
            assert!(steps < 40 * content.len(), "{steps} steps");
        }
    }
}
