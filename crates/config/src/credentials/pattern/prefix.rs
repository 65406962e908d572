//! The public beginning of a value: the text that its pattern prescribes (SPEC B9).

use regex_syntax::hir::Hir;
use regex_syntax::hir::literal::{Extractor, Literal};

/// Most members of a class whose choice is public, as in `gh[pousr]_`.
const MAX_CLASS: usize = 8;
/// Most beginnings of a pattern's values. A value that matches gives away which one it has: four bits.
const MAX_BEGINNINGS: usize = 16;

/// The length of the longest beginning that the pattern prescribes and that the value has.
pub(super) fn length(tree: &Hir, value: &[u8]) -> usize {
    let mut extractor = Extractor::new();
    extractor.limit_class(MAX_CLASS).limit_total(MAX_BEGINNINGS);
    let beginnings = extractor.extract(tree);
    let literals = beginnings.literals().unwrap_or_default();
    let lengths = literals.iter().map(Literal::as_bytes);
    lengths
        .filter(|literal| value.starts_with(literal))
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::CredentialPattern;

    #[test]
    fn b9_the_public_beginning_of_a_value_is_the_text_of_its_pattern() {
        for (pattern, value, expected) in [
            ("ghp_[A-Za-z0-9]{36}", "ghp_0123", "ghp_"),
            ("gh[pousr]_[A-Za-z0-9]{36}", "gho_0123", "gho_"),
            (
                "sk-(proj|svcacct)-[A-Za-z0-9]{36}",
                "sk-svcacct-ab",
                "sk-svcacct-",
            ),
            // A beginning that may be missing counts as secret.
            ("(sk-)?[A-Za-z0-9]{36}", "sk-ab", ""),
            ("(sk-)?[A-Za-z0-9]{36}", "abcd", ""),
            ("[A-Za-z0-9]{36}", "abcd", ""),
            ("(?i)ab-[A-Za-z0-9]{36}", "aB-cd", "aB-"),
            ("x-[A-Za-z0-9]{36}", "y-abcd", ""),
            // A secret of few different characters gives away four bits.
            ("[01]{200}", "01010101010101010101", "0101"),
        ] {
            let pattern = CredentialPattern::parse(pattern).expect("a pattern");
            let length = pattern.prefix_length(value.as_bytes());
            assert_eq!(&value[..length], expected, "{pattern} {value}");
        }
    }
}
