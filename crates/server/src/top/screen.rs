//! The screen of `top`: what is wrong, brokers, loops that stand still or are oldest, the hottest
//! partitions, elections, and where writes spend their time.
//!
//! Invariant: drawing depends on the view alone, so a test can look at it.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};

use super::rates::{Rates, rates};
use crate::survey::verdict::{Severity, Verdict, judge, lasted};
use crate::survey::{Page, Survey};

/// Lines of verdicts above everything else.
const VERDICTS_SHOWN: usize = 6;
/// A look older than so many intervals is called old.
const OLD_LOOKS: u32 = 3;
/// A loop that has been in one phase for less is not worth a line.
const LOOP_MS: u64 = 50;

/// What is drawn.
#[derive(Default)]
pub struct View {
    pub paused: bool,
    interval: Duration,
    now: Option<Survey>,
    earlier: Option<Survey>,
    verdicts: Vec<Verdict>,
    taken: Option<Instant>,
}

impl View {
    pub fn every(interval: Duration) -> View {
        View { interval, ..View::default() }
    }

    /// A new look.
    pub fn take(&mut self, survey: Survey) {
        self.earlier = self.now.take();
        self.verdicts = judge(&survey, self.earlier.as_ref());
        self.now = Some(survey);
        self.taken = Some(Instant::now());
    }
}

pub fn draw(frame: &mut Frame, view: &View) {
    let Some(now) = &view.now else {
        frame.render_widget(Paragraph::new("asking the brokers ..."), frame.area());
        return;
    };
    let verdicts = view.verdicts.len().clamp(1, VERDICTS_SHOWN) as u16;
    let brokers = now.brokers.len() as u16 + 3;
    let [head, wrong, table, middle, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(verdicts),
        Constraint::Length(brokers),
        Constraint::Min(8),
        Constraint::Length(12),
    ])
    .areas(frame.area());
    frame.render_widget(header(view, now), head);
    frame.render_widget(Paragraph::new(wrongs(view)), wrong);
    draw_brokers(frame, table, view, now);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)])
            .spacing(1)
            .areas(middle);
    draw_loops(frame, left, now);
    draw_hottest(frame, right, now);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)])
            .spacing(1)
            .areas(below);
    draw_elections(frame, left, now);
    draw_waterfall(frame, right, now);
}

fn header<'a>(view: &View, now: &Survey) -> Line<'a> {
    let answered = now.pages().count();
    let mut text = format!("glasslog top  {answered} of {} brokers answer", now.brokers.len());
    let age = view.taken.map_or(Duration::ZERO, |taken| taken.elapsed());
    if view.paused {
        text.push_str("  PAUSED");
    } else if !view.interval.is_zero() && age > view.interval * OLD_LOOKS {
        text.push_str(&format!("  seen {} ago", lasted(age.as_millis() as u64)));
    }
    let keys = Span::styled("   q ends, p pauses", Style::default().fg(Color::DarkGray));
    Line::from(vec![Span::styled(text, Style::default().add_modifier(Modifier::BOLD)), keys])
}

fn colour(severity: Severity) -> Style {
    match severity {
        Severity::Critical => Style::default().fg(Color::Red).add_modifier(Modifier::BOLD),
        Severity::Warning => Style::default().fg(Color::Yellow),
        Severity::Info => Style::default().fg(Color::Cyan),
    }
}

fn wrongs(view: &View) -> Vec<Line<'_>> {
    if view.verdicts.is_empty() {
        return vec![Line::styled("all is well", Style::default().fg(Color::Green))];
    }
    let shown = view.verdicts.iter().take(VERDICTS_SHOWN).map(|verdict| {
        let word =
            Span::styled(format!("{:<9}", verdict.severity.as_str()), colour(verdict.severity));
        Line::from(vec![word, Span::raw(verdict.title.as_str())])
    });
    let mut lines: Vec<Line> = shown.collect();
    let more = view.verdicts.len().saturating_sub(VERDICTS_SHOWN);
    if let Some(last) = lines.last_mut().filter(|_| more > 0) {
        *last = Line::raw(format!("... and {} more: glasslog doctor", more + 1));
    }
    lines
}

