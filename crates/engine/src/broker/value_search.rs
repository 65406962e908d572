//! Finds the values of credentials in content, each character of them in any form that encoders write
//! (`escapes`), and in base64 at each of the three places in a group (SPEC B12).
//!
//! The search crate finds the first bytes of these forms, since it does not overwrite its memory. The texts
//! themselves are kept in memory that is overwritten, and compared where their first bytes occur (`walk`).
//!
//! Texts that begin alike are compared together, so the steps at a place are those of the longest one, and one for
//! each text. A value has the same three bytes only a bounded number of times (`dummy::fitness`), so the steps for
//! each byte of content are bounded too.

mod walk;

use std::collections::BTreeMap;
use std::ops::Range;

use zeroize::Zeroizing;

use self::walk::Walk;
use super::encodings::{BASE64_PLACES, base64_at};
use super::escapes::{self, MAX_FORM_BYTES, MAX_WRITTEN_BYTES, Reading};
use super::needles::{FRAGMENT_BYTES, Fragments, MAX_FEW};

/// The bytes of each beginning that is looked for, if those of all texts are few ([`MAX_FEW`]): the search crate
/// reads content twice as fast as with those of [`FRAGMENT_BYTES`], of which there are twice as many.
const SHORT_BYTES: usize = 3;
/// No character of a value, and a part of no form: it stands for the end of content.
const END: u8 = 0;

/// Values to find.
pub(super) struct ValueSearch {
    /// Those in base64 last, and both in the order of their bytes. No two of one kind are equal.
    texts: Vec<SearchedText>,
    /// The number of those that are not in base64.
    plain_texts: usize,
    /// The bytes of each beginning.
    beginning_bytes: usize,
    /// Finds where a text may begin.
    beginnings: Fragments,
    /// Each beginning in the order of their bytes, and the kinds of texts that have it.
    begun: Vec<(Vec<u8>, TextKinds)>,
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

/// Whether texts in base64, and others, are among some.
#[derive(Clone, Copy, Default)]
struct TextKinds {
    plain: bool,
    base64: bool,
}

/// How far content is searched, so that nothing is searched again when more of it comes.
#[derive(Default)]
pub(super) struct SearchProgress {
    /// No text begins before this place.
    from: usize,
    /// Whether a beginning was found there.
    has_begun: bool,
    /// The texts that may begin there and are not decided.
    ongoing: Vec<Walk>,
    /// Memory for those that are compared now.
    walks: Vec<Walk>,
    /// The length and number of the longest text that begins there, of those that are decided.
    longest: Option<(usize, usize)>,
}

/// The result of a search.
pub(super) enum SearchResult<'s> {
    /// The first place with a text, and of those that begin there, the longest.
    Found(Range<usize>, &'s SearchedText),
    /// A text may begin here that later bytes complete. No text begins before.
    Incomplete(usize),
    Nothing,
}

/// Whether more content may come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentEnd {
    /// More may come.
    Open,
    Last,
}

