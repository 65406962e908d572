//! Compares the texts that begin alike with content, all at once. Where they part, each part goes its own way.

use std::ops::Range;

use super::{ContentEnd, SearchProgress, SearchedText, TextKinds, ValueSearch, count_step};
use crate::broker::escapes::{self, MAX_FORM_BYTES, Reading};

/// Texts whose beginning the content has.
pub(super) struct Walk {
    /// Neighbours in their order. They begin alike, up to `read`.
    texts: Range<usize>,
    /// The bytes of that beginning.
    read: usize,
    /// The bytes of the content in which it is written.
    place: usize,
    way: Way,
}

/// How the content is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each byte stands for itself: a text may contain what looks like an escape.
    Literal,
    /// Each character may have any form.
    Escaped,
}

impl ValueSearch {
    /// The comparisons of all texts of these kinds with content.
    pub(super) fn walks(&self, kinds: TextKinds) -> impl Iterator<Item = Walk> {
        let plain = 0..self.plain_texts;
        let base64 = self.plain_texts..self.texts.len();
        let texts = [(kinds.plain, plain), (kinds.base64, base64)].into_iter();
        let texts = texts.filter_map(|(is_wanted, texts)| is_wanted.then_some(texts));
        texts.flat_map(|texts| {
            [Way::Literal, Way::Escaped].map(|way| Walk {
                texts: texts.clone(),
                read: 0,
                place: 0,
                way,
            })
        })
    }

    /// Compares a bit more. What is not decided comes back to the walks, and what needs more content to the ongoing
    /// ones.
    pub(super) fn step(
        &self,
        content: &[u8],
        end: ContentEnd,
        mut walk: Walk,
        progress: &mut SearchProgress,
    ) {
        let Some(first) = self.texts[walk.texts.clone()].first() else {
            return;
        };
        // The shortest one is the first.
        if first.text.len() == walk.read {
            let longest = &mut progress.longest;
            if longest.is_none_or(|(length, _)| walk.place > length) {
                *longest = Some((walk.place, walk.texts.start));
            }
            walk.texts.start += 1;
            if walk.texts.is_empty() {
                return;
            }
        }
        if walk.place == content.len() {
            progress.ongoing.push(walk);
            return;
        }
        match walk.way {
            Way::Literal => self.step_literally(&content[walk.place..], walk, progress),
            Way::Escaped => self.step_escaped(&content[walk.place..], end, walk, progress),
        }
    }

    fn step_literally(&self, rest: &[u8], walk: Walk, progress: &mut SearchProgress) {
        count_step();
        let texts = &self.texts[walk.texts.clone()];
        let [one, other] =
            [&texts[0], &texts[texts.len() - 1]].map(|text| &text.text.as_bytes()[walk.read..]);
        let alike = one.iter().zip(other).take_while(|(a, b)| a == b).count();
        if alike > 0 {
            let length = alike.min(rest.len());
            if one[..length] == rest[..length] {
                progress.walks.push(Walk {
                    read: walk.read + length,
                    place: walk.place + length,
                    ..walk
                });
            }
            return;
        }
        let byte_of = |text: &SearchedText| text.text.as_bytes()[walk.read];
        let from = texts.partition_point(|text| byte_of(text) < rest[0]);
        let to = texts.partition_point(|text| byte_of(text) <= rest[0]);
        progress.walks.push(Walk {
            texts: walk.texts.start + from..walk.texts.start + to,
            read: walk.read + 1,
            place: walk.place + 1,
            way: walk.way,
        });
    }

    fn step_escaped(
        &self,
        rest: &[u8],
        end: ContentEnd,
        walk: Walk,
        progress: &mut SearchProgress,
    ) {
        let texts = &self.texts[walk.texts.clone()];
        let next = |text: &SearchedText| text.char_at(walk.read);
        let (first, last) = (&texts[0], &texts[texts.len() - 1]);
        if next(first) == next(last) {
            self.read_next(rest, end, walk, progress);
            return;
        }
        let of = |character: char| {
            let from = texts.partition_point(|text| next(text) < Some(character));
            let to = texts.partition_point(|text| next(text) <= Some(character));
            Walk {
                texts: walk.texts.start + from..walk.texts.start + to,
                ..walk
            }
        };
        let may_be_escape = !rest[0].is_ascii() || b"%\\&".contains(&rest[0]);
        if may_be_escape && rest.len() <= MAX_FORM_BYTES {
            // It may be a part of any character's form.
            let mut from = walk.texts.start;
            while let Some(character) = self.texts[from..walk.texts.end].first().and_then(next) {
                let part = of(character);
                from = part.texts.end;
                self.read_next(rest, end, part, progress);
            }
            return;
        }
        let mut before = None;
        for candidate in escapes::candidates(rest) {
            let character = match candidate {
                '-' if first.is_base64() => '+',
                '_' if first.is_base64() => '/',
                other => other,
            };
            let part = of(character);
            if !part.texts.is_empty() && before != Some(character) {
                self.read_next(rest, end, part, progress);
            }
            before = Some(character);
        }
    }

    /// Reads the next character of texts that have the same one.
    fn read_next(&self, rest: &[u8], end: ContentEnd, walk: Walk, progress: &mut SearchProgress) {
        count_step();
        let text = &self.texts[walk.texts.start];
        let Some(character) = text.char_at(walk.read) else {
            return;
        };
        let mut reading = text.read(rest, character);
        if reading == Reading::Incomplete && end == ContentEnd::Last {
            reading = text.read_last(rest, character);
        }
        match reading {
            Reading::Is(length, _) => progress.walks.push(Walk {
                read: walk.read + character.len_utf8(),
                place: walk.place + length,
                ..walk
            }),
            Reading::Incomplete => progress.ongoing.push(walk),
            Reading::Differs => {}
        }
    }
}
