//! What a broker did between two looks.

use crate::survey::{Page, Survey};

/// Per second, and of one core for CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub records_in: f64,
    pub requests: f64,
    pub cpu: f64,
    pub elections: f64,
    pub late_ticks: f64,
}

/// Of `page`'s broker; `None` without an earlier look at the same life of it.
pub fn rates(page: &Page, now: &Survey, earlier: Option<&Survey>) -> Option<Rates> {
    let earlier = earlier?;
    let before = earlier.page_of(page.broker)?;
    let seconds = (now.at_ms - earlier.at_ms) as f64 / 1e3;
    if seconds <= 0.0 || page.uptime_ms < before.uptime_ms {
        return None;
    }
    let rate = |name: &str| (page.total(name) - before.total(name)).max(0.0) / seconds;
    Some(Rates {
        records_in: rate("glasslog_records_in_total"),
        requests: rate("glasslog_kafka_requests_total"),
        cpu: rate("glasslog_process_cpu_time_seconds_total"),
        elections: rate("glasslog_raft_elections_total"),
        late_ticks: rate("glasslog_raft_ticks_late_total"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Answer;

    fn survey(at_ms: i64, uptime_ms: u64, records: f64) -> Survey {
        let numbers = [("glasslog_records_in_total".to_owned(), records)].into();
        let page = Page { broker: 1, uptime_ms, numbers, ..Page::default() };
        let answer = Answer {
            broker: Some(1),
            admin: None,
            answered: true,
            silence: None,
            error: None,
            took_ms: 0,
            clock_ahead_ms: None,
            raw: None,
            page: Some(page),
        };
        Survey { at_ms, brokers: vec![answer] }
    }

    #[test]
    fn a_rate_is_per_second_and_none_over_a_restart() {
        let (before, now) = (survey(1_000, 50_000, 100.0), survey(3_000, 52_000, 500.0));
        let page = now.page_of(1).unwrap();
        assert_eq!(rates(page, &now, Some(&before)).unwrap().records_in, 200.0);
        assert_eq!(rates(page, &now, None), None);
        let again = survey(5_000, 1_000, 10.0);
        assert_eq!(rates(again.page_of(1).unwrap(), &again, Some(&now)), None);
    }
}
