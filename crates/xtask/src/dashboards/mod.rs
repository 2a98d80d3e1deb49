//! `dashboards`: writes Grafana's files from the tables beside this file, one module per page.
//!
//! Invariant: what `dashboards/*.json` holds is what [`files`] makes; `cargo xtask verify
//! observability` compares them, and every name in them with `METRICS.md`.

mod board;
mod journal;
mod overview;
mod raft;
mod render;
mod stuck;
mod symptoms;
mod telemetry;
mod topics;
mod unit;
mod waterfall;

use std::fs;

pub use board::Board;

use crate::workspace;

/// Where the files are, below the repository's top.
pub const FOLDER: &str = "dashboards";

/// Every page.
pub fn boards() -> Vec<Board> {
    vec![
        overview::board(),
        stuck::board(),
        waterfall::board(),
        raft::board(),
        journal::board(),
        symptoms::board(),
        topics::board(),
        telemetry::board(),
    ]
}

/// Name and text of every file.
pub fn files() -> Result<Vec<(String, String)>, String> {
    let file = |board: &Board| Ok((format!("{}.json", board.id), render::json(board)?));
    boards().iter().map(file).collect()
}

/// Writes all of them.
pub fn write() -> Result<(), String> {
    let folder = workspace::root().join(FOLDER);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, text) in files()? {
        let path = folder.join(&name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
