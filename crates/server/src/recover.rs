//! `glasslog recover`: what a survivor has after a majority is gone for good, and what is lost;
//! with `--accept-data-loss`, memberships without the lost.
//!
//! Invariants: everything is said before anything is done; a second run says the same.

use std::collections::BTreeSet;
use std::path::Path;

use model::GroupId;
use node::recover::{Fate, Survey, Surveyed, Survivor, judge};

use crate::cli::RecoverOptions;
use crate::config::Config;
use crate::error::ServerError;

/// Lines of one kind before the rest is only counted.
const TOLD_MAX: usize = 100;

pub fn run(options: &RecoverOptions) -> Result<(), ServerError> {
    let config = Config::load(&options.config)?;
    let lost: BTreeSet<i32> = options.lost.iter().copied().collect();
    let broker = model::BrokerId(config.settings.node_id);
    let start = |error: node::StartError| ServerError::Start(error.to_string());
    if lost.contains(&broker.0) {
        let why = format!("broker {broker} is the one of this configuration: it is not lost");
        return Err(ServerError::Start(why));
    }
    let survivor = Survivor::open(&config.data_dir, broker).map_err(start)?;
    let own = &survivor.survey;
    if let Some(path) = &options.survey {
        let text = serde_json::to_string_pretty(own).map_err(|error| refused(path, error))?;
        std::fs::write(path, text).map_err(|error| refused(path, error))?;
        println!("survey of broker {broker} written to {}", path.display());
    }
    let others: Result<Vec<Survey>, ServerError> =
        options.others.iter().map(|path| read(path, &own.cluster)).collect();
    let fates = judge(own, &others?, &lost);
    let cases: Vec<(&Surveyed, &Fate)> =
        own.groups.iter().zip(fates.iter().map(|(_, fate)| fate)).collect();
    println!("{}", headline(own, &lost));
    tell(&cases, own, &lost);
    let undecided = cases.iter().filter(|(_, fate)| matches!(fate, Fate::Undecided(_))).count();
    let changes = cases
        .iter()
        .filter(|(_, fate)| matches!(fate, Fate::Leads { .. } | Fate::Learns { .. }))
        .count();
    if changes == 0 {
        println!("\nnothing to recover here");
        return Ok(());
    }
    if !options.accept_data_loss {
        println!(
            "\nnothing was changed; to let {changes} groups go on as said, run it again with \
             --accept-data-loss on every survivor"
        );
        return Ok(());
    }
    let changed = survivor.accept(&fates).map_err(start)?;
    println!(
        "\n{changed} groups go on without {}; {undecided} were left as they are. Start this \
         broker now, then new brokers, with empty data directories, in place of the lost. Never \
         start a lost broker with its old data: it would lead a second cluster of the same name.",
        list(&lost)
    );
    Ok(())
}

fn refused(path: &Path, error: impl std::fmt::Display) -> ServerError {
    ServerError::Start(format!("{}: {error}", path.display()))
}

fn read(path: &Path, cluster: &str) -> Result<Survey, ServerError> {
    let text = std::fs::read_to_string(path).map_err(|error| refused(path, error))?;
    Survey::parse(&text, cluster).map_err(|why| refused(path, why))
}

fn list(brokers: &BTreeSet<i32>) -> String {
    let ids: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    let word = if ids.len() == 1 { "broker" } else { "brokers" };
    format!("{word} {}", ids.join(", "))
}

fn headline(own: &Survey, lost: &BTreeSet<i32>) -> String {
    format!("cluster {}, as broker {} has it; lost: {}", own.cluster, own.broker, list(lost))
}

fn tell(cases: &[(&Surveyed, &Fate)], own: &Survey, lost: &BTreeSet<i32>) {
    let gone = list(lost);
    let kept = cases.iter().filter(|(_, fate)| **fate == Fate::Kept).count();
    println!("  {kept} groups keep their majority");
    let whole = own.lost_whole(lost);
    if !whole.is_empty() {
        println!("  {} partitions are lost whole: no survivor has a replica", whole.len());
        whole.iter().take(TOLD_MAX).for_each(|name| println!("    {name}"));
    }
    for (at, (known, fate)) in cases.iter().filter(|(_, fate)| **fate != Fate::Kept).enumerate() {
        if at == TOLD_MAX {
            println!("  ... and more");
            break;
        }
        println!("  {}: {}", known.name, sentence(known, fate, &gone));
    }
}

fn sentence(known: &Surveyed, fate: &Fate, gone: &str) -> String {
    let has = match GroupId(known.group) {
        GroupId::METADATA => format!("entries up to {}", known.last_index),
        _ => format!("records below offset {}", known.end_offset),
    };
    match fate {
        Fate::Kept => "keeps its majority".into(),
        Fate::Leads { .. } => {
            format!("goes on here with its {has}; what only {gone} acknowledged beyond is lost")
        }
        Fate::Learns { broker, .. } => {
            format!(
                "goes on at broker {broker}, whose log is newer; this replica ({has}) learns from it"
            )
        }
        Fate::Undecided(why) => format!("left as it is ({has}): {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_said_in_offsets() {
        let known = Surveyed { group: 9, end_offset: 312, ..Surveyed::default() };
        let gone = list(&BTreeSet::from([2, 3]));
        let said = sentence(&known, &Fate::Leads { learners: vec![] }, &gone);
        assert!(said.contains("below offset 312") && said.contains("brokers 2, 3"), "{said}");
        let said = sentence(&known, &Fate::Undecided("why".into()), &gone);
        assert!(said.ends_with("why"), "{said}");
    }
}
