//! A page of text over the lists.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{BOLD, below, line};
use crate::watch::page::Page;

/// Draws the page into the area, and nothing else there.
pub(super) fn draw(page: &Page, area: Rect, buffer: &mut Buffer) {
    for y in area.top()..area.bottom() {
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        buffer.set_stringn(
            row.x,
            y,
            " ".repeat(usize::from(row.width)),
            usize::from(row.width),
            Style::reset(),
        );
    }
    line(buffer, area, &format!(" {}", page.title), BOLD);
    let area = below(area, 2);
    let height = usize::from(area.height);
    let text = page.text(area.width);
    let top = page.top.min(text.len().saturating_sub(height));
    for (number, text) in (0..).zip(text.iter().skip(top).take(height)) {
        line(
            buffer,
            below(area, number),
            &format!("  {text}"),
            Style::new(),
        );
    }
}