fn titled(title: &str) -> Block<'_> {
    Block::default().borders(Borders::TOP).title(title)
}

fn draw_brokers(frame: &mut Frame, area: Rect, view: &View, now: &Survey) {
    let columns = [
        ("broker", 7),
        ("state", 12),
        ("up", 8),
        ("leads", 6),
        ("groups", 7),
        ("trouble", 8),
        ("records/s", 10),
        ("requests/s", 11),
        ("p99 ms", 8),
        ("CPU %", 6),
        ("late ticks/s", 12),
    ];
    let rows = now.brokers.iter().map(|answer| {
        let id = answer.broker.map_or("?".to_owned(), |broker| broker.to_string());
        let Some(page) = &answer.page else {
            let error = answer.error.clone().unwrap_or_default();
            let row = Row::new(vec![id, "no answer".to_owned(), String::new(), error]);
            return row.style(colour(Severity::Critical));
        };
        broker_row(id, page, rates(page, now, view.earlier.as_ref()))
    });
    let header =
        Row::new(columns.map(|(name, _)| name)).style(Style::default().fg(Color::DarkGray));
    let widths = columns.map(|(_, width)| Constraint::Length(width));
    // An error is as wide as it is: the columns of that row have no numbers.
    let table = Table::new(rows, widths).header(header).block(titled("Brokers"));
    frame.render_widget(table, area);
    draw_errors(frame, area, now);
}

/// Over the columns of numbers that a broker without an answer does not have.
fn draw_errors(frame: &mut Frame, area: Rect, now: &Survey) {
    for (row, answer) in now.brokers.iter().enumerate().filter(|(_, a)| a.page.is_none()) {
        let (x, y) = (area.x + 21, area.y + 2 + row as u16);
        if y >= area.bottom() || x >= area.right() {
            continue;
        }
        let error = answer.error.clone().unwrap_or_default();
        let space = Rect::new(x, y, area.right() - x, 1);
        frame.render_widget(Paragraph::new(error).style(colour(Severity::Critical)), space);
    }
}

fn broker_row<'a>(id: String, page: &Page, rates: Option<Rates>) -> Row<'a> {
    let number = |value: fn(&Rates) -> f64| {
        rates.as_ref().map_or("-".to_owned(), |rates| format!("{:.0}", value(rates)))
    };
    let p99 = page.requests.produce.p99.as_ref();
    let row = Row::new(vec![
        id,
        page.state.clone(),
        lasted(page.uptime_ms),
        page.summary.leads.to_string(),
        page.summary.groups.to_string(),
        page.summary.troubled.to_string(),
        number(|rates| rates.records_in),
        number(|rates| rates.requests),
        p99.map_or("-".to_owned(), |fall| format!("{:.1}", fall.ms)),
        number(|rates| rates.cpu * 100.0),
        number(|rates| rates.late_ticks),
    ]);
    match page.state.as_str() {
        "ready" => row,
        _ => row.style(colour(Severity::Warning)),
    }
}

/// Stalls first, then loops by the age of their phase.
fn draw_loops(frame: &mut Frame, area: Rect, now: &Survey) {
    let mut lines = Vec::new();
    for page in now.pages() {
        for stall in page.lasting_stalls() {
            let text = format!("broker {}: {}", page.broker, stall.says);
            lines.push(Line::styled(text, colour(Severity::Critical)));
        }
    }
    let all = now.pages().flat_map(|page| page.loops.iter().map(move |state| (page.broker, state)));
    let mut busy: Vec<_> =
        all.filter(|(_, state)| state.phase != "idle" && state.age_ms >= LOOP_MS).collect();
    busy.sort_by_key(|(_, state)| std::cmp::Reverse(state.age_ms));
    lines.extend(busy.iter().map(|(broker, state)| {
        let name = format!("{}/{}", state.name, state.index);
        Line::raw(format!(
            "broker {broker}: {name} in {} for {}",
            state.phase,
            lasted(state.age_ms)
        ))
    }));
    if lines.is_empty() {
        lines.push(Line::raw(format!("every loop moves within {LOOP_MS} ms")));
    }
    frame.render_widget(Paragraph::new(lines).block(titled("Loops and stalls")), area);
}

