//! Why is it stuck: from "something hangs" to a place in the code.

use super::board::{Board, Row, here, lines, max, number, quantile, rate, row, sum, table};

/// What tells one stall from another.
const STALL: &str =
    "instance, loop, phase, cause, resource, mode, waiter_site, holder, holder_site";

pub fn board() -> Board {
    Board {
        id: "stuck",
        title: "Why is it stuck",
        about: "What stands still, where, since when and because of whom.",
        rows: vec![what_stands_still(), in_which_place(), because_of_what()],
    }
}

fn what_stands_still() -> Row {
    row(
        "What stands still",
        vec![
            table(
                "Stalls that last",
                "Each loop beyond its threshold, for how long, why, and who holds what \
                 it waits for: an empty table is a good one.",
            )
            .of("", max("glasslog_stall_active_seconds", STALL)),
            number("Stalls now", "Loops beyond their threshold: the table above explains them.")
                .of("", format!("sum({})", here("glasslog_stalls_active")))
                .red_from(1.0),
            number(
                "Watchdog",
                "Age of the watchdog's last look, the oldest: above 2 s nothing here can \
                 be trusted.",
            )
            .of("", format!("max({})", here("glasslog_watchdog_heartbeat_age_seconds")))
            .red_from(2.0),
            number(
                "Host pauses, 1 h",
                "Times a host stood still for over a second: the broker is not to blame \
                 for what happened then.",
            )
            .of("", format!("sum(increase({}[1h]))", here("glasslog_host_pauses_total")))
            .red_from(1.0),
            number(
                "Ending itself",
                "Reasons for which a broker is about to end itself: more than 0 is seen \
                 for a moment only.",
            )
            .of("", format!("sum({})", here("glasslog_fatal_info")))
            .red_from(1.0),
            number(
                "Started after a crash",
                "Brokers whose last life ended badly: the alert BrokerFatal names the \
                 reason.",
            )
            .of("", format!("sum({})", here("glasslog_last_crash_info")))
            .red_from(1.0),
            number(
                "Ring dumps, 1 h",
                "Times the flight recorder was set aside, at stalls, panics and \
                 elections: `glasslog blackbox` reads the dumps.",
            )
            .of("", format!("sum(increase({}[1h]))", here("glasslog_flight_dumps_total"))),
        ],
    )
}

fn in_which_place() -> Row {
    row(
        "Where",
        vec![
            lines(
                "Stalls, by loop and phase",
                "Stalls that began: the phase says what the loop was doing.",
            )
            .of(
                "{{loop}} {{phase}}",
                format!("{} > 0", rate("glasslog_stalls_total", "loop, phase")),
            ),
            lines(
                "Stalls that last, by loop",
                "Loops that are beyond their threshold: a plateau is a loop that does \
                 not come back.",
            )
            .of(
                "{{instance}} {{loop}}",
                format!("{} > 0", sum("glasslog_stalls_active", "instance, loop")),
            ),
            lines(
                "Last sign of life, by loop",
                "Age of the last sign of life: a slope of 45 degrees is a loop that \
                 hangs.",
            )
            .of(
                "{{instance}} {{loop}}",
                max("glasslog_loop_heartbeat_age_seconds", "instance, loop"),
            ),
            lines("Loops that run", "Loops of each kind: one that vanishes has ended.")
                .of("{{loop}}", format!("{} > 0", sum("glasslog_loops", "loop"))),
            lines(
                "Longest phases",
                "99th percentile of an unbroken stay in a phase, the ten longest: above \
                 1 s is a stall.",
            )
            .of(
                "{{loop}} {{phase}}",
                format!("topk(10, {})", quantile(99, "glasslog_loop_phase_seconds", "loop, phase")),
            ),
            lines(
                "CPU, by loop",
                "CPU time of the threads that run loops: one at 100 % is busy, not \
                 waiting.",
            )
            .of("{{loop}}", rate("glasslog_loop_cpu_seconds_total", "loop")),
        ],
    )
}

fn because_of_what() -> Row {
    row(
        "Because of what",
        vec![
            lines(
                "Oldest request in flight",
                "Age of the oldest request by what it waits for: a slope of 45 degrees \
                 names the stage that hangs (fetch_wait is a long poll).",
            )
            .of("{{stage}}", max("glasslog_inflight_oldest_seconds", "stage")),
            lines(
                "Requests in flight",
                "Requests by what they wait for: they pile up before whatever is slow.",
            )
            .of("{{stage}}", sum("glasslog_inflight", "stage")),
            lines(
                "Disk operation in flight",
                "Age of the journal's operation at the disk: seconds here are the \
                 disk's, not the broker's.",
            )
            .of(
                "{{instance}} {{op}}",
                format!("{} > 0", max("glasslog_journal_inflight_seconds", "instance, op")),
            ),
            lines(
                "Oldest lock held",
                "Age of the oldest lock held now, by class: above 100 ms somebody sleeps \
                 with it.",
            )
            .of("{{class}}", format!("{} > 0", max("glasslog_lock_held_oldest_seconds", "class"))),
            lines(
                "Waits for locks, 99th percentile",
                "Time a lock was waited for, of those who had to: above 1 s loops are \
                 reported.",
            )
            .of("{{class}}", quantile(99, "glasslog_lock_wait_seconds", "class")),
            lines(
                "Locks held, 99th percentile",
                "Time a lock was held: above 100 ms the holder does something that it \
                 should not.",
            )
            .of("{{class}}", quantile(99, "glasslog_lock_hold_seconds", "class")),
            lines(
                "Late ticks, by what used the time",
                "Ticks that came late by over half a heartbeat: elections follow when \
                 this lasts.",
            )
            .of(
                "{{instance}} {{blocked_by}}",
                rate("glasslog_raft_ticks_late_total", "instance, blocked_by"),
            ),
        ],
    )
}
