//! Texts with `*`, where a `*` stands for any run of characters other than `/`, or for no
//! character.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A wildcard text: its literal pieces, with a `*` between each and the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    first: Box<str>,
    /// The pieces that follow a `*` each.
    others: Vec<Box<str>>,
}

impl Glob {
    /// A text without wildcards.
    pub(super) fn literal(text: &str) -> Self {
        Self {
            first: text.into(),
            others: Vec::new(),
        }
    }

    /// Pieces with a `*` between each two. Without any, the empty text.
    pub(super) fn of<'p>(pieces: impl IntoIterator<Item = &'p str>) -> Self {
        let mut pieces = pieces.into_iter().map(Box::from);
        Self {
            first: pieces.next().unwrap_or_default(),
            others: pieces.collect(),
        }
    }

    /// Whether the whole text matches.
    pub(super) fn covers(&self, text: &str) -> bool {
        let Some((last, middle)) = self.others.split_last() else {
            return *text == *self.first;
        };
        self.behind(middle, text)
            .and_then(|rest| rest.strip_suffix(&**last))
            .is_some_and(|starred| !starred.contains('/'))
    }

    /// Whether some beginning of a path matches. A `*` that stands for a whole segment does not
    /// match an empty one: many servers read `/a/` as `/a`. A path has an empty segment only at its
    /// end.
    pub(super) fn begins(&self, path: &str) -> bool {
        let rest = self.behind(&self.others, path);
        rest.is_some_and(|rest| !rest.is_empty() || !self.ends_in_a_segment_of_its_own())
    }

    /// Whether the pattern ends in `/*`.
    fn ends_in_a_segment_of_its_own(&self) -> bool {
        match &*self.others {
            [] => false,
            [last] => last.is_empty() && self.first.ends_with('/'),
            [.., before, last] => last.is_empty() && before.ends_with('/'),
        }
    }

    /// The rest of a text behind the first piece and some of the others.
    ///
    /// Each piece is matched at its first occurrence, which is always right: a `*` does not leave
    /// its segment, so all places where a piece may end lie in one segment, and the `*` behind the
    /// piece covers the text between them. So there is no backtracking, and the cost is linear in
    /// both texts (`str::find` takes linear time).
    fn behind<'t>(&self, pieces: &[Box<str>], text: &'t str) -> Option<&'t str> {
        let mut rest = text.strip_prefix(&*self.first)?;
        let mut segment = segment_end(rest);
        for piece in pieces {
            let end = match piece.find('/') {
                None => rest[..segment].find(&**piece)? + piece.len(),
                // Its first `/` ends the segment, or the piece is not here.
                Some(head) => {
                    let start = segment.checked_sub(head)?;
                    if !rest.get(start..)?.starts_with(&**piece) {
                        return None;
                    }
                    start + piece.len()
                }
            };
            rest = &rest[end..];
            segment = match segment.checked_sub(end) {
                Some(left) => left,
                None => segment_end(rest),
            };
        }
        Some(rest)
    }
}

fn segment_end(text: &str) -> usize {
    text.find('/').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::Glob;

    /// A naive matcher for `*`, to compare with the fast one.
    fn covers_naively(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                let segment = text
                    .split(|byte| *byte == b'/')
                    .next()
                    .map_or(0, <[u8]>::len);
                (0..=segment).any(|taken| covers_naively(rest, &text[taken..]))
            }
            ([first, rest @ ..], [letter, more @ ..]) => {
                first == letter && covers_naively(rest, more)
            }
            (pattern, text) => pattern.is_empty() && text.is_empty(),
        }
    }

    /// All texts of up to `longest` characters over an alphabet.
    fn texts(alphabet: &str, longest: usize) -> Vec<String> {
        let mut all = std::vec![String::new()];
        let mut from = 0;
        for _ in 0..longest {
            let until = all.len();
            for index in from..until {
                for letter in alphabet.chars() {
                    let mut text = all[index].clone();
                    text.push(letter);
                    all.push(text);
                }
            }
            from = until;
        }
        all
    }

    #[test]
    fn m9_every_short_pattern_covers_and_begins_as_its_naive_twin() {
        let texts_to_match = texts("ab/", 5);
        for pattern in texts("ab/*", 5) {
            let glob = Glob::of(pattern.split('*'));
            let naively = |text: &str| covers_naively(pattern.as_bytes(), text.as_bytes());
            for text in &texts_to_match {
                assert_eq!(glob.covers(text), naively(text), "{pattern} {text}");
                // No path has an empty segment inside, and no pattern two stars in a row.
                if text.contains("//") || pattern.contains("**") {
                    continue;
                }
                let is_empty = |end: &usize| pattern.ends_with("/*") && text[..*end].ends_with('/');
                let mut ends = (0..=text.len()).filter(|end| !is_empty(end));
                let begins = ends.any(|end| naively(&text[..end]));
                assert_eq!(glob.begins(text), begins, "{pattern} begins {text}");
            }
        }
    }
}
