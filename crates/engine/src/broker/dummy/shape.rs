//! Random texts of the shape of another one: length, punctuation, and the kinds of characters between
//! (SPEC B9).

use super::RandomNumbers;

/// Fewest random bits of a dummy.
const MIN_BITS: f64 = 128.0;
/// The shortest run of characters that may be hexadecimal digits on purpose.
const MIN_HEXADECIMAL: usize = 8;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";

/// The characters that a run of letters and digits may have.
struct Alphabet(Vec<char>);

/// A random text like the value, which repeats the prefix. The mark replaces the beginning of the first run
/// that has room for it, or stands before the first one. The text is longer than the value if it would
/// have fewer than 128 random bits.
pub(super) fn like(value: &str, prefix: usize, mark: &str, random: &mut RandomNumbers) -> String {
    let (prefix, rest) = value.split_at(prefix);
    let mut text = prefix.to_owned();
    let mut bits = 0.0;
    let runs = runs(rest);
    let has_room = |run: &&str| is_run(run) && run.chars().count() >= mark.len();
    let mut mark = Some(mark);
    if !runs.iter().any(has_room) {
        text.extend(mark.take());
    }
    for run in runs {
        if !is_run(run) {
            text.push_str(run);
            continue;
        }
        let mut length = run.chars().count();
        if let Some(mark) = mark.take_if(|mark| length >= mark.len()) {
            text.push_str(mark);
            length -= mark.len();
        }
        let alphabet = Alphabet::of(run);
        bits += alphabet.bits() * u32::try_from(length).map_or(0.0, f64::from);
        text.extend((0..length).map(|_| alphabet.random(random)));
    }
    let alphabet = Alphabet::of(rest);
    while bits < MIN_BITS {
        text.push(alphabet.random(random));
        bits += alphabet.bits();
    }
    text
}

/// A random text like this one, without a least number of bits.
pub(super) fn scrambled(text: &str, random: &mut RandomNumbers) -> String {
    let mut scrambled = String::with_capacity(text.len());
    for run in runs(text) {
        if is_run(run) {
            let alphabet = Alphabet::of(run);
            scrambled.extend(run.chars().map(|_| alphabet.random(random)));
        } else {
            scrambled.push_str(run);
        }
    }
    scrambled
}

/// Splits a text into runs of letters and digits, and what is between them.
fn runs(text: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let ends = |c: char| is_member(c) != is_member(first);
        let (run, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        runs.push(run);
        rest = behind;
    }
    runs
}

fn is_run(run: &str) -> bool {
    run.starts_with(is_member)
}

/// Whether a character is replaced. Those outside of ASCII are: they say more than punctuation does.
fn is_member(character: char) -> bool {
    character.is_ascii_alphanumeric() || !character.is_ascii()
}

impl Alphabet {
    /// The kinds of characters of a text: hexadecimal digits of one case, or small letters, capital letters
    /// and digits, each if it occurs. Small letters if nothing does.
    fn of(text: &str) -> Self {
        let members = || text.chars().filter(|c| is_member(*c));
        let has = |fits: fn(&char) -> bool| members().any(|c| fits(&c));
        let all = |fits: fn(&char) -> bool| members().all(|c| fits(&c));
        let has_lower = has(|c| c.is_ascii_lowercase() || !c.is_ascii());
        let has_upper = has(char::is_ascii_uppercase);
        let has_digit = has(char::is_ascii_digit);
        let is_hexadecimal = has_digit
            && has_lower != has_upper
            && all(char::is_ascii_hexdigit)
            && members().count() >= MIN_HEXADECIMAL;
        let letters = if is_hexadecimal { 6 } else { 26 };
        let mut characters = Vec::new();
        if has_lower || !(has_upper || has_digit) {
            characters.extend(LOWER[..letters].chars());
        }
        if has_upper {
            characters.extend(UPPER[..letters].chars());
        }
        if has_digit {
            characters.extend(DIGITS.chars());
        }
        Self(characters)
    }

    /// The random bits of one character.
    fn bits(&self) -> f64 {
        u32::try_from(self.0.len()).map_or(0.0, f64::from).log2()
    }

    fn random(&self, random: &mut RandomNumbers) -> char {
        let limit = u32::try_from(self.0.len()).unwrap_or_default();
        self.0[random.below(limit) as usize]
    }
}
