//! Finds dummies in requests, where they must not be: in a target, in header fields, and at the
//! beginning of content (SPEC B11). The caller decides which of them are refused.
//!
//! A dummy is found as it is, percent-encoded, and in base64. A change of case makes another string, which
//! stands for no credential.

use zeroize::Zeroizing;

use super::encodings::{BASE64_PLACES, base64_at, url_safe};
use super::needles::Needles;

/// The bytes at the beginning of a request's content that are searched.
pub(crate) const MAX_SEARCHED_BYTES: usize = 64 << 10;
/// How often a text is decoded: a target may be percent-encoded again when it becomes a part of another.
const MAX_DECODINGS: usize = 3;

/// The dummies that are looked for, each with its owner.
pub(crate) struct Tripwire<T> {
    needles: Needles<T>,
}

/// The content of one request, which arrives in pieces. Each piece is searched with the tripwire of its time, so
/// that an upload keeps no earlier one alive.
pub(crate) struct SearchedContent {
    /// The bytes that are still searched.
    remaining: usize,
    plain: Window,
    decoded: Window,
    decoder: PercentDecoder,
}

/// The end of the bytes so far, if a dummy may have begun there.
#[derive(Default, PartialEq)]
struct Window(Vec<u8>);

/// Undoes percent-encoding. Other bytes, incomplete escapes among them, stay as they are.
#[derive(Default)]
struct PercentDecoder {
    /// `%`, and the first digit.
    pending: Vec<u8>,
}

impl<T: Clone> Tripwire<T> {
    /// Takes the dummies and their owners.
    pub(crate) fn new<'a>(dummies: impl IntoIterator<Item = (&'a [u8], T)>) -> Self {
        let mut strings = Vec::new();
        for (dummy, owner) in dummies {
            let mut add = |text: &[u8]| {
                strings.push((Zeroizing::new(text.to_vec()), owner.clone()));
            };
            add(dummy);
            for place in 0..BASE64_PLACES {
                let standard = base64_at(dummy, place);
                let other = url_safe(&standard);
                add(standard.as_bytes());
                if other != *standard {
                    add(other.as_bytes());
                }
            }
        }
        Self {
            needles: Needles::new(strings),
        }
    }

    /// Whether it finds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.needles.max_bytes() == 0
    }

    /// The owner of the first dummy in a text, such as a target or the value of a field, of those whose
    /// owner fits.
    pub(crate) fn find(&self, text: &[u8], fits: impl Fn(&T) -> bool) -> Option<&T> {
        let mut decoded;
        let mut text = text;
        for _ in 0..MAX_DECODINGS {
            if let Some(owner) = self.find_plain(text, &fits) {
                return Some(owner);
            }
            if !text.contains(&b'%') {
                return None;
            }
            decoded = PercentDecoder::whole(text);
            text = &decoded;
        }
        self.find_plain(text, &fits)
    }

    fn find_plain(&self, text: &[u8], fits: &impl Fn(&T) -> bool) -> Option<&T> {
        let mut from = 0;
        while let Some(found) = self.needles.find(text, from) {
            if fits(found.meaning) {
                return Some(found.meaning);
            }
            from = found.range.start + 1;
        }
        None
    }
}

impl<T: Clone> Default for Tripwire<T> {
    fn default() -> Self {
        Self::new([])
    }
}

impl SearchedContent {
    /// Content that has not begun.
    pub(crate) fn new() -> Self {
        Self {
            remaining: MAX_SEARCHED_BYTES,
            plain: Window::default(),
            decoded: Window::default(),
            decoder: PercentDecoder::default(),
        }
    }

    /// Takes the next piece. The owner of a dummy that ends in it, of those whose owner fits.
    ///
    /// A dummy that the tripwire of an earlier piece did not have is found if it begins in this one, or in bytes that
    /// may have been another dummy.
    pub(crate) fn push<T: Clone>(
        &mut self,
        tripwire: &Tripwire<T>,
        piece: &[u8],
        fits: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let piece = &piece[..piece.len().min(self.remaining)];
        self.remaining -= piece.len();
        let is_plain =
            self.plain == self.decoded && self.decoder.pending.is_empty() && !piece.contains(&b'%');
        if let Some(owner) = self.plain.search(tripwire, piece, &fits) {
            return Some(owner);
        }
        if is_plain {
            self.decoded.0.clone_from(&self.plain.0);
            return None;
        }
        let mut decoded = Vec::with_capacity(piece.len() + 2);
        self.decoder.decode(piece, &mut decoded);
        self.decoded.search(tripwire, &decoded, &fits)
    }

