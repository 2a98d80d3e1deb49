//! What was to be paged about a fault and what was: a row of the table.
//!
//! A page should come within [`IN_TIME`]; what waits for the morning is as late as it is.
//!
//! Invariant: a row is right only if the alert that was wanted came about the broker that was
//! harmed and its text has every word that was wanted; what the product survives without a page
//! is right only if none came and the series that names it moved.

use std::time::Duration;

use serde_json::{Value, json};

use super::panels;
use super::world::World;

/// What an engineer on call should hear.
#[derive(Debug, Clone)]
pub enum Wanted {
    Page {
        /// Who hears of it: `page`, or `ticket` where it can wait for the morning.
        receiver: &'static str,
        alert: &'static str,
        /// Empty: about any broker, or the cluster.
        about: String,
        words: Vec<String>,
        /// Why it fires on after the fault, if it does by design.
        lasts: Option<&'static str>,
    },
    /// Nobody, because nothing is harmed; a series of one broker that grows beyond `above` says it.
    Told {
        at: i32,
        series: &'static str,
        /// As in `code="INVALID_RECORD"`; empty: it has none.
        label: &'static str,
        above: f64,
    },
    /// The dead man says nothing any more, for longer than he ever does.
    Silence,
}

pub const PAGE: &str = "page";
pub const TICKET: &str = "ticket";
pub const DEAD_MAN: &str = "deadman";
/// The dead man is heard once a minute.
const SILENT: Duration = Duration::from_secs(125);

/// What came, and how long after the fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged {
    pub seconds: f64,
    pub alert: String,
    pub text: String,
}

impl Wanted {
    /// A page about one broker.
    pub fn page(alert: &'static str, about: i32, words: &[&str]) -> Wanted {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Wanted::Page { receiver: PAGE, alert, about: World::name(about), words, lasts: None }
    }

    /// The same for the morning.
    pub fn ticket(alert: &'static str, about: i32, words: &[&str]) -> Wanted {
        let mut wanted = Wanted::page(alert, about, words);
        if let Wanted::Page { receiver, .. } = &mut wanted {
            *receiver = TICKET;
        }
        wanted
    }

    /// Nobody is woken by it.
    pub fn is_ticket(&self) -> bool {
        matches!(self, Wanted::Page { receiver: TICKET, .. })
    }

    /// It fires on after the fault, for this reason.
    pub fn lasting(mut self, why: &'static str) -> Wanted {
        if let Wanted::Page { lasts, .. } = &mut self {
            *lasts = Some(why);
        }
        self
    }

    /// The same page about whichever broker.
    pub fn about_any(mut self) -> Wanted {
        if let Wanted::Page { about, .. } = &mut self {
            about.clear();
        }
        self
    }

    /// What was wanted, if it has come.
    pub fn look(&self, world: &World) -> Option<Paged> {
        match self {
            Wanted::Page { receiver, words, .. } => {
                let pages = world.heard(receiver).into_iter();
                let fits = |alert: &Value| {
                    let text = text(alert);
                    self.is_about(alert)
                        && alert["status"] == "firing"
                        && words.iter().all(|word| text.contains(word))
                };
                let found = pages.into_iter().find(|page| fits(&page.alert))?;
                let seconds = found.at.duration_since(world.since()).as_secs_f64();
                Some(Paged { seconds, alert: name(&found.alert), text: text(&found.alert) })
            }
            Wanted::Told { at, series, label, above } => {
                let page = world.cluster.metrics_of(*at).ok()?;
                let now = match label.is_empty() {
                    true => page.sum(series).ok()?,
                    false => page.labelled(series, label),
                };
                let seconds = world.since().elapsed().as_secs_f64();
                let text = format!("{}: {series}{{{label}}} {above} -> {now}", World::name(*at));
                (now > *above).then(|| Paged { seconds, alert: String::new(), text })
            }
            Wanted::Silence => {
                let heard = world.pager.heard();
                let last = heard.iter().rfind(|page| page.receiver == DEAD_MAN)?;
                let silent = last.at.elapsed();
                let seconds = world.since().elapsed().as_secs_f64();
                let text = format!("he has not been heard for {} s", silent.as_secs());
                (silent > SILENT).then(|| Paged { seconds, alert: "DeadMan".to_owned(), text })
            }
        }
    }

    /// The same alert about the same broker, whatever it says.
    pub fn is_about(&self, alert: &Value) -> bool {
        let Wanted::Page { alert: wanted, about, .. } = self else { return false };
        alert["labels"]["alertname"] == *wanted
            && (about.is_empty() || alert["labels"]["instance"] == about.as_str())
    }

    pub fn is_over(&self, alert: &Value) -> bool {
        self.is_about(alert) && alert["status"] == "resolved"
    }
}

fn name(alert: &Value) -> String {
    alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()
}

/// Everything that a page says.
pub fn text(alert: &Value) -> String {
    let part = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
    format!("{} | {}", part("summary"), part("description"))
}

/// One fault and what became of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub name: String,
    pub what: String,
    pub right: bool,
    /// From the fault to the page, or to the series that names it.
    pub seconds: Option<f64>,
    pub alert: String,
    pub text: String,
    /// Other pages, with their seconds, and tickets.
    pub others: Vec<String>,
    /// From the end of the fault until every partition took a record, and the alert was over.
    pub served_seconds: Option<f64>,
    pub over_seconds: Option<f64>,
    pub note: String,
    /// Why it could not be made here.
    pub not_made: Option<String>,
    /// It wakes nobody, and has more time than a page.
    pub waits: bool,
    /// Panels of the dashboards that moved in its world.
    pub panels: Vec<String>,
}

