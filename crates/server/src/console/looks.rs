//! The cluster, looked at for the viewers: a document a second, judged against a look some seconds
//! before it, since some verdicts are about what grew meanwhile.
//!
//! Invariants: a bounded number of looks is kept; one from before a pause without viewers is not
//! taken for a recent one.

use std::collections::VecDeque;
use std::sync::Arc;

use model::limits;
use serde_json::Value;
use telemetry::Lock;
use telemetry::labels::LockClass;

use super::events::Gather;
use crate::survey::{self, Survey};

/// How far back the look lies that a new one is judged against.
const BACK_MS: i64 = 10_000;
/// Older than this it was made for viewers who have left.
const OLD_MS: i64 = 2 * BACK_MS;
const KEPT_MAX: usize = (BACK_MS as u64 / limits::CONSOLE_EVERY_MS) as usize;

/// The looks of the last seconds, oldest first.
#[derive(Default)]
struct Looks(VecDeque<Arc<Survey>>);

impl Looks {
    /// Keeps a look; the one to judge it against.
    fn keep(&mut self, now: Arc<Survey>) -> Option<Arc<Survey>> {
        self.0.retain(|look| (0..OLD_MS).contains(&(now.at_ms - look.at_ms)));
        let earlier = self.0.front().cloned();
        self.0.push_back(now);
        if self.0.len() > KEPT_MAX {
            self.0.pop_front();
        }
        earlier
    }
}

/// What the viewers of broker `asked` are shown; it answers at `own`.
pub fn gather(asked: i32, own: Arc<str>) -> Gather {
    // Held for a push, by the one who gathers.
    let looks = Arc::new(Lock::new(LockClass::Debug, Looks::default()));
    Box::new(move || {
        let (own, looks) = (own.clone(), looks.clone());
        Box::pin(async move {
            let now = Arc::new(survey::survey(&[own.to_string()]).await);
            let earlier = looks.lock().keep(now.clone());
            let mut document = survey::document(Some(asked), &now, earlier.as_deref());
            leave_out_numbers(&mut document);
            document.to_string()
        })
    })
}

/// Programs read the numbers of a broker, in [`survey`]; a page for people is sent every second.
fn leave_out_numbers(document: &mut Value) {
    let brokers = document["brokers"].as_array_mut();
    for broker in brokers.into_iter().flatten() {
        if let Some(page) = broker["page"].as_object_mut() {
            page.remove("numbers");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_look_is_judged_against_one_some_seconds_before_and_none_of_other_viewers() {
        let mut looks = Looks::default();
        let mut keep = |at_ms| {
            let now = Survey { at_ms, ..Survey::default() };
            looks.keep(Arc::new(now)).map(|earlier| earlier.at_ms)
        };
        assert_eq!(keep(1_000_000), None);
        let told: Vec<_> = (1..=12).map(|second| keep(1_000_000 + 1_000 * second)).collect();
        assert_eq!((told[0], told[11]), (Some(1_000_000), Some(1_002_000)));
        assert_eq!(keep(1_100_000), None, "after a pause");
        assert_eq!(keep(1_050_000), None, "the clock was set back");
    }

    #[test]
    fn people_are_spared_the_numbers() {
        let mut document =
            json!({"brokers": [{"page": {"numbers": {"a": 1}, "ready": true}}, {"page": null}]});
        leave_out_numbers(&mut document);
        assert_eq!(document, json!({"brokers": [{"page": {"ready": true}}, {"page": null}]}));
    }
}