    /// Whether later bytes are not searched.
    pub(crate) fn is_complete(&self) -> bool {
        self.remaining == 0
    }
}

impl Window {
    fn search<T: Clone>(
        &mut self,
        tripwire: &Tripwire<T>,
        piece: &[u8],
        fits: &impl Fn(&T) -> bool,
    ) -> Option<T> {
        let joined;
        let content = if self.0.is_empty() {
            piece
        } else {
            self.0.extend_from_slice(piece);
            joined = std::mem::take(&mut self.0);
            &joined
        };
        let found = tripwire.find_plain(content, fits).cloned();
        let incomplete = tripwire.needles.incomplete_from(content, 0);
        self.0 = content[incomplete..].to_vec();
        found
    }
}

impl PercentDecoder {
    fn whole(text: &[u8]) -> Vec<u8> {
        let mut decoder = Self::default();
        let mut bytes = Vec::with_capacity(text.len());
        decoder.decode(text, &mut bytes);
        bytes.append(&mut decoder.pending);
        bytes
    }

    fn decode(&mut self, piece: &[u8], decoded: &mut Vec<u8>) {
        for &byte in piece {
            let digit = (byte as char).to_digit(16);
            match (&self.pending[..], digit) {
                ([_], Some(_)) => self.pending.push(byte),
                (&[_, high], Some(low)) => {
                    let high = (high as char).to_digit(16).unwrap_or_default();
                    decoded.extend(u8::try_from(high << 4 | low));
                    self.pending.clear();
                }
                _ => {
                    decoded.append(&mut self.pending);
                    if byte == b'%' {
                        self.pending.push(byte);
                    } else {
                        decoded.push(byte);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    const GITHUB: &str = "ghp_maskedT3q8Zx0fLw2nUe7RbVyKs5Hd1c9A";
    const OPENAI: &str = "sk-proj-maskedQ0b7Wn/2x+Lf9Zt4Rk8Yv1Ms";

    fn tripwire() -> Tripwire<&'static str> {
        let dummies = [GITHUB, OPENAI].map(|dummy| (dummy.as_bytes(), dummy));
        Tripwire::new(dummies)
    }

    /// Every byte as `%XX`, in alternating case.
    fn percent(text: &str) -> String {
        let bytes = text.bytes().enumerate();
        bytes
            .map(|(at, byte)| match at % 2 {
                0 => format!("%{byte:02X}"),
                _ => format!("%{byte:02x}"),
            })
            .collect()
    }

    /// Whether the content has a dummy that is found, for each of these splits.
    fn search(content: &[u8], pieces: usize) -> Option<&'static str> {
        let tripwire = tripwire();
        let mut searched = SearchedContent::new();
        let mut pieces = content.chunks(pieces);
        pieces.find_map(|piece| searched.push(&tripwire, piece, |_| true))
    }

    fn forms(dummy: &str) -> Vec<String> {
        let halves = dummy.split_at(9);
        vec![
            dummy.to_owned(),
            format!("x{dummy}x"),
            percent(dummy),
            format!("{}{}", halves.0, percent(halves.1)),
            format!("%{}%4{}", percent(halves.0), halves.1),
            STANDARD.encode(dummy),
            STANDARD.encode(format!("x-access-token:{dummy}")),
            STANDARD.encode(format!("me:{dummy}\n")),
            STANDARD.encode(format!("user:{dummy}:")),
            URL_SAFE.encode(format!("me:{dummy}")),
            percent(&URL_SAFE.encode(format!("user:{dummy}"))),
        ]
    }

    #[test]
    fn b11_a_dummy_is_found_in_each_form_at_every_split() {
        let tripwire = tripwire();
        for dummy in [GITHUB, OPENAI] {
            for form in forms(dummy) {
                // `%4` before the second half makes another text in both ways of reading.
                let expected = (!form.contains("%%")).then_some(dummy);
                let content = format!("{{\"a\": \"{form}\"}}");
                let content = content.as_bytes();
                assert_eq!(
                    tripwire.find(content, |_| true).copied(),
                    expected,
                    "{form}"
                );
                for size in [1, 2, 3, 5, 7, content.len()] {
                    assert_eq!(search(content, size), expected, "{form} {size}");
                }
                for at in 0..content.len() {
                    let mut searched = SearchedContent::new();
                    let (one, other) = content.split_at(at);
                    let found = searched.push(&tripwire, one, |_| true);
                    let found = found.or_else(|| searched.push(&tripwire, other, |_| true));
                    assert_eq!(found, expected, "{form} {at}");
                }
            }
        }
    }

    #[test]
    fn b11_a_part_of_a_dummy_or_another_case_is_not_found() {
        for text in [
            GITHUB[1..].to_owned(),
            GITHUB[..GITHUB.len() - 1].to_owned(),
            GITHUB.to_lowercase(),
            GITHUB.to_uppercase(),
            GITHUB.replace("mask", "mask "),
            "ghp_masked".to_owned(),
            "%".repeat(100),
            "%67%".repeat(30),
        ] {
            assert_eq!(tripwire().find(text.as_bytes(), |_| true), None, "{text}");
            assert_eq!(search(text.as_bytes(), 1), None, "{text}");
        }
    }

    #[test]
    fn b11_a_target_may_be_encoded_more_than_once() {
        let text = percent(&percent(GITHUB));
        let text = format!("/login?next={text}");
        assert_eq!(tripwire().find(text.as_bytes(), |_| true), Some(&GITHUB));
    }

    #[test]
    fn b11_a_dummy_of_an_owner_that_does_not_fit_hides_no_other() {
        let text = format!("{GITHUB}{OPENAI}");
        let found = tripwire()
            .find(text.as_bytes(), |owner| *owner == OPENAI)
            .copied();
        assert_eq!(found, Some(OPENAI));
        let mut searched = SearchedContent::new();
        let found = searched.push(&tripwire(), text.as_bytes(), |owner| *owner == OPENAI);
        assert_eq!(found, Some(OPENAI));
    }

    #[test]
    fn b11_the_first_64_kib_of_content_are_searched() {
        for (before, found) in [
            (MAX_SEARCHED_BYTES - GITHUB.len(), true),
            (MAX_SEARCHED_BYTES - GITHUB.len() + 1, false),
        ] {
            let content = format!("{}{GITHUB}", "-".repeat(before));
            for size in [1000, 1 << 20] {
                let expected = found.then_some(GITHUB);
                assert_eq!(search(content.as_bytes(), size), expected, "{before}");
            }
        }
        let mut searched = SearchedContent::new();
        assert!(!searched.is_complete());
        let found = searched.push(&tripwire(), &vec![b'-'; MAX_SEARCHED_BYTES], |_| true);
        assert_eq!(found, None);
        assert!(searched.is_complete());
    }

    #[test]
    fn b11_a_dummy_that_becomes_known_during_an_upload_is_found() {
        let of = |dummy: &'static str| Tripwire::new([(dummy.as_bytes(), dummy)]);
        let (earlier, later) = (of(GITHUB), of(OPENAI));
        for before in ["", "key=", "%", &GITHUB[..12], &percent(&GITHUB[..12])] {
            for form in [OPENAI.to_owned(), percent(OPENAI)] {
                let mut searched = SearchedContent::new();
                assert_eq!(searched.push(&earlier, before.as_bytes(), |_| true), None);
                let found = searched.push(&later, form.as_bytes(), |_| true);
                assert_eq!(found, Some(OPENAI), "{before} {form}");
            }
        }
    }

    proptest! {
        #[test]
        fn b11_content_is_searched_alike_in_any_pieces(
            dummy in "[ab]{8,12}",
            pieces in prop::collection::vec("(a|b|%61|%62|%6|%){0,8}", 0..8),
        ) {
            let tripwire = Tripwire::new([(dummy.as_bytes(), ())]);
            let whole = pieces.concat();
            let decoded = PercentDecoder::whole(whole.as_bytes());
            let has = |text: &[u8]| text.windows(dummy.len()).any(|w| w == dummy.as_bytes());
            let expected = has(whole.as_bytes()) || has(&decoded);
            let mut searched = SearchedContent::new();
            let found = pieces
                .iter()
                .any(|piece| searched.push(&tripwire, piece.as_bytes(), |()| true).is_some());
            prop_assert_eq!(found, expected);
            let mut searched = SearchedContent::new();
            let found = searched.push(&tripwire, whole.as_bytes(), |()| true).is_some();
            prop_assert_eq!(found, expected);
        }
    }
}
