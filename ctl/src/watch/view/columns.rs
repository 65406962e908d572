//! The columns of a list: which ones fit, and text cut to their width.

use ratatui::text::Span;

/// The blanks between two columns.
const GAP: usize = 2;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// Its width. The column with 0 gets what is left.
    pub(super) width: usize,
    /// The order in which a narrow screen loses columns: the largest number first. 0 is always shown.
    pub(super) dispensable: u8,
    pub(super) cut: Cut,
}

/// Where text that does not fit is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    End,
    /// Of a host, the end says who it belongs to.
    Beginning,
}

/// The widths of the columns on a screen. A column that does not fit has none. The rest of the width goes to the
/// column without one, which gets at least `least`.
pub(super) fn widths<const N: usize>(
    columns: &[Column; N],
    least: usize,
    room: usize,
) -> [Option<usize>; N] {
    let needed = |shown: &[Option<usize>; N]| {
        let fixed = shown.iter().flatten().copied();
        let gaps = shown.iter().flatten().count().saturating_sub(1) * GAP;
        fixed.sum::<usize>() + gaps
    };
    let mut shown = columns.map(|column| Some(column.width));
    let mut order: Vec<usize> = (0..N).filter(|at| columns[*at].dispensable > 0).collect();
    order.sort_by_key(|at| columns[*at].dispensable);
    while needed(&shown) + least > room
        && let Some(at) = order.pop()
    {
        shown[at] = None;
    }
    let rest = room.saturating_sub(needed(&shown));
    for width in shown.iter_mut().flatten().filter(|width| **width == 0) {
        *width = rest;
    }
    shown
}

/// Cells side by side.
pub(super) fn row<const N: usize>(
    columns: &[Column; N],
    widths: &[Option<usize>; N],
    cells: [&str; N],
) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        let Some(width) = *width else { continue };
        if !line.is_empty() {
            line.push_str(&" ".repeat(GAP));
        }
        let cell = fitted(cell, width, column.cut);
        let blanks = width.saturating_sub(columns_of(&cell));
        line.push_str(&cell);
        line.push_str(&" ".repeat(blanks));
    }
    line
}

/// The place where a column begins; `None` if it is not shown.
pub(super) fn place<const N: usize>(widths: &[Option<usize>; N], column: usize) -> Option<usize> {
    widths[column]?;
    let before = widths[..column].iter().flatten();
    Some(before.map(|width| width + GAP).sum())
}

/// Text of at most this width. A mark stands for what is cut.
pub(super) fn fitted(text: &str, width: usize, cut: Cut) -> String {
    const MARK: char = '\u{2026}';
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else {
        return String::new();
    };
    match cut {
        Cut::End => {
            let mut end = 0;
            for (at, character) in text.char_indices() {
                let next = at + character.len_utf8();
                if columns_of(&text[..next]) > room {
                    break;
                }
                end = next;
            }
            format!("{}{MARK}", &text[..end])
        }
        Cut::Beginning => {
            let mut begin = text.len();
            for (at, _) in text.char_indices().rev() {
                if columns_of(&text[at..]) > room {
                    break;
                }
                begin = at;
            }
            format!("{MARK}{}", &text[begin..])
        }
    }
}

/// The columns that text takes on a terminal.
fn columns_of(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_text_is_cut_by_the_columns_it_takes() {
        for (text, width, wanted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab\u{2026}"),
            ("日本語", 5, "日本\u{2026}"),
            ("日本語", 4, "日\u{2026}"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}\u{2026}"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fitted(text, width, Cut::End), wanted);
        }
    }

    #[test]
    fn w4_of_a_long_host_the_end_is_shown() {
        let shown = fitted("www.bank.test.evil.test:443", 16, Cut::Beginning);
        assert_eq!(shown, "\u{2026}t.evil.test:443");
        assert_eq!(fitted("日本語", 4, Cut::Beginning), "\u{2026}語");
    }

    #[test]
    fn w4_a_narrow_screen_loses_the_dispensable_columns_first() {
        let column = |width, dispensable| Column {
            heading: "",
            width,
            dispensable,
            cut: Cut::End,
        };
        let columns = [column(8, 0), column(0, 0), column(10, 2), column(20, 1)];
        let all = widths(&columns, 20, 100);
        assert_eq!(all, [Some(8), Some(56), Some(10), Some(20)]);
        assert_eq!(place(&all, 2), Some(68));
        let fewer = widths(&columns, 20, 60);
        assert_eq!(fewer, [Some(8), Some(28), None, Some(20)]);
        assert_eq!(widths(&columns, 20, 30), [Some(8), Some(20), None, None]);
        assert_eq!(row(&columns, &fewer, ["a", "b", "c", "d"]).len(), 60);
    }
}