fn draw_hottest(frame: &mut Frame, area: Rect, now: &Survey) {
    let mut hottest: Vec<_> = now
        .pages()
        .flat_map(|page| page.hottest.iter().map(move |hot| (page.broker, hot)))
        .collect();
    hottest.sort_by(|a, b| b.1.records_per_s.total_cmp(&a.1.records_per_s));
    let most = hottest.first().map_or(1.0, |(_, hot)| hot.records_per_s.max(1.0));
    let rows = hottest.iter().map(|(broker, hot)| {
        let cells = [
            hot.name.clone(),
            format!("broker {broker}"),
            format!("{:.0}/s", hot.records_per_s),
            bar(hot.records_per_s / most, 10),
        ];
        Row::new(cells)
    });
    let widths =
        [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(9), Constraint::Length(10)];
    frame.render_widget(Table::new(rows, widths).block(titled("Hottest partitions")), area);
}

fn bar(share: f64, width: usize) -> String {
    "█".repeat((share.clamp(0.0, 1.0) * width as f64).round() as usize)
}

/// Under way, then the newest that ended.
fn draw_elections(frame: &mut Frame, area: Rect, now: &Survey) {
    let mut lines = Vec::new();
    for (page, group) in now.pages().flat_map(|p| p.elections.under_way.iter().map(move |g| (p, g)))
    {
        let text = format!(
            "now       broker {} stands for {} since {} ({}), round {}",
            page.broker,
            group.name,
            lasted(group.attempt.ms),
            group.attempt.reason,
            group.attempt.rounds
        );
        lines.push(Line::styled(text, colour(Severity::Warning)));
    }
    let ended =
        now.pages().flat_map(|page| page.elections.elections.iter().map(move |e| (page, e)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_by_key(|(_, election)| std::cmp::Reverse(election.at_ms));
    lines.extend(ended.iter().take(20).map(|(page, election)| {
        let ago = lasted((now.at_ms - election.at_ms).max(0) as u64);
        Line::raw(format!("{ago:>7} ago broker {}: {}", page.broker, election.says))
    }));
    if lines.is_empty() {
        lines.push(Line::raw("none since the brokers started"));
    }
    frame.render_widget(Paragraph::new(lines).block(titled("Elections")), area);
}

/// Of the broker with the most produce requests.
fn draw_waterfall(frame: &mut Frame, area: Rect, now: &Survey) {
    let busiest = now.pages().max_by_key(|page| page.requests.produce.count);
    let fall = busiest.and_then(|page| Some((page, page.requests.produce.p99.as_ref()?)));
    let Some((page, p99)) = fall else {
        let none = Paragraph::new("no produce requests in the last minute");
        return frame.render_widget(none.block(titled("Write waterfall")), area);
    };
    let median = |stage: &str| {
        let p50 = page.requests.produce.p50.as_ref();
        let found = p50.and_then(|fall| fall.stages.iter().find(|known| known.stage == stage));
        found.map_or(0.0, |found| found.ms)
    };
    let rows = p99.stages.iter().map(|stage| {
        let cells = [
            stage.stage.clone(),
            format!("{:.2}", median(&stage.stage)),
            format!("{:.2}", stage.ms),
            bar(stage.ms / p99.ms.max(0.001), 16),
        ];
        Row::new(cells)
    });
    let header = Row::new(["stage", "p50 ms", "p99 ms", "share of p99"]);
    let header = header.style(Style::default().fg(Color::DarkGray));
    let widths =
        [Constraint::Length(15), Constraint::Length(8), Constraint::Length(8), Constraint::Fill(1)];
    let title = format!(
        "Write waterfall, broker {}, {} requests",
        page.broker, page.requests.produce.count
    );
    let block = Block::default().borders(Borders::TOP).title(title);
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}
