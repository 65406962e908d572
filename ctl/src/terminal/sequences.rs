//! The control sequences of a terminal (`ECMA-48`, xterm, Kitty): the modes that a question ends before its text, and
//! the keys and replies that are skipped in its answer.

/// Ends the modes, of what the program may have begun, in which a user could not read or answer. The cursor stays.
///
/// Origin mode (`?6`) stays: without margins it changes nothing, and its end would move the cursor. The program does not
/// get its modes back.
pub(super) const RESET: &str = concat!(
    // A control sequence or string (CAN, ST), VT52 mode, output to a printer, output that is held back.
    "\x18\x1b\\\x1b<\x1b[4i\x1b[?2026l",
    // Another character set, attributes, a link, other colours.
    "\x0f\x1b(B\x1b[0m\x1b]8;;\x1b\\\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\",
    // A locked keyboard, insert mode and line feeds of the key Enter, an echo by the terminal.
    "\x1b[2;4;20l\x1b[12h",
    // Lines that are cut off, a hidden cursor, margins.
    "\x1b[?7h\x1b[?25h\x1b7\x1b[?69l\x1b[r\x1b8",
    // Keys that send something else: the Kitty protocol, modifyOtherKeys, of Windows, of applications.
    "\x1b[=0;1u\x1b[>4;0m\x1b[?9001l\x1b[?1l\x1b>",
    // Reports of the mouse and of the focus, and marks around pasted text.
    "\x1b[?9;1000;1001;1002;1003l\x1b[?1004;1005;1006;1015;1016l\x1b[?2004l",
    "\r\n",
);

/// The longest sequence that is skipped. The longest common one is a reply with a colour or a title.
const MAX_LENGTH: usize = 1024;

/// Skips the sequences among typed keys: keys without a character, events, replies. Of a sequence, no byte is left. One
/// that has no end is left at the end of the line, which is then no answer.
#[derive(Debug, Default)]
pub(super) struct Skipper {
    within: Within,
    /// How many bytes it has.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    /// After ESC.
    Escape,
    /// After ESC and `[`.
    Begin,
    /// In the parameters of a control sequence.
    Control,
    /// In a string, which ST or BEL ends.
    Text,
    /// After ESC in a string.
    TextEscape,
    /// So many bytes are left.
    Last(u8),
}

/// The part that a byte has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is a key.
    Key,
    /// It belongs to a sequence.
    Skipped,
    /// It is a key that ends a sequence which is unfinished or malformed.
    Broken,
}

impl Skipper {
    /// The part of the next byte.
    pub(super) fn take(&mut self, byte: u8) -> Part {
        self.length += 1;
        let next = match (self.within, byte) {
            (Within::Nothing, 0x1b) => {
                self.length = 1;
                Within::Escape
            }
            (Within::Nothing, _) => return Part::Key,
            // Ctrl-C and its like are keys everywhere, and so is the end of the line.
            (_, 0x03 | 0x1a | 0x1c | b'\r' | b'\n' | 0x15) => return self.broken(),
            _ if self.length > MAX_LENGTH => return self.broken(),
            // SS3, and a function key of the Linux console.
            (Within::Escape, b'O') | (Within::Begin, b'[') => Within::Last(1),
            (Within::Escape, b'[') => Within::Begin,
            (Within::Escape, b'P' | b']' | b'X' | b'^' | b'_') => Within::Text,
            (Within::Escape | Within::Begin | Within::Control, 0x1b)
            | (Within::Escape, b' '..=b'/') => Within::Escape,
            // A click in the oldest form, with three bytes behind it.
            (Within::Begin, b'M') => Within::Last(3),
            (Within::Begin | Within::Control, b' '..=b'?') => Within::Control,
            (Within::Last(left), b' '..=b'~' | 0x80..) if left > 1 => Within::Last(left - 1),
            // A letter with Alt, the last byte of a control sequence, ST or BEL.
            (Within::Escape, b'0'..=b'~')
            | (Within::Begin | Within::Control, b'@'..=b'~')
            | (Within::Text | Within::TextEscape, 0x07)
            | (Within::TextEscape, b'\\')
            | (Within::Last(_), b' '..=b'~' | 0x80..) => Within::Nothing,
            (Within::Text | Within::TextEscape, 0x1b) => Within::TextEscape,
            (Within::Text | Within::TextEscape, b' '..=b'~' | 0x80..) => Within::Text,
            _ => return self.broken(),
        };
        self.within = next;
        Part::Skipped
    }

    fn broken(&mut self) -> Part {
        *self = Self::default();
        Part::Broken
    }
}