/// From the fault to the page, for a page that comes in time.
pub const IN_TIME: Duration = Duration::from_secs(10);

impl Row {
    pub fn is_in_time(&self) -> bool {
        let in_time = |seconds| self.waits || seconds <= IN_TIME.as_secs_f64();
        self.right && self.seconds.is_some_and(in_time)
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "what": self.what, "right": self.right, "seconds": self.seconds,
            "alert": self.alert, "text": self.text, "others": self.others,
            "served_seconds": self.served_seconds, "over_seconds": self.over_seconds,
            "note": self.note, "not_made": self.not_made, "waits": self.waits, "panels": self.panels,
        })
    }

    pub fn of(value: &Value) -> Row {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let texts = |name: &str| {
            let all = value[name].as_array().into_iter().flatten();
            all.filter_map(|one| Some(one.as_str()?.to_owned())).collect()
        };
        Row {
            name: text("name"),
            what: text("what"),
            right: value["right"] == true,
            seconds: value["seconds"].as_f64(),
            alert: text("alert"),
            text: text("text"),
            others: texts("others"),
            served_seconds: value["served_seconds"].as_f64(),
            over_seconds: value["over_seconds"].as_f64(),
            note: text("note"),
            not_made: value["not_made"].as_str().map(str::to_owned),
            waits: value["waits"] == true,
            panels: texts("panels"),
        }
    }

    fn line(&self) -> String {
        if let Some(why) = &self.not_made {
            return format!("| {} | not made: {why} | | | | | | |", self.what);
        }
        let shown = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| format!("{s:.1}"));
        let judged = match (self.right, self.is_in_time()) {
            (true, true) => "right",
            (true, false) => "right, late",
            (false, _) => "**wrong**",
        };
        let (summary, _) = self.text.split_once(" | ").unwrap_or((&self.text, ""));
        let cells = [
            self.what.as_str(),
            &shown(self.seconds),
            &self.alert,
            summary,
            judged,
            &format!("{} / {}", shown(self.served_seconds), shown(self.over_seconds)),
            &self.others.join("; "),
            &self.note,
        ];
        format!("| {} |", cells.map(|cell| cell.replace(['|', '\n'], " ")).join(" | "))
    }
}

/// The whole table, with its count below.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        "| fault | heard after, s | alert | what it says | judged | serves again / alert over, s \
         after its end | others | note |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows.iter().map(Row::line));
    let made = rows.iter().filter(|row| row.not_made.is_none()).count();
    let right = rows.iter().filter(|row| row.right).count();
    let waiting = rows.iter().filter(|row| row.waits).count();
    let in_time = rows.iter().filter(|row| !row.waits && row.is_in_time()).count();
    lines.push(String::new());
    lines.push(format!(
        "{} faults, {made} made: {right} named rightly; {waiting} may take longer, {in_time} of \
         the others came within {} s",
        rows.len(),
        IN_TIME.as_secs()
    ));
    lines.push(String::new());
    lines.push(moved(rows));
    lines.join("\n") + "\n"
}

/// In how many panels something moved while these faults were made, and in which nothing did.
fn moved(rows: &[Row]) -> String {
    let moved = rows.iter().flat_map(|row| &row.panels).cloned().collect();
    let all = panels::all();
    let still: Vec<&str> = all.difference(&moved).map(String::as_str).collect();
    let none = if still.is_empty() { "" } else { "; still: " };
    format!("{} of {} panels moved{none}{}", all.len() - still.len(), all.len(), still.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Row, Wanted, panels, table};
    use serde_json::json;

    #[test]
    fn a_row_survives_its_journey_and_is_in_time_only_if_it_is_right() {
        let row = Row {
            name: "kill".into(),
            what: "kill -9".into(),
            right: true,
            seconds: Some(7.25),
            text: "broker-1 does not answer | it has a thread of its own".into(),
            others: vec!["UnderReplicated".into()],
            panels: panels::all().into_iter().skip(1).collect(),
            ..Row::default()
        };
        assert_eq!(Row::of(&row.json()), row);
        let late = Row { seconds: Some(11.0), ..row.clone() };
        let ticket = Row { waits: true, ..late.clone() };
        assert!(ticket.is_in_time());
        let wrong = Row { right: false, ..row.clone() };
        assert!(row.is_in_time() && !late.is_in_time() && !wrong.is_in_time());
        let unmade =
            Row { what: "earthquake".into(), not_made: Some("no".into()), ..wrong.clone() };
        let table = table(&[row, late, wrong, unmade]);
        assert!(table.contains("| kill -9 | 7.2 | "), "{table}");
        assert!(table.contains("| broker-1 does not answer | right | "), "{table}");
        assert!(table.contains("right, late") && table.contains("**wrong**"), "{table}");
        assert!(table.contains("| earthquake | not made: no |"), "{table}");
        assert!(table.contains("4 faults, 3 made: 2 named rightly; 0 may take longer, 1 of the others came within 10 s\n"));
        let still = panels::all().into_iter().next().expect("there are panels");
        assert!(table.ends_with(&format!(" panels moved; still: {still}\n")), "{table}");
    }

    #[test]
    fn a_page_about_another_broker_is_another_page() {
        let wanted = Wanted::page("BrokerDown", 2, &[]);
        let alert =
            |instance: &str| json!({"labels": {"alertname": "BrokerDown", "instance": instance}});
        assert!(wanted.is_about(&alert("broker-2")) && !wanted.is_about(&alert("broker-1")));
        assert!(wanted.about_any().is_about(&alert("broker-1")));
    }
}
