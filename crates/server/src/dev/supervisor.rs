//! What `glasslog dev` decides: pure, so that every story of a dying broker is a test.
//!
//! Events go in with the time, commands come out; the screen is drawn from the same values.
//! Invariants: nothing here starts a process, reads a clock or prints; a broker is never
//! started while its process still runs; after a request to stop nothing is started.

use std::collections::VecDeque;

use model::limits;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// What a broker says about itself on its admin HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub phase: Phase,
    pub waiting_for: Vec<String>,
    pub groups: u64,
    pub leads: u64,
    /// Groups that need a person: suspect, held, quarantined.
    pub troubled: u64,
}

/// Where a broker's boot stands, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Starting,
    Waiting,
    Ready,
    Stopping,
}

impl Phase {
    pub fn parse(word: &str) -> Phase {
        match word {
            "ready" => Phase::Ready,
            "waiting" => Phase::Waiting,
            "stopping" => Phase::Stopping,
            _ => Phase::Starting,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Spawned {
        id: u16,
        pid: u32,
    },
    SpawnFailed {
        id: u16,
        why: String,
    },
    Answered {
        id: u16,
        pid: u32,
        answer: Answer,
    },
    /// The admin HTTP of a running process did not answer.
    Silent {
        id: u16,
        pid: u32,
    },
    /// The last line of a broker's log that is an error or a warning.
    Troubled {
        id: u16,
        pid: u32,
        line: String,
    },
    Exited {
        id: u16,
        exit: Exit,
        last_line: Option<String>,
    },
    /// Ctrl-C or SIGTERM.
    StopRequested,
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Start(u16),
    Terminate(u16),
    Kill(u16),
    Finish(Outcome),
}

/// How the run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This many drained; any other was dead already.
    Drained(usize),
    /// These brokers did not drain: killed, or ended with an error.
    NotDrained(Vec<u16>),
    /// A broker could not even start the first time.
    Refused { id: u16, why: String },
    /// `--no-restart`, and the last one died.
    NoneLeft,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, and has not yet said more.
    Starting,
    WaitingFor(Vec<String>),
    Ready,
    /// It answered before and does not now.
    NotAnswering {
        since_ms: u64,
    },
    Dead {
        again_ms: Option<u64>,
    },
    Draining {
        since_ms: u64,
        killed: bool,
    },
    Stopped,
}

/// One broker as the supervisor knows it.
#[derive(Clone, Debug)]
pub struct Broker {
    pub id: u16,
    pub state: State,
    pub pid: Option<u32>,
    pub starts: u32,
    pub answer: Answer,
    pub last_error: Option<String>,
    /// Got past its start once, in whichever life.
    lived: bool,
    end: Option<End>,
}

/// How a broker stood when the run was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drained,
    NotDrained,
    /// It was dead when the stop was asked for: nothing left to drain.
    DeadBefore,
}

pub struct Supervisor {
    pub brokers: Vec<Broker>,
    /// What happened, newest last: (milliseconds since the start, line).
    pub events: VecDeque<(u64, String)>,
    restart: bool,
    stopping: bool,
    refused: Option<(u16, String)>,
    all_ready_said: bool,
    finished: bool,
    /// Lines not yet taken by [`Supervisor::take_lines`].
    unsaid: Vec<String>,
}

