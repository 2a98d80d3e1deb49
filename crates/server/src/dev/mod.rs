//! `glasslog dev`: a cluster of broker processes on this machine, shown while it runs.
//!
//! Everything happens on the main thread: the kernel kills the children when that thread
//! dies, so it is the one that starts them. What to do is decided by [`supervisor`]; this file
//! carries it out, and shows it on a terminal as one live screen, elsewhere as plain lines.

mod layout;
mod observe;
mod process;
mod screen;
mod supervisor;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use model::limits;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::layout::Place;
use self::process::Process;
use self::screen::Painter;
use self::supervisor::{Command, Event, Outcome, Supervisor};
use crate::cli::DevOptions;
use crate::error::ServerError;

/// The screen moves this often even when nothing happens: it counts seconds.
const FRAME: Duration = Duration::from_millis(200);

/// Runs the cluster until it is told to stop.
pub fn run(options: &DevOptions) -> Result<(), ServerError> {
    let claim = layout::claim(options)?;
    let places = layout::places(options, &claim.data_dir);
    layout::check_ports(&places)?;
    layout::write_configs(&places)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::system("start the runtime"))?;
    // A closed pipe on the reading side of our output must not end the brokers.
    let _ = io::stdout().write_all(welcome(&places, &claim.data_dir).as_bytes());
    let outcome = runtime.block_on(Run::new(options, places).until_done())?;
    let data = claim.data_dir.display();
    match outcome {
        Outcome::Drained(drained) => {
            let all = usize::from(options.brokers);
            let who =
                if drained == all { format!("all {all}") } else { format!("{drained} of {all}") };
            say(&format!("{who} brokers drained; the data is in {data}"));
            Ok(())
        }
        Outcome::NotDrained(left) => {
            let names: Vec<_> = left.iter().map(u16::to_string).collect();
            Err(ServerError::Fatal(format!(
                "not drained: broker {}; acknowledged records are safe in {data}",
                names.join(", ")
            )))
        }
        Outcome::Refused { id, why } => Err(ServerError::Child { id, why }),
        Outcome::NoneLeft => Err(ServerError::Fatal("no broker is left".into())),
    }
}

/// Prints a line where anyone still reads.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Where to connect, what to try, where the data lies.
fn welcome(places: &[Place], data_dir: &std::path::Path) -> String {
    let join =
        |address: fn(&Place) -> String| places.iter().map(address).collect::<Vec<_>>().join(",");
    let first = &places[0];
    format!(
        "glasslog dev, {count} brokers\n\
         \x20 kafka  {kafka}\n\
         \x20 peers  {peers}\n\
         \x20 admin  {admin}   (http: /metrics /healthz /readyz /debug/groups /debug/loops)\n\
         \x20 data   {data}   (broker-N/log is what a broker says)\n\
         \x20 try    printf 'hello\\nglass\\n' | kcat -P -b {one} -t greetings -X acks=all\n\
         \x20        kcat -C -b {one} -t greetings -o beginning -e\n\n",
        count = places.len(),
        kafka = join(Place::kafka),
        peers = join(Place::peer),
        admin = join(Place::admin),
        data = data_dir.display(),
        one = first.kafka(),
    )
}

/// One broker's process and the task that asks it for its state.
struct Running {
    process: Process,
    observer: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.observer.abort();
    }
}

struct Run {
    places: Vec<Place>,
    supervisor: Supervisor,
    /// Same order as `places`.
    running: Vec<Option<Running>>,
    commands: VecDeque<Command>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    start: Instant,
    /// Present on a terminal.
    painter: Option<Painter>,
}

impl Run {
    fn new(options: &DevOptions, places: Vec<Place>) -> Run {
        let ids = places.iter().map(|place| place.id);
        let (supervisor, commands) = Supervisor::new(ids, !options.no_restart);
        let (events, inbox) = mpsc::channel(limits::DEV_EVENTS_MAX);
        Run {
            running: places.iter().map(|_| None).collect(),
            places,
            supervisor,
            commands: commands.into(),
            events,
            inbox,
            start: Instant::now(),
            painter: io::stdout().is_terminal().then(Painter::default),
        }
    }

    async fn until_done(mut self) -> Result<Outcome, ServerError> {
        let listen = |kind| signal(kind).map_err(ServerError::system("listen for signals"));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let mut frame = tokio::time::interval(FRAME);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(outcome) = self.carry_out() {
                self.show();
                return Ok(outcome);
            }
            self.show();
            let event = tokio::select! {
                Some(event) = self.inbox.recv() => event,
                _ = interrupt.recv() => Event::StopRequested,
                _ = terminate.recv() => Event::StopRequested,
                _ = hangup.recv() => Event::StopRequested,
                _ = frame.tick() => Event::Tick,
            };
            self.feed(event);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn feed(&mut self, event: Event) {
        if let Event::Exited { id, .. } = event {
            let place = self.index(id);
            self.running[place] = None;
        }
        let commands = self.supervisor.on(self.now_ms(), event);
        self.commands.extend(commands);
    }

    fn index(&self, id: u16) -> usize {
        let found = self.places.iter().position(|place| place.id == id);
        found.expect("events and commands name brokers of this run")
    }

    /// Does everything that was decided; returns the outcome once there is one.
    fn carry_out(&mut self) -> Option<Outcome> {
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Start(id) => self.start(id),
                Command::Terminate(id) => self.signal(id, Process::terminate),
                Command::Kill(id) => self.signal(id, Process::kill),
                Command::Finish(outcome) => return Some(outcome),
            }
        }
        None
    }

    fn start(&mut self, id: u16) {
        let at = self.index(id);
        let place = &self.places[at];
        let event = match Process::start(place, self.events.clone()) {
            Ok(process) => {
                let (pid, log_from) = (process.pid, process.log_from);
                let events = self.events.clone();
                let watch = observe::watch(place.clone(), pid, log_from, events);
                let observer = telemetry::task::spawn("observe broker", watch);
                self.running[at] = Some(Running { process, observer });
                Event::Spawned { id, pid }
            }
            Err(error) => Event::SpawnFailed { id, why: crate::error::plain(&error) },
        };
        self.feed(event);
    }

    fn signal(&self, id: u16, send: fn(&Process)) {
        if let Some(running) = &self.running[self.index(id)] {
            send(&running.process);
        }
    }

    fn show(&mut self) {
        let lines = self.supervisor.take_lines();
        let now_ms = self.now_ms();
        let Some(painter) = &mut self.painter else {
            lines.iter().for_each(|line| say(line));
            return;
        };
        let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
        let frame = screen::render(
            &self.supervisor,
            &self.places,
            now_ms,
            usize::from(width),
            usize::from(height),
        );
        // A terminal that went away is no reason to stop; SIGHUP says so if it is.
        let _ = painter.paint(&mut io::stdout().lock(), &frame);
    }
}
