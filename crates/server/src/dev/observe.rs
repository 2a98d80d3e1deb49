//! Asking a broker for its state, the way anyone can: `/readyz` and `/debug/groups` of its
//! admin HTTP, and the end of its log.

use std::time::Duration;

use model::limits;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::layout::Place;
use super::process;
use super::supervisor::{Answer, Event, Phase};
use crate::http;

/// Body of `/readyz`, with status 200 or 503.
#[derive(Debug, Deserialize)]
struct Ready {
    state: String,
    #[serde(default)]
    waiting_for: Vec<String>,
}

/// The part of `/debug/groups?summary` the screen needs.
#[derive(Debug, Default, Deserialize)]
struct Groups {
    #[serde(default)]
    summary: Summary,
}

#[derive(Debug, Default, Deserialize)]
struct Summary {
    #[serde(default)]
    groups: u64,
    #[serde(default)]
    leads: u64,
    #[serde(default)]
    troubled: u64,
}

/// Asks one life of a broker again and again until the task is dropped.
pub async fn watch(place: Place, pid: u32, log_from: u64, events: mpsc::Sender<Event>) {
    let mut turn = tokio::time::interval(Duration::from_millis(limits::DEV_POLL_MS));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble = None;
    let mut said = None;
    loop {
        turn.tick().await;
        let event = match ask(&place).await {
            Ok(answer) => Event::Answered { id: place.id, pid, answer },
            Err(_) => Event::Silent { id: place.id, pid },
        };
        // Only changes travel; the supervisor keeps the rest.
        if said.as_ref() != Some(&event) {
            said = Some(event.clone());
            if events.send(event).await.is_err() {
                return;
            }
        }
        let last = process::last_trouble(&process::tail(&place.log_file(), log_from));
        if let Some(line) = last.filter(|line| trouble.as_ref() != Some(line)) {
            trouble = Some(line.clone());
            let _ = events.send(Event::Troubled { id: place.id, pid, line }).await;
        }
    }
}

async fn ask(place: &Place) -> Result<Answer, String> {
    let (_, body) = http::get(&place.admin(), "/readyz").await?;
    let ready: Ready = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let phase = Phase::parse(&ready.state);
    if phase == Phase::Starting {
        return Ok(Answer { phase, waiting_for: ready.waiting_for, ..Answer::default() });
    }
    let (_, body) = http::get(&place.admin(), "/debug/groups?summary").await?;
    let groups: Groups = serde_json::from_slice(&body).unwrap_or_default();
    let Summary { groups, leads, troubled } = groups.summary;
    Ok(Answer { phase, waiting_for: ready.waiting_for, groups, leads, troubled })
}
