//! The token that content ends with, while the content arrives in pieces. Each byte is looked at once.

/// Most bytes of a reference of HTML before its `;`.
const MAX_ENTITY_BYTES: usize = 10;

/// Where the token begins that the content so far ends with.
#[derive(Default)]
pub(super) struct LastToken {
    begin: usize,
    /// The bytes that were looked at.
    seen: usize,
}

impl LastToken {
    /// Where the token begins, of which at most the last `longest` bytes count. The content begins as it did at the
    /// last call.
    pub(super) fn begin(&mut self, content: &[u8], longest: usize) -> usize {
        let first = content.len().saturating_sub(longest);
        let last_other = (self.seen.max(first)..content.len())
            .rev()
            .find(|&at| !is_part(content, at));
        self.begin = last_other.map_or(self.begin.max(first), |at| at + 1);
        self.seen = content.len();
        self.begin
    }

    /// The first bytes of the content are away.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.begin = self.begin.saturating_sub(bytes);
        self.seen = self.seen.saturating_sub(bytes);
    }
}

fn is_part(content: &[u8], at: usize) -> bool {
    super::count_byte();
    match content[at] {
        // The end of an escaped character.
        b';' => ends_entity(&content[..at]),
        b'"' | b'\'' => at > 0 && content[at - 1] == b'\\',
        byte => STANDS_IN_TOKEN[usize::from(byte)],
    }
}

/// Whether a reference of HTML ends here, before its `;`.
fn ends_entity(content: &[u8]) -> bool {
    let last = &content[content.len().saturating_sub(MAX_ENTITY_BYTES)..];
    let begin = last
        .iter()
        .rposition(|&byte| !byte.is_ascii_alphanumeric() && byte != b'#');
    begin.is_some_and(|begin| last[begin] == b'&' && begin + 1 < last.len())
}

/// Whether a byte is one of tokens, or of their encodings. White space, quotes, brackets, `,` and `;` are
/// not: events, lines and JSON texts end with them, and pass at once.
const STANDS_IN_TOKEN: [bool; 256] = {
    let mut stands = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        stands[byte as usize] = !matches!(
            byte,
            b'"' | b'\''
                | b'`'
                | b'('
                | b')'
                | b'<'
                | b'>'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b','
                | b';'
        );
        byte += 1;
    }
    stands
};
