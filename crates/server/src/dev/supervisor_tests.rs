//! Stories of brokers that start, die and drain, told as events.

use super::*;

fn started(ids: std::ops::RangeInclusive<u16>, restart: bool) -> Supervisor {
    let (mut supervisor, commands) = Supervisor::new(ids.clone(), restart);
    assert_eq!(commands, ids.clone().map(Command::Start).collect::<Vec<_>>());
    for id in ids {
        supervisor.on(0, Event::Spawned { id, pid: 100 + u32::from(id) });
    }
    supervisor
}

fn ready(supervisor: &mut Supervisor, id: u16) {
    let answer = Answer { phase: Phase::Ready, groups: 4, leads: 1, ..Answer::default() };
    let pid = supervisor.broker(id).pid.unwrap();
    supervisor.on(10, Event::Answered { id, pid, answer });
}

fn exit(supervisor: &mut Supervisor, now: u64, id: u16, exit: Exit) -> Vec<Command> {
    supervisor.on(now, Event::Exited { id, exit, last_line: Some("the end".into()) })
}

#[test]
fn a_dead_broker_is_started_again_after_two_seconds_and_its_death_is_explained() {
    let mut supervisor = started(1..=3, true);
    (1..=3).for_each(|id| ready(&mut supervisor, id));
    assert!(supervisor.take_lines().contains(&"all 3 brokers are ready".to_owned()));

    assert_eq!(exit(&mut supervisor, 1_000, 2, Exit::Signal(9)), []);
    let line = supervisor.take_lines().pop().unwrap();
    assert_eq!(
        line,
        "broker 2: died: signal 9 (SIGKILL, kill -9 or out of memory); last words: the end"
    );
    assert_eq!(supervisor.on(2_999, Event::Tick), []);
    assert_eq!(supervisor.on(3_000, Event::Tick), [Command::Start(2)]);
    assert_eq!(supervisor.on(3_100, Event::Tick), [], "started twice");
    supervisor.on(3_100, Event::Spawned { id: 2, pid: 202 });
    assert_eq!(supervisor.brokers[1].state, State::Starting);
    assert_eq!(supervisor.brokers[1].starts, 2);
}

#[test]
fn no_restart_leaves_it_dead_and_ends_with_the_last_one() {
    let mut supervisor = started(1..=2, false);
    (1..=2).for_each(|id| ready(&mut supervisor, id));
    assert_eq!(exit(&mut supervisor, 1_000, 1, Exit::Code(3)), []);
    assert_eq!(supervisor.on(60_000, Event::Tick), []);
    let last = exit(&mut supervisor, 70_000, 2, Exit::Code(3));
    assert_eq!(last, [Command::Finish(Outcome::NoneLeft)]);
}

#[test]
fn a_request_to_stop_drains_all_and_says_so() {
    let mut supervisor = started(1..=3, true);
    let terminate: Vec<_> = (1..=3).map(Command::Terminate).collect();
    assert_eq!(supervisor.on(5_000, Event::StopRequested), terminate);
    assert_eq!(exit(&mut supervisor, 5_100, 1, Exit::Code(0)), []);
    assert_eq!(exit(&mut supervisor, 5_100, 3, Exit::Code(0)), []);
    assert_eq!(supervisor.on(20_000, Event::Tick), [], "nothing is started while stopping");
    let last = exit(&mut supervisor, 20_100, 2, Exit::Code(0));
    assert_eq!(last, [Command::Finish(Outcome::Drained(3))]);
    assert_eq!(supervisor.on(20_200, Event::Tick), [], "finished once");
    let said = supervisor.take_lines().join("\n");
    assert!(said.contains("draining 3 brokers"), "{said}");
    assert!(said.contains("broker 2: drained and stopped"), "{said}");
}

