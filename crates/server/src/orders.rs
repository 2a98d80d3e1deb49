//! `decommission`, `drain` and `undrain`: orders to a running broker, with progress told until
//! they are carried out.
//!
//! Invariants: an order may be given again; interrupting this program stops nothing.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{DecommissionOptions, OrderOptions};
use crate::error::ServerError;
use crate::http;

const LOOK: Duration = Duration::from_millis(500);

pub fn decommission(options: &DecommissionOptions) -> Result<(), ServerError> {
    let path = format!("/admin/decommission?broker={}", options.broker);
    let broker = options.broker;
    follow(&options.order.admin, &path, |page| {
        let left = page["replicas_left"].as_u64().unwrap_or(0);
        let done = page["done"].as_bool() == Some(true);
        let line = match done {
            true => format!("broker {broker} is empty and forgotten; stop its process"),
            false => format!("broker {broker}: {left} replicas left"),
        };
        (line, done)
    })
}

pub fn drain(options: &OrderOptions) -> Result<(), ServerError> {
    follow(&options.admin, "/admin/drain", |page| {
        let left = page["leaderships_left"].as_u64().unwrap_or(0);
        (format!("{left} leaderships left"), left == 0)
    })
}

pub fn undrain(options: &OrderOptions) -> Result<(), ServerError> {
    follow(&options.admin, "/admin/undrain", |_| ("it takes leaderships again".into(), true))
}

/// Gives the order until it is carried out, and prints every change.
fn follow(
    admin: &str,
    path: &str,
    look: impl Fn(&Value) -> (String, bool),
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::system("start a runtime"))?;
    let mut told = String::new();
    loop {
        let answer = runtime.block_on(http::post(admin, path));
        let (status, body) = answer.map_err(|why| ServerError::Fatal(format!("{admin}: {why}")))?;
        let page: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            let why = page["error"].as_str().unwrap_or("refused without a reason");
            return Err(ServerError::Fatal(format!("{admin}: {why}")));
        }
        let (line, done) = look(&page);
        if line != told {
            println!("{line}");
            told = line;
        }
        if done {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}