impl Supervisor {
    pub fn new(ids: impl IntoIterator<Item = u16>, restart: bool) -> (Self, Vec<Command>) {
        let broker = |id| Broker {
            id,
            state: State::Starting,
            pid: None,
            starts: 0,
            answer: Answer::default(),
            last_error: None,
            lived: false,
            end: None,
        };
        let brokers: Vec<_> = ids.into_iter().map(broker).collect();
        let start = brokers.iter().map(|b| Command::Start(b.id)).collect();
        let supervisor = Supervisor {
            brokers,
            events: VecDeque::new(),
            restart,
            stopping: false,
            refused: None,
            all_ready_said: false,
            finished: false,
            unsaid: Vec::new(),
        };
        (supervisor, start)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Lines to print where there is no screen.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unsaid)
    }

    pub fn on(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        match event {
            Event::Spawned { id, pid } => self.spawned(now_ms, id, pid),
            Event::SpawnFailed { id, why } => {
                self.say(now_ms, format!("broker {id}: cannot be started: {why}"));
                self.died(now_ms, id, why);
            }
            Event::Answered { id, pid, answer } => self.answered(now_ms, id, pid, answer),
            Event::Silent { id, pid } => self.silent(now_ms, id, pid),
            Event::Troubled { id, pid, line } => {
                let broker = self.broker(id);
                if broker.pid == Some(pid) {
                    broker.last_error = Some(line);
                }
            }
            Event::Exited { id, exit, last_line } => {
                return self.exited(now_ms, id, exit, last_line);
            }
            Event::StopRequested => return self.stop(now_ms),
            Event::Tick => {}
        }
        self.due(now_ms)
    }

    fn broker(&mut self, id: u16) -> &mut Broker {
        let found = self.brokers.iter_mut().find(|broker| broker.id == id);
        found.expect("events name brokers of this run")
    }

    fn say(&mut self, now_ms: u64, line: String) {
        self.unsaid.push(line.clone());
        self.events.push_back((now_ms, line));
        if self.events.len() > limits::DEV_EVENTS_KEPT {
            self.events.pop_front();
        }
    }

    fn spawned(&mut self, now_ms: u64, id: u16, pid: u32) {
        let broker = self.broker(id);
        assert!(broker.pid.is_none(), "broker {id} was started twice");
        broker.pid = Some(pid);
        broker.starts += 1;
        broker.answer = Answer::default();
        if broker.state != State::Stopped {
            broker.state = State::Starting;
        }
        let again = if broker.starts > 1 { " again" } else { "" };
        self.say(now_ms, format!("broker {id}: started{again}, pid {pid}"));
    }

    fn answered(&mut self, now_ms: u64, id: u16, pid: u32, answer: Answer) {
        let broker = self.broker(id);
        if broker.pid != Some(pid) || matches!(broker.state, State::Draining { .. }) {
            return;
        }
        let next = match answer.phase {
            Phase::Starting | Phase::Stopping => State::Starting,
            Phase::Waiting => State::WaitingFor(answer.waiting_for.clone()),
            Phase::Ready => State::Ready,
        };
        broker.lived |= next != State::Starting;
        let line = match &next {
            _ if next == broker.state => None,
            State::WaitingFor(what) => Some(format!("waiting for {}", what.join(", "))),
            State::Ready => Some("ready".into()),
            _ => None,
        };
        broker.state = next;
        broker.answer = answer;
        if let Some(line) = line {
            self.say(now_ms, format!("broker {id}: {line}"));
        }
        let all_ready = self.brokers.iter().all(|broker| broker.state == State::Ready);
        if all_ready && !self.all_ready_said {
            self.say(now_ms, format!("all {} brokers are ready", self.brokers.len()));
        }
        self.all_ready_said = all_ready;
    }

    fn silent(&mut self, now_ms: u64, id: u16, pid: u32) {
        let broker = self.broker(id);
        let spoke = matches!(broker.state, State::Ready | State::WaitingFor(_));
        if broker.pid == Some(pid) && spoke {
            broker.state = State::NotAnswering { since_ms: now_ms };
            self.all_ready_said = false;
            self.say(now_ms, format!("broker {id}: its admin HTTP does not answer"));
        }
    }

    fn exited(
        &mut self,
        now_ms: u64,
        id: u16,
        exit: Exit,
        last_line: Option<String>,
    ) -> Vec<Command> {
        let stopping = self.stopping;
        let broker = self.broker(id);
        broker.pid = None;
        let reason = exit_reason(exit, last_line.as_deref());
        if stopping {
            broker.state = State::Stopped;
            let drained = exit == Exit::Code(0);
            broker.end = Some(if drained { End::Drained } else { End::NotDrained });
            let line = if drained { "drained and stopped".into() } else { reason };
            self.say(now_ms, format!("broker {id}: {line}"));
            return self.due(now_ms);
        }
        let refusal = exit == Exit::Code(i32::from(crate::EXIT_REFUSED));
        if refusal && !broker.lived && broker.starts == 1 {
            broker.state = State::Stopped;
            let why = last_line.unwrap_or(reason);
            self.refused = Some((id, why.trim_start_matches("glasslog: ").to_owned()));
            return self.stop(now_ms);
        }
        self.say(now_ms, format!("broker {id}: died: {reason}"));
        self.died(now_ms, id, reason);
        self.due(now_ms)
    }

    fn died(&mut self, now_ms: u64, id: u16, reason: String) {
        let restart = self.restart;
        let broker = self.broker(id);
        let again_ms = restart.then_some(now_ms + limits::DEV_RESTART_MS);
        broker.state = State::Dead { again_ms };
        broker.last_error = Some(reason);
        self.all_ready_said = false;
    }

    /// Terminates what runs; asked a second time, kills it.
    fn stop(&mut self, now_ms: u64) -> Vec<Command> {
        let again = self.stopping;
        self.stopping = true;
        let mut commands = Vec::new();
        for broker in &mut self.brokers {
            if broker.pid.is_none() {
                broker.end = broker.end.or(Some(End::DeadBefore));
                broker.state = State::Stopped;
                continue;
            }
            match &mut broker.state {
                State::Draining { killed, .. } if again => {
                    *killed = true;
                    commands.push(Command::Kill(broker.id));
                }
                State::Draining { .. } => {}
                _ => {
                    broker.state = State::Draining { since_ms: now_ms, killed: false };
                    commands.push(Command::Terminate(broker.id));
                }
            }
        }
        let running = self.brokers.iter().filter(|broker| broker.pid.is_some()).count();
        if again {
            self.say(now_ms, format!("asked again: killing {running} brokers"));
        } else if running > 0 {
            self.say(now_ms, format!("draining {running} brokers; Ctrl-C again kills them"));
        }
        commands.extend(self.due(now_ms));
        commands
    }

    /// What the time, or the last event, makes necessary.
    fn due(&mut self, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        for broker in &mut self.brokers {
            match &mut broker.state {
                State::Dead { again_ms: Some(at) } if now_ms >= *at && !self.stopping => {
                    broker.state = State::Starting;
                    commands.push(Command::Start(broker.id));
                }
                State::Draining { since_ms, killed }
                    if !*killed && now_ms >= *since_ms + limits::DEV_DRAIN_MS_MAX =>
                {
                    *killed = true;
                    commands.push(Command::Kill(broker.id));
                }
                _ => {}
            }
        }
        let outcome = self.outcome().filter(|_| !self.finished);
        self.finished |= outcome.is_some();
        commands.extend(outcome.map(Command::Finish));
        commands
    }

    fn outcome(&self) -> Option<Outcome> {
        if !self.stopping {
            let gone = |b: &Broker| b.state == (State::Dead { again_ms: None });
            return self.brokers.iter().all(gone).then_some(Outcome::NoneLeft);
        }
        if self.brokers.iter().any(|broker| broker.state != State::Stopped) {
            return None;
        }
        if let Some((id, why)) = self.refused.clone() {
            return Some(Outcome::Refused { id, why });
        }
        let ended = |end| self.brokers.iter().filter(move |broker| broker.end == Some(end));
        let left: Vec<_> = ended(End::NotDrained).map(|broker| broker.id).collect();
        let drained = ended(End::Drained).count();
        Some(if left.is_empty() { Outcome::Drained(drained) } else { Outcome::NotDrained(left) })
    }
}

