//! Fitting text into the columns of a terminal: wrapping, and tables that shrink.

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    /// The width while rows come one by one, so that new lines stay aligned with earlier ones.
    pub(crate) usual: usize,
    /// Whether cells may be wrapped.
    pub(crate) wrap: Wrap,
    /// The order in which a narrow terminal loses columns: the largest number first. A column with
    /// 0 is always shown.
    pub(crate) dispensable: u8,
}

/// Whether the cells of a column may be wrapped on a narrow terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    Never,
    /// Cells may be wrapped, but to no less than this width.
    ToWidth(usize),
}

/// The number of blanks between two columns.
const GAP: usize = 2;

/// The columns that text takes on a terminal. Colours take none.
pub(crate) fn width(text: &str) -> usize {
    units(text).filter(|unit| !unit.starts_with('\x1b')).count()
}

/// Text with blanks behind it.
pub(crate) fn padded(text: &str, to: usize) -> String {
    let blanks = to.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(blanks))
}

/// Characters, and whole sequences for colours.
fn units(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = match first {
            '\x1b' => rest.find('m').map_or(rest.len(), |end| end + 1),
            _ => first.len_utf8(),
        };
        let (unit, behind) = rest.split_at(length);
        rest = behind;
        Some(unit)
    })
}

/// Breaks text into lines of at most this width: at spaces, else behind punctuation as in names and
/// paths, else anywhere.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut rest = line;
        while width(rest) > room {
            let (line, behind) = broken(rest, room);
            lines.push(line.to_owned());
            rest = behind;
        }
        lines.push(rest.to_owned());
    }
    lines
}

/// The first line of text that is too wide, and the rest.
fn broken(text: &str, room: usize) -> (&str, &str) {
    let (mut at, mut columns) = (0, 0);
    // Each is a possible line break: the end of a line, and the start of the next one.
    let (mut space, mut punctuation) = (None, None);
    for unit in units(text) {
        if unit == " " && !text[..at].trim_start().is_empty() {
            space = Some((at, at + 1));
        }
        if !unit.starts_with('\x1b') {
            if columns == room {
                break;
            }
            columns += 1;
        }
        at += unit.len();
        if matches!(unit, "/" | "." | "," | ":" | "_" | "-" | "=" | "&") && columns * 2 > room {
            punctuation = Some((at, at));
        }
    }
    let (end, next) = space.or(punctuation).unwrap_or((at, at));
    (&text[..end], &text[next..])
}

/// The widths of the columns of a table; `None` for a column that is not shown. `natural` are the
/// widths that the cells need, and `room` is the terminal's width.
pub(crate) fn fitted<const N: usize>(
    columns: &[Column; N],
    natural: [usize; N],
    room: Option<usize>,
) -> [Option<usize>; N] {
    let mut widths = natural.map(Some);
    let Some(room) = room else {
        return widths;
    };
    let total = |widths: &[Option<usize>; N]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    };
    let least = |column: usize| match columns[column].wrap {
        Wrap::Never => natural[column],
        Wrap::ToWidth(least) => least.min(natural[column]),
    };
    // First leave out what has no room even when all others are as narrow as possible.
    loop {
        let mut narrow = widths;
        for (column, width) in narrow.iter_mut().enumerate() {
            *width = width.map(|_| least(column));
        }
        let dispensable = (0..N).filter(|column| widths[*column].is_some());
        let first = dispensable.max_by_key(|column| columns[*column].dispensable);
        match first {
            Some(first) if total(&narrow) > room && columns[first].dispensable > 0 => {
                widths[first] = None;
            }
            _ => break,
        }
    }
    // Then take columns from the widest cells.
    while total(&widths) > room {
        let wide =
            (0..N).filter(|column| widths[*column].is_some_and(|width| width > least(*column)));
        let Some(widest) = wide.max_by_key(|column| widths[*column]) else {
            break;
        };
        widths[widest] = widths[widest].map(|width| width - 1);
    }
    widths
}