impl ValueSearch {
    /// Takes values. Those of fewer than [`FRAGMENT_BYTES`] bytes are left out.
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
                if text.len() >= FRAGMENT_BYTES {
                    texts.push(SearchedText {
                        text,
                        value,
                        encoding,
                    });
                }
            }
        }
        texts.sort_by(|one, other| one.sort_key().cmp(&other.sort_key()));
        texts.dedup_by(|later, earlier| later.sort_key() == earlier.sort_key());
        let mut beginning_bytes = SHORT_BYTES;
        let mut begun = beginnings(&texts, beginning_bytes);
        if begun.len() > MAX_FEW {
            beginning_bytes = FRAGMENT_BYTES;
            begun = beginnings(&texts, beginning_bytes);
        }
        let mut first_bytes = [false; 256];
        for beginning in begun.keys() {
            first_bytes[usize::from(beginning[0])] = true;
        }
        let keys: Vec<&[u8]> = begun.keys().map(Vec::as_slice).collect();
        let beginnings = Fragments::new(&keys);
        let longest = texts.iter().map(|text| text.text.len()).max().unwrap_or(0);
        Self {
            plain_texts: texts.partition_point(|text| !text.is_base64()),
            texts,
            beginning_bytes,
            beginnings,
            begun: begun.into_iter().collect(),
            first_bytes,
            max_bytes: MAX_WRITTEN_BYTES * longest,
        }
    }

    /// Searches content, and goes on where an earlier search of its beginning has stopped. If no more content comes,
    /// nothing is incomplete.
    pub(super) fn search(
        &self,
        content: &[u8],
        progress: &mut SearchProgress,
        end: ContentEnd,
    ) -> SearchResult<'_> {
        loop {
            if let Some(result) = self.compare(content, progress, end) {
                return result;
            }
            let Some(begin) = self.beginnings.find(content, progress.from) else {
                break;
            };
            progress.from = begin;
            let beginning = &content[begin..begin + self.beginning_bytes];
            let found = self
                .begun
                .binary_search_by(|(text, _)| text[..].cmp(beginning));
            let kinds = found.map_or(TextKinds::default(), |at| self.begun[at].1);
            progress.begin(self.walks(kinds));
        }
        if end == ContentEnd::Last {
            progress.from = content.len();
            return SearchResult::Nothing;
        }
        // The last bytes are no whole beginning. They are looked at again when it has come.
        let last = content.len().saturating_sub(self.beginning_bytes - 1);
        for begin in last.max(progress.from)..content.len() {
            if self.may_begin(&content[begin..]) {
                progress.from = begin;
                return SearchResult::Incomplete(begin);
            }
        }
        progress.from = content.len();
        SearchResult::Nothing
    }

    /// Goes on with the comparisons at the place of the search, if they have begun. Without a result, the place is
    /// passed.
    fn compare(
        &self,
        content: &[u8],
        progress: &mut SearchProgress,
        end: ContentEnd,
    ) -> Option<SearchResult<'_>> {
        if !progress.has_begun {
            return None;
        }
        let from = progress.from;
        std::mem::swap(&mut progress.walks, &mut progress.ongoing);
        while let Some(walk) = progress.walks.pop() {
            self.step(&content[from..], end, walk, progress);
        }
        if !progress.ongoing.is_empty() && end == ContentEnd::Open {
            return Some(SearchResult::Incomplete(from));
        }
        if let Some((length, text)) = progress.longest {
            return Some(SearchResult::Found(from..from + length, &self.texts[text]));
        }
        progress.go_to(from + 1);
        None
    }

    /// Whether a text may begin with the last bytes of content, which are fewer than a beginning has.
    fn may_begin(&self, tail: &[u8]) -> bool {
        if !self.first_bytes[usize::from(tail[0])] {
            return false;
        }
        let first = self.begun.partition_point(|(text, _)| &text[..] < tail);
        let begun = self.begun[first..].iter();
        let begun = begun.take_while(|(text, _)| text.starts_with(tail));
        let kinds = begun.fold(TextKinds::default(), |all, (_, kinds)| all.or(*kinds));
        let mut progress = SearchProgress::default();
        progress.begin(self.walks(kinds));
        let result = self.compare(tail, &mut progress, ContentEnd::Open);
        matches!(result, Some(SearchResult::Incomplete(_)))
    }

    /// The most bytes in which a text is written.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// The beginnings of texts, in so many bytes.
fn beginnings(texts: &[SearchedText], bytes: usize) -> BTreeMap<Vec<u8>, TextKinds> {
    let mut begun: BTreeMap<_, TextKinds> = BTreeMap::new();
    for text in texts {
        for beginning in text.beginnings(bytes) {
            let kinds = begun.entry(beginning).or_default();
            kinds.plain |= !text.is_base64();
            kinds.base64 |= text.is_base64();
        }
    }
    begun
}

impl TextKinds {
    fn or(self, other: Self) -> Self {
        Self {
            plain: self.plain || other.plain,
            base64: self.base64 || other.base64,
        }
    }
}

impl SearchProgress {
    /// Searches on from a place.
    pub(super) fn go_to(&mut self, place: usize) {
        self.from = place;
        self.ongoing.clear();
        self.longest = None;
        self.has_begun = false;
    }

    /// The first bytes of the content, in which no text begins, are away.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.from = self.from.saturating_sub(bytes);
    }

    /// Compares texts at the place of the search.
    fn begin(&mut self, walks: impl Iterator<Item = Walk>) {
        self.ongoing.extend(walks);
        self.has_begun = true;
    }
}

impl SearchedText {
    fn is_base64(&self) -> bool {
        self.encoding != TextEncoding::Plain
    }

    fn sort_key(&self) -> (bool, &[u8]) {
        (self.is_base64(), self.text.as_bytes())
    }

    /// The character behind so many bytes; `None` at the end.
    fn char_at(&self, bytes: usize) -> Option<char> {
        self.text[bytes..].chars().next()
    }

    /// Looks for a character of the text at the beginning of content. Base64 has two alphabets.
    pub(super) fn read(&self, content: &[u8], character: char) -> Reading {
        match (escapes::read(content, character), self.twin(character)) {
            (Reading::Differs, Some(twin)) => escapes::read(content, twin),
            (reading, _) => reading,
        }
    }

    /// The character of the alphabet for URLs that stands for this one.
    fn twin(&self, character: char) -> Option<char> {
        match (self.encoding, character) {
            (TextEncoding::Base64(_), '+') => Some('-'),
            (TextEncoding::Base64(_), '/') => Some('_'),
            _ => None,
        }
    }

