//! Cost of telemetry: what looking costs, and what it missed.

use super::board::{Board, Row, here, lines, max, rate, row, sum};
use super::unit::Unit;

pub fn board() -> Board {
    Board {
        id: "telemetry",
        title: "Cost of telemetry",
        about: "What looking costs a broker, and what it missed.",
        rows: vec![what_it_costs(), what_it_missed()],
    }
}

fn what_it_costs() -> Row {
    let watching = rate("glasslog_telemetry_cpu_seconds_total", "instance");
    let all = rate("glasslog_process_cpu_time_seconds_total", "instance");
    let scraped = |metric: &str| here(&format!("{metric}{{job=\"glasslog\"}}"));
    row(
        "What it costs",
        vec![
            lines(
                "Series",
                "Series of the last scrape: 3,000 at most, whatever the number of \
                 partitions.",
            )
            .of("{{instance}}", max("glasslog_metrics_series", "instance")),
            lines(
                "CPU of watchdog and scrapes",
                "CPU time spent on looking: some percent of a core at most.",
            )
            .of("{{instance}}", rate("glasslog_telemetry_cpu_seconds_total", "instance")),
            lines(
                "Of the broker's CPU",
                "Share of the broker's CPU time that goes into looking: high on an idle \
                 broker, below 5 % on a busy one.",
            )
            .of("{{instance}}", format!("{watching} / {all}"))
            .unit(Unit::Share),
            lines(
                "Scrapes, duration",
                "Time a scrape takes: near Prometheus' time-out, brokers will seem to be \
                 down.",
            )
            .of("{{instance}}", scraped("scrape_duration_seconds"))
            .unit(Unit::Seconds),
            lines("Samples of a scrape", "Samples that Prometheus stores with every scrape.")
                .of("{{instance}}", scraped("scrape_samples_scraped")),
            lines("Memory", "Resident memory of the process, rings and histograms included.")
                .of("{{instance}}", here("process_resident_memory_bytes"))
                .unit(Unit::Bytes),
        ],
    )
}

fn what_it_missed() -> Row {
    row(
        "What it missed",
        vec![
            lines(
                "Dropped, by kind",
                "What telemetry could not keep: log_limited is meant so, anything else \
                 is a gap.",
            )
            .of(
                "{{instance}} {{kind}}",
                format!("{} > 0", rate("glasslog_telemetry_dropped_total", "instance, kind")),
            ),
            lines(
                "Requests kept whole, by why",
                "Requests kept at /debug/requests and as traces; many slow or failed ones are worth a look there.",
            )
            .of("{{why}}", rate("glasslog_requests_kept_total", "why")),
            lines(
                "Log lines, by event",
                "Lines written, by kind: what repeats here repeats in the broker.",
            )
            .of("{{event}}", format!("{} > 0", rate("glasslog_log_lines_total", "event"))),
            lines(
                "Watchdog",
                "Age of the watchdog's last look, every 100 ms: above 2 s stalls go \
                 unseen.",
            )
            .of("{{instance}}", max("glasslog_watchdog_heartbeat_age_seconds", "instance")),
            lines(
                "Rings set aside",
                "Dumps of the flight recorder: at most one every five seconds.",
            )
            .of("{{instance}}", rate("glasslog_flight_dumps_total", "instance")),
            lines(
                "Host pauses",
                "Times the watchdog woke more than a second late: the host stood still.",
            )
            .of("{{instance}}", rate("glasslog_host_pauses_total", "instance"))
            .of("{{instance}}: its clock was set", rate("glasslog_clock_steps_total", "instance")),
            lines(
                "TCP segments sent again",
                "Of all that each broker's host sends: above 3 % the network loses packets.",
            )
            .unit(Unit::Share)
            .of(
                "{{instance}}",
                format!(
                    "{} / {}",
                    rate("glasslog_host_tcp_resent_segments_total", "instance"),
                    rate("glasslog_host_tcp_sent_segments_total", "instance")
                ),
            ),
            lines("Loops the watchdog sees", "Loops by kind: what is not here can hang unseen.")
                .of("{{loop}}", format!("{} > 0", sum("glasslog_loops", "loop"))),
        ],
    )
}