/// The lines of one row.
pub(crate) fn row<const N: usize>(cells: &[String; N], widths: &[Option<usize>; N]) -> Vec<String> {
    let shown = cells.iter().zip(widths);
    let shown: Vec<(Vec<String>, usize)> = shown
        .filter_map(|(cell, width)| width.map(|width| (wrapped(cell, width), width)))
        .collect();
    let height = shown
        .iter()
        .map(|(lines, _)| lines.len())
        .max()
        .unwrap_or(0);
    let line = |number: usize| {
        let cells = shown.iter().map(|(lines, width)| {
            let part = lines.get(number).map_or("", String::as_str);
            padded(part, *width)
        });
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_text_is_broken_at_spaces_then_in_names_and_then_anywhere() {
        for (text, room, lines) in [
            ("", 5, &[""][..]),
            ("one two", 7, &["one two"]),
            ("one two three", 8, &["one two", "three"]),
            ("one two", 3, &["one", "two"]),
            ("a.example.com", 10, &["a.example.", "com"]),
            (
                "/etc/codex/config.toml",
                12,
                &["/etc/codex/", "config.toml"],
            ),
            ("abcdefgh", 3, &["abc", "def", "gh"]),
            ("  a.b", 4, &["  a.", "b"]),
            ("a\nb c", 1, &["a", "b", "c"]),
            ("x", 0, &["x"]),
            ("\u{e4}\u{f6}\u{fc}", 2, &["\u{e4}\u{f6}", "\u{fc}"]),
            ("\x1b[31mred\x1b[0m one", 4, &["\x1b[31mred\x1b[0m", "one"]),
            ("\x1b[31mreddish\x1b[0m", 4, &["\x1b[31mredd", "ish\x1b[0m"]),
        ] {
            assert_eq!(wrapped(text, room), lines, "{text:?} in {room}");
        }
    }

    #[test]
    fn k1_no_line_is_wider_than_the_room_and_nothing_is_lost() {
        let text = "a proxy:in-the/middle of \x1b[1msomething.that.goes\x1b[0m on and on=and&on";
        for room in 1..80 {
            let lines = wrapped(text, room);
            assert!(lines.iter().all(|line| width(line) <= room), "{lines:?}");
            let bare = |text: &str| text.replace(' ', "");
            assert_eq!(bare(&lines.concat()), bare(text));
        }
    }

    const COLUMNS: [Column; 3] = [
        Column {
            heading: "#",
            usual: 0,
            wrap: Wrap::Never,
            dispensable: 0,
        },
        Column {
            heading: "NAME",
            usual: 0,
            wrap: Wrap::ToWidth(8),
            dispensable: 0,
        },
        Column {
            heading: "NOTE",
            usual: 0,
            wrap: Wrap::ToWidth(8),
            dispensable: 1,
        },
    ];

    #[test]
    fn k1_a_table_shrinks_before_it_leaves_a_column_out() {
        let natural = [6, 30, 20];
        for (room, widths) in [
            (None, natural.map(Some)),
            (Some(60), natural.map(Some)),
            (Some(50), [Some(6), Some(20), Some(20)]),
            (Some(40), [Some(6), Some(15), Some(15)]),
            (Some(26), [Some(6), Some(8), Some(8)]),
            (Some(25), [Some(6), Some(17), None]),
            // Narrower than it can be.
            (Some(3), [Some(6), Some(8), None]),
        ] {
            assert_eq!(fitted(&COLUMNS, natural, room), widths, "{room:?}");
        }
    }

    #[test]
    fn k1_the_cells_of_a_row_are_broken_beside_each_other() {
        let cells = ["1", "one.two.three", "four five"].map(str::to_owned);
        let lines = row(&cells, &[Some(3), Some(8), Some(4)]);
        assert_eq!(lines, ["1    one.two.  four", "     three     five"]);
        assert_eq!(row(&cells, &[Some(1), None, None]), ["1"]);
    }
}
