//! What is wrong with the dashboards' tables.

use std::collections::BTreeSet;

use super::alerts::Rules;
use super::catalogue::Catalogue;
use crate::dashboards::Board;

const PANELS_MAX: usize = 20;

/// Panels of a page.
pub fn count(board: &Board) -> usize {
    board.rows.iter().map(|row| row.panels.len()).sum()
}

/// Everything, by page and panel.
pub fn faults(boards: &[Board], catalogue: &Catalogue, rules: &Rules) -> Vec<String> {
    let (mut wrong, mut shown, mut ids) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let recorded = rules.recorded();
    for board in boards {
        if !ids.insert(board.id) {
            wrong.push(format!("two dashboards have the uid glasslog-{}", board.id));
        }
        let panels = count(board);
        if panels > PANELS_MAX {
            wrong.push(format!("{}: {panels} panels, {PANELS_MAX} are allowed", board.title));
        }
        for panel in board.rows.iter().flat_map(|row| &row.panels) {
            let at = format!("{}, panel `{}`", board.title, panel.title);
            if !panel.about.ends_with('.') {
                wrong.push(format!("{at}: its description is no sentence"));
            }
            for query in &panel.queries {
                let (faults, read) = catalogue.judge(&query.expr, &[query.legend], &recorded);
                wrong.extend(faults.into_iter().map(|fault| format!("{at}: {fault}")));
                shown.extend(read);
            }
        }
    }
    let unseen = catalogue.names().difference(&shown);
    wrong.extend(unseen.map(|name| format!("{name} is on no dashboard")));
    wrong
}
