//! Draws the model into a buffer.
//!
//! The colours are the named ones of the terminal, which fit light and dark ones, and say nothing that the text does
//! not say. Nothing is faint. The cursor and the headings use bold and reversed text, which also works without
//! colours.

mod columns;
mod lists;
mod overlay;

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use self::columns::fitted;
use super::decision_list::MAX_KEPT;
use super::model::{Model, Pane};
use super::rows::Verdict;
use crate::output::{counted, grouped, size, wrapped};

/// The smallest screen with lists.
const MIN_COLUMNS: u16 = 40;
const MIN_LINES: u16 = 10;
/// Most lines that describe the row under the cursor.
const MAX_DETAIL: usize = 4;

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Named,
    /// `NO_COLOR` is set.
    None,
}

/// The lines of the screen, from the top.
#[derive(Debug)]
struct Areas {
    title: Rect,
    rates: Rect,
    questions: Rect,
    sessions: Rect,
    decisions: Rect,
    detail: Rect,
    keys: Rect,
}

impl Colours {
    pub(super) fn from_environment() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::None,
            _ => Self::Named,
        }
    }

    fn of(self, verdict: Verdict) -> Style {
        let colour = match verdict {
            Verdict::Allow => Color::Green,
            Verdict::Deny => Color::Red,
            // Yellow cannot be read on a light ground.
            Verdict::Ask => Color::Magenta,
        };
        self.foreground(colour)
    }

    fn foreground(self, colour: Color) -> Style {
        match self {
            Self::Named => Style::new().fg(colour),
            Self::None => Style::new(),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws the whole screen.
pub(super) fn draw(model: &Model, colours: Colours, area: Rect, buffer: &mut Buffer) {
    if area.width < MIN_COLUMNS || area.height < MIN_LINES {
        let text = format!("at least {MIN_COLUMNS}x{MIN_LINES} is needed; q quits");
        line(buffer, area, &text, Style::new());
        return;
    }
    let detail = detail(model, area.width);
    let areas = areas(model, detail.len(), area);
    title(model, colours, areas.title, buffer);
    line(buffer, areas.rates, &rates(model), Style::new());
    lists::questions(model, colours, areas.questions, buffer);
    lists::sessions(model, areas.sessions, buffer);
    lists::decisions(model, colours, areas.decisions, buffer);
    for (number, text) in (0..).zip(&detail) {
        line(buffer, below(areas.detail, number), text, Style::new());
    }
    keys(model, areas.keys, buffer);
    if let Some(page) = &model.page {
        let top = areas.rates.bottom();
        let covered = Rect {
            y: top,
            height: areas.keys.y - top,
            ..area
        };
        overlay::draw(page, covered, buffer);
    }
}

/// Gives each part its lines. Questions come before sessions, and decisions get what is left, at least a third.
fn areas(model: &Model, detail: usize, area: Rect) -> Areas {
    let mut y = area.y;
    let mut take = |height: usize| {
        let height = u16::try_from(height).unwrap_or(u16::MAX);
        let height = height.min(area.bottom() - y);
        let part = Rect { y, height, ..area };
        y += height;
        part
    };
    let height = usize::from(area.height);
    let fixed = 3 + detail;
    let rest = height.saturating_sub(fixed);
    let spare = rest.saturating_sub((rest / 3).max(4));
    let questions = listed(model.questions.len(), spare / 2 + spare % 2);
    let sessions = listed(model.sessions.len(), spare.saturating_sub(questions));
    Areas {
        title: take(1),
        rates: take(1),
        questions: take(questions),
        sessions: take(sessions),
        decisions: take(rest.saturating_sub(questions + sessions)),
        detail: take(detail),
        keys: take(1),
    }
}

/// The lines of a list with this many rows: a title, a heading, the rows. A list without rows, or without room for
/// one, has none.
fn listed(rows: usize, room: usize) -> usize {
    if rows == 0 || room < 3 {
        return 0;
    }
    (rows + 2).min(room)
}

fn title(model: &Model, colours: Colours, area: Rect, buffer: &mut Buffer) {
    let proxy = &model.proxy;
    if let Some((since, why)) = &proxy.lost {
        let text = format!(" no proxy answers since {since} UTC, trying again: {why}");
        line(
            buffer,
            area,
            &text,
            BOLD.patch(colours.foreground(Color::Red)).patch(REVERSED),
        );
        return;
    }
    let mut text = format!(" codex-network-proxy {}", proxy.version);
    if let Some(mode) = &proxy.mode {
        let _ = write!(text, "  {mode} mode");
        if !proxy.is_enabled {
            text.push_str(", switched off");
        }
        let connections = counted(proxy.connections, "connection", "connections");
        let _ = write!(text, "  {connections}");
    } else {
        text.push_str("  your sessions only");
    }
    line(buffer, area, &text, BOLD.patch(REVERSED));
}

fn rates(model: &Model) -> String {
    let (rates, counts) = (model.shown_rates(), model.rates.counts());
    let mut text = format!(
        " per second: {} allowed, {} refused",
        grouped(rates.allowed),
        grouped(rates.refused)
    );
    if counts.asked > 0 {
        let _ = write!(text, ", {} asked", grouped(rates.asked));
    }
    if !model.sessions.is_empty() {
        let (up, down) = (size(rates.bytes_up), size(rates.bytes_down));
        let _ = write!(text, "; {up} up, {down} down");
    }
    text
}

/// The row under the cursor, in words.
fn detail(model: &Model, columns: u16) -> Vec<String> {
    let text = match model.focus {
        Pane::Questions => match model.selected_question() {
            Some(row) => {
                let written = row.written.as_ref();
                let written = written.map(|written| format!(" (\"{written}\")"));
                format!(
                    "{}{}: {} of {} asks over {}, {} waiting, expires {}",
                    row.destination,
                    written.unwrap_or_default(),
                    row.command,
                    row.user,
                    row.protocol,
                    row.waiting,
                    row.expires
                )
            }
            None => "no question is chosen".to_owned(),
        },
        Pane::Sessions => match model.selected_session() {
            Some(row) => format!(
                "session {}: {} of {}, {} up, {} down",
                row.id,
                row.command,
                row.user,
                size(row.bytes_up),
                size(row.bytes_down)
            ),
            None => "no session is chosen".to_owned(),
        },
        Pane::Decisions => match model.selected_decision() {
            Some(row) => format!(
                "{} {}: {} ({}); rule: {}",
                row.verdict.as_str(),
                row.destination,
                row.reason,
                row.source,
                row.rule.as_deref().unwrap_or("none")
            ),
            None => String::new(),
        },
    };
    let mut lines = wrapped(&text, usize::from(columns).saturating_sub(2));
    lines.truncate(MAX_DETAIL);
    // The lists keep their places from row to row.
    while lines.len() < 2 {
        lines.push(String::new());
    }
    lines.iter().map(|text| format!(" {text}")).collect()
}

fn keys(model: &Model, area: Rect, buffer: &mut Buffer) {
    if let Some(typed) = &model.typed {
        let text = format!("/{}_", super::rows::shown(typed));
        line(buffer, area, &text, Style::new());
        return;
    }
    if let Some(message) = &model.message {
        line(buffer, area, &format!(" {message}"), BOLD);
        return;
    }
    let text = if model.page.is_some() {
        " Esc back   j k scroll"
    } else if model.focus == Pane::Questions {
        " a approve   o approve once   r reject   Enter explain   Tab next list   ? help"
    } else {
        " q quit   ? help   / filter   v verdicts   Enter explain   Tab next list"
    };
    line(buffer, area, text, Style::new());
}

/// The title of a list.
fn heading(model: &Model, pane: Pane) -> String {
    let mark = if model.focus == pane { '>' } else { ' ' };
    match pane {
        Pane::Questions => format!("{mark}Questions {}", model.questions.len()),
        Pane::Sessions => format!("{mark}Sessions {}", model.sessions.len()),
        Pane::Decisions => {
            let decisions = &model.decisions;
            let shown = decisions.shown().len();
            let mut text = format!("{mark}Decisions {}", grouped(shown as u64));
            if shown == MAX_KEPT {
                text.push_str(" newest");
            }
            // The proxy has dropped them, since this program or the terminal was too slow.
            let lost = model.rates.counts().lost;
            if lost > 0 {
                let _ = write!(text, ", {} lost", grouped(lost));
            }
            let filter = decisions.filter().text();
            if !filter.is_empty() {
                let _ = write!(text, ", filter \"{}\"", super::rows::shown(filter));
            }
            let verdicts = decisions.verdicts().remark();
            if !verdicts.is_empty() {
                let _ = write!(text, ", {verdicts}");
            }
            if let Some(arrived) = decisions.arrived() {
                let _ = write!(text, ", standing still, {} more since", grouped(arrived));
            }
            text
        }
    }
}

/// Writes one line, and gives all of it the style.
fn line(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    if area.height == 0 {
        return;
    }
    let text = fitted(text, usize::from(area.width), columns::Cut::End);
    buffer.set_stringn(area.x, area.y, text, usize::from(area.width), style);
    buffer.set_style(Rect { height: 1, ..area }, style);
}

/// The part of an area from this line on.
fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    }
}

#[cfg(test)]
mod tests;