    /// Whether it is written there in the alphabet for URLs.
    pub(super) fn is_url_safe(&self, raw: &[u8]) -> bool {
        let mut place = 0;
        for character in self.chars() {
            let rest = &raw[place..];
            let Reading::Is(length, _) = self.read_last(rest, character) else {
                return false;
            };
            let form = &rest[..length];
            if let Some(twin) = self.twin(character)
                && escapes::forms(twin, false).iter().any(|one| one == form)
            {
                return true;
            }
            place += length;
        }
        false
    }

    /// The same at the end of all content.
    pub(super) fn read_last(&self, content: &[u8], character: char) -> Reading {
        // A form and the byte behind it decide. The whole content would be copied for each character.
        let mut ended = Zeroizing::new([END; MAX_FORM_BYTES + 2]);
        let length = content.len().min(MAX_FORM_BYTES + 1);
        count_copied(length);
        ended[..length].copy_from_slice(&content[..length]);
        self.read(&ended[..=length], character)
    }

    /// Whether it is written there without escapes.
    pub(super) fn is_plainly(&self, raw: &[u8]) -> bool {
        self.text.as_bytes() == raw
    }

    /// Its characters.
    pub(super) fn chars(&self) -> impl Iterator<Item = char> {
        self.text.chars()
    }

    /// The first bytes, so many, of all forms that encoders write.
    fn beginnings(&self, bytes: usize) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        let mut partial = vec![Vec::new()];
        for (at, character) in self.text.chars().enumerate() {
            let mut longer = Vec::new();
            for begun in partial {
                let is_begun = begun.first().is_some_and(|first| b"%\\&".contains(first));
                let every = at == 0 || is_begun;
                let mut forms = escapes::forms(character, every);
                if let Some(twin) = self.twin(character) {
                    forms.extend(escapes::forms(twin, every));
                }
                if self.is_base64() && is_begun {
                    // Base64 is encoded again by one encoder.
                    forms.retain(|form| form.len() == 1 || form[0] == begun[0]);
                }
                longer.extend(forms.into_iter().map(|form| [&begun[..], &form].concat()));
            }
            partial = Vec::new();
            for mut text in longer {
                if text.len() < bytes {
                    partial.push(text);
                } else {
                    text.truncate(bytes);
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
#[cfg(not(test))]
const fn count_copied(_bytes: usize) {}

#[cfg(test)]
use tests::{count_copied, count_step};

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::fmt::Write as _;

    use super::*;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
        static COPIED: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count_copied(bytes: usize) {
        COPIED.set(COPIED.get() + bytes);
    }

    /// The bytes that some work copies to read the end of content.
    pub(in crate::broker) fn copied_by(work: impl FnOnce()) -> usize {
        COPIED.set(0);
        work();
        COPIED.get()
    }

    pub(in crate::broker) fn count_step() {
        STEPS.set(STEPS.get() + 1);
    }

    fn found(values: &[&str], content: &str) -> Option<(Range<usize>, usize)> {
        let search = ValueSearch::new(values.iter().copied());
        match search.search(
            content.as_bytes(),
            &mut SearchProgress::default(),
            ContentEnd::Last,
        ) {
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
            let place = match search.search(
                content.as_bytes(),
                &mut SearchProgress::default(),
                ContentEnd::Open,
            ) {
                SearchResult::Incomplete(place) => Some(place),
                _ => None,
            };
            assert_eq!(place, expected, "{content}");
        }
    }

    #[test]
    fn b12_a_value_has_few_beginnings() {
        for (value, most) in [
            ("sk-proj-abcdefgh", 23),
            ("a/b+c=d&e", 40),
            ("/+=&/+=&abcdefgh", 64),
        ] {
            let search = ValueSearch::new([value]);
            assert_eq!(search.beginning_bytes, SHORT_BYTES);
            assert!(search.begun.len() <= most, "{value} {}", search.begun.len());
        }
    }

    #[test]
    fn b12_of_many_values_each_is_found() {
        let values: Vec<String> = (10..40).map(|n| format!("{n}-abcdefgh")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(
            ValueSearch::new(values.clone()).beginning_bytes,
            FRAGMENT_BYTES
        );
        for (at, value) in values.iter().enumerate() {
            let content = format!("--{value}--");
            assert_eq!(found(&values, &content), Some((2..13, at)), "{value}");
        }
    }

    /// The steps that some work takes.
    pub(in crate::broker) fn steps_of(work: impl FnOnce()) -> usize {
        STEPS.set(0);
        work();
        STEPS.get()
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
            let mut progress = SearchProgress::default();
            let result = search.search(content.as_bytes(), &mut progress, ContentEnd::Last);
            assert!(matches!(result, SearchResult::Nothing));
            let steps = STEPS.get();
            assert!(steps > content.len() / 5, "{steps} steps");
            assert!(steps < 40 * content.len(), "{steps} steps");
        }
    }
}