/// Why a process is gone, in words: how it ended, and the last thing it said.
pub fn exit_reason(exit: Exit, last_line: Option<&str>) -> String {
    let how = match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => match signal_name(number) {
            Some((name, "")) => format!("signal {number} ({name})"),
            Some((name, hint)) => format!("signal {number} ({name}, {hint})"),
            None => format!("signal {number}"),
        },
    };
    match last_line {
        Some(line) => format!("{how}; last words: {}", line.trim_start_matches("glasslog: ")),
        None => how,
    }
}

/// Name of a Linux signal and what it usually means; see signal(7).
fn signal_name(number: i32) -> Option<(&'static str, &'static str)> {
    Some(match number {
        1 => ("SIGHUP", ""),
        2 => ("SIGINT", ""),
        3 => ("SIGQUIT", ""),
        4 => ("SIGILL", ""),
        6 => ("SIGABRT", "abort or double panic"),
        7 => ("SIGBUS", ""),
        8 => ("SIGFPE", ""),
        9 => ("SIGKILL", "kill -9 or out of memory"),
        11 => ("SIGSEGV", ""),
        13 => ("SIGPIPE", ""),
        14 => ("SIGALRM", ""),
        15 => ("SIGTERM", ""),
        24 => ("SIGXCPU", ""),
        25 => ("SIGXFSZ", ""),
        31 => ("SIGSYS", ""),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