#[test]
fn a_broker_that_does_not_drain_is_killed_in_time_and_named() {
    let mut supervisor = started(1..=1, true);
    supervisor.on(0, Event::StopRequested);
    let limit = limits::DEV_DRAIN_MS_MAX;
    assert_eq!(supervisor.on(limit - 1, Event::Tick), []);
    assert_eq!(supervisor.on(limit, Event::Tick), [Command::Kill(1)]);
    assert_eq!(supervisor.on(limit + 1, Event::Tick), []);
    let last = exit(&mut supervisor, limit + 2, 1, Exit::Signal(9));
    assert_eq!(last, [Command::Finish(Outcome::NotDrained(vec![1]))]);
}

#[test]
fn a_second_request_kills_at_once() {
    let mut supervisor = started(1..=2, true);
    supervisor.on(0, Event::StopRequested);
    let kill = [Command::Kill(1), Command::Kill(2)];
    assert_eq!(supervisor.on(100, Event::StopRequested), kill);
}

#[test]
fn a_dead_broker_does_not_hold_up_the_stop() {
    let mut supervisor = started(1..=2, true);
    ready(&mut supervisor, 1);
    exit(&mut supervisor, 100, 1, Exit::Signal(11));
    assert_eq!(supervisor.on(200, Event::StopRequested), [Command::Terminate(2)]);
    let last = exit(&mut supervisor, 300, 2, Exit::Code(0));
    assert_eq!(last, [Command::Finish(Outcome::Drained(1))]);
}

#[test]
fn a_first_start_that_is_refused_ends_the_run_with_its_reason() {
    let mut supervisor = started(1..=2, true);
    let refused = Event::Exited {
        id: 1,
        exit: Exit::Code(1),
        last_line: Some("glasslog: data directory /d belongs to broker 7".into()),
    };
    assert_eq!(supervisor.on(50, refused), [Command::Terminate(2)]);
    let last = exit(&mut supervisor, 60, 2, Exit::Code(0));
    let why = "data directory /d belongs to broker 7".to_owned();
    assert_eq!(last, [Command::Finish(Outcome::Refused { id: 1, why })]);
}

#[test]
fn a_refusal_after_a_life_is_tried_again() {
    let mut supervisor = started(1..=1, true);
    ready(&mut supervisor, 1);
    assert_eq!(exit(&mut supervisor, 100, 1, Exit::Code(1)), []);
    assert_eq!(supervisor.on(2_100, Event::Tick), [Command::Start(1)]);
}

#[test]
fn an_answer_of_a_former_life_changes_nothing() {
    let mut supervisor = started(1..=1, true);
    let answer = Answer { phase: Phase::Ready, ..Answer::default() };
    supervisor.on(10, Event::Answered { id: 1, pid: 7, answer });
    assert_eq!(supervisor.brokers[0].state, State::Starting);
}

#[test]
fn a_broker_that_falls_silent_is_shown_as_such_and_recovers() {
    let mut supervisor = started(1..=1, true);
    supervisor.on(5, Event::Silent { id: 1, pid: 101 });
    assert_eq!(supervisor.brokers[0].state, State::Starting, "it has not spoken yet");
    ready(&mut supervisor, 1);
    supervisor.on(20, Event::Silent { id: 1, pid: 101 });
    assert_eq!(supervisor.brokers[0].state, State::NotAnswering { since_ms: 20 });
    ready(&mut supervisor, 1);
    assert_eq!(supervisor.brokers[0].state, State::Ready);
}

#[test]
fn exit_reasons_in_words() {
    assert_eq!(exit_reason(Exit::Code(101), None), "exit code 101");
    assert_eq!(exit_reason(Exit::Signal(15), None), "signal 15 (SIGTERM)");
    assert_eq!(exit_reason(Exit::Signal(63), None), "signal 63");
    assert_eq!(
        exit_reason(Exit::Code(3), Some("glasslog: stopped: fsync failed")),
        "exit code 3; last words: stopped: fsync failed"
    );
}
