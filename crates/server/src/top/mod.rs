//! `glasslog top`: a cluster, live, in a terminal.
//!
//! One thread looks at the cluster, one draws and hears keys, so that a broker that answers slowly
//! never freezes the screen: it shows how old its look is instead.
//!
//! Invariant: the terminal is given back as it was, whatever ends this program.

mod rates;
mod screen;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::backend::TestBackend;
use ratatui::{DefaultTerminal, Terminal};

use crate::cli::TopOptions;
use crate::doctor::{look, seeds};
use crate::survey::Survey;
use screen::View;

/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(100);
/// The screen of `--once`.
const ONCE: (u16, u16) = (120, 50);

/// Runs until it is told to end.
pub fn run(options: &TopOptions) -> ExitCode {
    let interval = Duration::from_secs(options.interval);
    let looks = match watch(options, interval) {
        Ok(looks) => looks,
        Err(error) => return failed(&error),
    };
    let outcome = match options.once {
        true => once(&looks),
        false => {
            let mut terminal = match ratatui::try_init() {
                Ok(terminal) => terminal,
                Err(error) => {
                    eprintln!("glasslog: there is no terminal ({error}); `--once` needs none");
                    return ExitCode::from(crate::EXIT_REFUSED);
                }
            };
            let outcome = live(&mut terminal, &looks, interval);
            ratatui::restore();
            outcome
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("glasslog: {}", crate::error::plain(error));
    ExitCode::from(crate::EXIT_REFUSED)
}

/// Looks at the cluster again and again, on a thread of its own, until nobody listens.
fn watch(options: &TopOptions, interval: Duration) -> io::Result<Receiver<Survey>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (seeds, given) = seeds(&options.cluster);
    // One look waits at most: an old one is worth nothing.
    let (sender, looks) = sync_channel(1);
    let watch = move || {
        loop {
            let begun = Instant::now();
            let survey = runtime.block_on(look(&seeds, given));
            if sender.send(survey).is_err() {
                return;
            }
            std::thread::sleep(interval.saturating_sub(begun.elapsed()));
        }
    };
    std::thread::Builder::new().name("look".into()).spawn(watch)?;
    Ok(looks)
}

/// Two looks, so that there are rates, and one screen of text.
fn once(looks: &Receiver<Survey>) -> io::Result<()> {
    let gone = |_| io::Error::other("the cluster is not looked at any more");
    let mut view = View::default();
    view.take(looks.recv().map_err(gone)?);
    view.take(looks.recv().map_err(gone)?);
    print!("{}", text(&view, ONCE)?);
    Ok(())
}

/// A screen as plain text, without the blank end of its lines.
fn text(view: &View, (width, height): (u16, u16)) -> io::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(io::Error::other)?;
    terminal.draw(|frame| screen::draw(frame, view)).map_err(io::Error::other)?;
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..height).map(|y| line(y).trim_end().to_owned()).collect();
    Ok(lines.join("\n").trim_end().to_owned() + "\n")
}

fn live(
    terminal: &mut DefaultTerminal,
    looks: &Receiver<Survey>,
    interval: Duration,
) -> io::Result<()> {
    let mut view = View::every(interval);
    loop {
        terminal.draw(|frame| screen::draw(frame, &view))?;
        match looks.recv_timeout(KEYS) {
            Ok(survey) if !view.paused => view.take(survey),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the cluster is not looked at any more"));
            }
        }
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('c') if interrupt => return Ok(()),
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('p') | KeyCode::Char(' ') => view.paused = !view.paused,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
