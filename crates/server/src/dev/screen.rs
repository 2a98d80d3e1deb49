//! The live screen of `glasslog dev`: what to draw is a pure function of the supervisor's
//! state; painting it over the last frame is a few lines at the end.
//!
//! Invariants: no line is wider than the terminal and no frame higher, so a frame can always
//! be painted over; drawing twice from the same state gives the same lines.

use std::io::{self, Write};

use crossterm::style::{Color, ResetColor, SetForegroundColor};
use crossterm::{QueueableCommand, cursor, terminal};

use super::layout::Place;
use super::supervisor::{Broker, State, Supervisor};

/// How a line is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub tone: Tone,
    pub text: String,
}

const COLUMNS: &str = "broker  kafka  admin  pid      starts  leads  groups  state";

/// One frame. `width` and `height` are the terminal's, in characters.
pub fn render(
    supervisor: &Supervisor,
    places: &[Place],
    now_ms: u64,
    width: usize,
    height: usize,
) -> Vec<Line> {
    let plain = |text: String| Line { tone: Tone::Plain, text };
    let mut lines = vec![plain(COLUMNS.to_owned())];
    for (broker, place) in supervisor.brokers.iter().zip(places) {
        lines.push(Line { tone: tone(broker), text: row(broker, place, now_ms) });
        if let Some(error) = &broker.last_error {
            let kind = if error.starts_with("WARN ") { "warning" } else { "error" };
            lines.push(plain(format!("        last {kind}: {error}")));
        }
    }
    lines.push(plain(String::new()));
    for (at_ms, line) in &supervisor.events {
        lines.push(plain(format!("{:>8}  {line}", clock(*at_ms))));
    }
    let hint = if supervisor.is_stopping() {
        "draining; Ctrl-C again kills"
    } else {
        "Ctrl-C drains all brokers and ends"
    };
    lines.push(plain(format!("{:>8}  {hint}", clock(now_ms))));
    // One row less than the terminal has: the cursor stands below the frame.
    lines.truncate(height.saturating_sub(1));
    for line in &mut lines {
        line.text = fit(&line.text, width);
    }
    lines
}

fn row(broker: &Broker, place: &Place, now_ms: u64) -> String {
    let pid = broker.pid.map_or("-".to_owned(), |pid| pid.to_string());
    let known = matches!(broker.state, State::Ready | State::WaitingFor(_));
    let count = |number: u64| if known { number.to_string() } else { "-".to_owned() };
    format!(
        "{:>6}  {:<5}  {:<5}  {:<7}  {:>6}  {:>5}  {:>6}  {}",
        broker.id,
        place.kafka_port,
        place.admin_port,
        pid,
        broker.starts,
        count(broker.answer.leads),
        count(broker.answer.groups),
        state_text(broker, now_ms),
    )
}

/// A broker's state in words.
pub fn state_text(broker: &Broker, now_ms: u64) -> String {
    match &broker.state {
        State::Starting => "starting".into(),
        State::WaitingFor(what) if what.is_empty() => "waiting".into(),
        State::WaitingFor(what) => format!("waiting for {}", what.join(", ")),
        State::Ready if broker.answer.troubled > 0 => {
            format!("ready, {} groups in trouble", broker.answer.troubled)
        }
        State::Ready => "ready".into(),
        State::NotAnswering { since_ms } => {
            format!("not answering for {} s", now_ms.saturating_sub(*since_ms) / 1_000)
        }
        State::Dead { again_ms: Some(at) } => {
            let left = at.saturating_sub(now_ms);
            format!("dead, started again in {}.{} s", left / 1_000, left % 1_000 / 100)
        }
        State::Dead { again_ms: None } => "dead".into(),
        State::Draining { killed: true, .. } => "killed, draining took too long".into(),
        State::Draining { since_ms, .. } => {
            format!("draining for {} s", now_ms.saturating_sub(*since_ms) / 1_000)
        }
        State::Stopped => "stopped".into(),
    }
}

fn tone(broker: &Broker) -> Tone {
    match &broker.state {
        State::Ready if broker.answer.troubled == 0 => Tone::Good,
        State::Ready | State::NotAnswering { .. } | State::Dead { .. } => Tone::Bad,
        State::Starting | State::WaitingFor(_) | State::Draining { .. } => Tone::Busy,
        State::Stopped => Tone::Plain,
    }
}

/// Time since the start: `75 s` is `1:15`.
fn clock(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds / 3_600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// The text cut to `width` characters, with dots where something is missing.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...").chars().take(width).collect()
}

