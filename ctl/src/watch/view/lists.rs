//! The lists of the screen: a title, headings, and the rows around the cursor.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::columns::{Column, Cut, place, row, widths};
use super::{BOLD, Colours, REVERSED, below, heading, line};
use crate::output::{grouped, size};
use crate::watch::model::{Model, Pane};

/// The least width of a destination.
const MIN_DESTINATION: usize = 24;

const QUESTIONS: [Column; 7] = [
    column("ID", 8, 3),
    destination("ASKS FOR"),
    column("PROTOCOL", 12, 4),
    column("COMMAND", 12, 0),
    column("USER", 10, 1),
    column("SESSION", 16, 5),
    column("EXPIRES", 8, 2),
];

const SESSIONS: [Column; 8] = [
    column("ID", 16, 0),
    column("USER", 10, 2),
    column("COMMAND", 0, 0),
    column("ISOLATION", 9, 4),
    column("SINCE", 8, 5),
    column("ALLOWED", 9, 0),
    column("REFUSED", 9, 0),
    column("BYTES", 12, 1),
];

const DECISIONS: [Column; 11] = [
    column("TIME", 8, 1),
    column("VERDICT", 7, 0),
    destination("DESTINATION"),
    column("PROTOCOL", 12, 4),
    column("METHOD", 7, 5),
    column("REASON", 18, 0),
    column("COMMAND", 12, 2),
    column("USER", 10, 3),
    column("SESSION", 16, 7),
    column("CLIENT", 21, 8),
    column("RULE", 32, 6),
];

const fn column(heading: &'static str, width: usize, dispensable: u8) -> Column {
    Column {
        heading,
        width,
        dispensable,
        cut: Cut::End,
    }
}

const fn destination(heading: &'static str) -> Column {
    Column {
        cut: Cut::Beginning,
        ..column(heading, 0, 0)
    }
}

pub(super) fn questions(model: &Model, colours: Colours, area: Rect, buffer: &mut Buffer) {
    let cursor = model
        .question
        .place(model.questions.iter().map(|row| &*row.id));
    let style = colours.foreground(Color::Magenta);
    let rows = model.questions.iter();
    let cells = rows.map(|row| {
        let cells = [
            &*row.id,
            &row.destination,
            &row.protocol,
            &row.command,
            &row.user,
            &row.session,
            &row.expires,
        ];
        (cells.map(str::to_owned), style)
    });
    let list = List {
        pane: Pane::Questions,
        columns: &QUESTIONS,
        coloured: 1,
        cursor,
    };
    list.draw(model, cells, area, buffer);
}

pub(super) fn sessions(model: &Model, area: Rect, buffer: &mut Buffer) {
    let cursor = model
        .session
        .place(model.sessions.iter().map(|row| &*row.id));
    let rows = model.sessions.iter();
    let cells = rows.map(|row| {
        let cells = [
            row.id.clone(),
            row.user.clone(),
            row.command.clone(),
            row.isolation.to_owned(),
            row.since.clone(),
            grouped(row.allowed),
            grouped(row.refused),
            size(row.bytes_up.saturating_add(row.bytes_down)),
        ];
        (cells, Style::new())
    });
    let list = List {
        pane: Pane::Sessions,
        columns: &SESSIONS,
        coloured: 0,
        cursor,
    };
    list.draw(model, cells, area, buffer);
}

pub(super) fn decisions(model: &Model, colours: Colours, area: Rect, buffer: &mut Buffer) {
    let rows = model.decisions.shown();
    let cells = rows.iter().map(|row| {
        let cells = [
            &*row.time,
            row.verdict.as_str(),
            &row.destination,
            &row.protocol,
            &row.method,
            row.cause(),
            &row.command,
            &row.user,
            &row.session,
            &row.client,
            row.rule.as_deref().unwrap_or("-"),
        ];
        (cells.map(str::to_owned), colours.of(row.verdict))
    });
    let list = List {
        pane: Pane::Decisions,
        columns: &DECISIONS,
        coloured: 1,
        cursor: (!rows.is_empty()).then(|| model.decisions.cursor()),
    };
    list.draw(model, cells, area, buffer);
}

/// One list.
struct List<'a, const N: usize> {
    pane: Pane,
    columns: &'a [Column; N],
    /// The column whose colour depends on the row.
    coloured: usize,
    cursor: Option<usize>,
}

impl<const N: usize> List<'_, N> {
    fn draw(
        &self,
        model: &Model,
        rows: impl ExactSizeIterator<Item = ([String; N], Style)>,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        line(buffer, area, &heading(model, self.pane), BOLD);
        let widths = widths(self.columns, MIN_DESTINATION, usize::from(area.width) - 2);
        let headings = self.columns.map(|column| column.heading);
        let headings = row(self.columns, &widths, headings);
        line(buffer, below(area, 1), &format!(" {headings}"), BOLD);
        let area = below(area, 2);
        let height = usize::from(area.height);
        // The cursor is in the middle, except near both ends.
        let top = self.cursor.unwrap_or(0).saturating_sub(height / 2);
        let top = top.min(rows.len().saturating_sub(height));
        let shown = rows.enumerate().skip(top).take(height);
        for (below_top, (number, (cells, style))) in (0..).zip(shown) {
            let area = below(area, below_top);
            let text = row(self.columns, &widths, cells.each_ref().map(|cell| &**cell));
            line(buffer, area, &format!(" {text}"), Style::new());
            if let (Some(x), Some(width)) = (place(&widths, self.coloured), widths[self.coloured]) {
                let cell = Rect {
                    x: area.x + 1 + u16::try_from(x).unwrap_or(0),
                    width: u16::try_from(width).unwrap_or(0),
                    height: 1,
                    ..area
                };
                buffer.set_style(cell, style);
            }
            if self.cursor == Some(number) && model.focus == self.pane {
                buffer.set_style(Rect { height: 1, ..area }, REVERSED);
            }
        }
    }
}
