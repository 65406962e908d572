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