/// Paints frames over each other.
#[derive(Default)]
pub struct Painter {
    rows: u16,
}

impl Painter {
    pub fn paint(&mut self, out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
        out.queue(cursor::MoveToColumn(0))?;
        if self.rows > 0 {
            out.queue(cursor::MoveUp(self.rows))?;
        }
        out.queue(terminal::Clear(terminal::ClearType::FromCursorDown))?;
        for line in lines {
            let color = match line.tone {
                Tone::Plain => None,
                Tone::Good => Some(Color::Green),
                Tone::Busy => Some(Color::Yellow),
                Tone::Bad => Some(Color::Red),
            };
            if let Some(color) = color {
                out.queue(SetForegroundColor(color))?;
            }
            writeln!(out, "{}", line.text)?;
            if color.is_some() {
                out.queue(ResetColor)?;
            }
        }
        self.rows = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::DevOptions;
    use crate::dev::layout;
    use crate::dev::supervisor::{Answer, Event, Exit, Phase};
    use std::path::Path;

    fn story() -> (Supervisor, Vec<Place>) {
        let options = DevOptions {
            brokers: 3,
            base_port: 9092,
            data_dir: "/d".into(),
            fresh: false,
            no_restart: false,
        };
        let (mut supervisor, _) = Supervisor::new(1..=3, true);
        for id in 1..=3 {
            supervisor.on(0, Event::Spawned { id, pid: 1000 + u32::from(id) });
        }
        let ready = Answer { phase: Phase::Ready, groups: 7, leads: 3, ..Answer::default() };
        supervisor.on(900, Event::Answered { id: 1, pid: 1001, answer: ready });
        let waiting = Answer {
            phase: Phase::Waiting,
            waiting_for: vec!["broker 3".into()],
            ..Answer::default()
        };
        supervisor.on(950, Event::Answered { id: 2, pid: 1002, answer: waiting });
        let last_line = Some("glasslog: stopped: fsync failed".into());
        supervisor.on(1_000, Event::Exited { id: 3, exit: Exit::Code(3), last_line });
        (supervisor, layout::places(&options, Path::new("/d")))
    }

    #[test]
    fn one_screen_tells_the_state_of_every_broker() {
        let (supervisor, places) = story();
        let lines = render(&supervisor, &places, 1_500, 100, 40);
        let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            text,
            [
                "broker  kafka  admin  pid      starts  leads  groups  state",
                "     1  9092   9292   1001          1      3       7  ready",
                "     2  9093   9293   1002          1      0       0  waiting for broker 3",
                "     3  9094   9294   -             1      -       -  dead, started again in 1.5 s",
                "        last error: exit code 3; last words: stopped: fsync failed",
                "",
                "    0:00  broker 1: started, pid 1001",
                "    0:00  broker 2: started, pid 1002",
                "    0:00  broker 3: started, pid 1003",
                "    0:00  broker 1: ready",
                "    0:00  broker 2: waiting for broker 3",
                "    0:01  broker 3: died: exit code 3; last words: stopped: fsync failed",
                "    0:01  Ctrl-C drains all brokers and ends",
            ]
        );
        let tones: Vec<_> = lines[1..4].iter().map(|line| line.tone).collect();
        assert_eq!(tones, [Tone::Good, Tone::Busy, Tone::Bad]);
    }

    #[test]
    fn a_frame_fits_any_terminal() {
        let (supervisor, places) = story();
        for (width, height) in [(0, 0), (1, 1), (20, 5), (80, 24)] {
            let lines = render(&supervisor, &places, 1_500, width, height);
            assert!(lines.len() <= height);
            assert!(lines.iter().all(|line| line.text.chars().count() <= width));
        }
        assert_eq!(fit("0123456789", 8), "01234...");
    }

    #[test]
    fn times_and_drain_in_words() {
        assert_eq!((clock(75_000), clock(3_675_000)), ("1:15".into(), "1:01:15".into()));
        let (mut supervisor, _) = story();
        supervisor.on(2_000, Event::StopRequested);
        assert_eq!(state_text(&supervisor.brokers[0], 5_500), "draining for 3 s");
        assert_eq!(state_text(&supervisor.brokers[2], 5_500), "stopped");
    }

    #[test]
    fn painting_again_starts_at_the_top_of_the_last_frame() {
        let mut painter = Painter::default();
        let lines = vec![Line { tone: Tone::Good, text: "a".into() }; 2];
        painter.paint(&mut Vec::new(), &lines).unwrap();
        let mut out = Vec::new();
        painter.paint(&mut out, &lines).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\u{1b}[2A"), "not two rows up");
    }
}
