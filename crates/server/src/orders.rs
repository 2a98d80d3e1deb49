//! `decommission`, `drain` and `undrain`: orders to a running broker, with progress told until
//! they are carried out; `log`, which is carried out at once.
//!
//! Invariants: an order may be given again; interrupting this program stops nothing.

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cli::{DecommissionOptions, LogOptions, OrderOptions};
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

/// Changes what the broker logs, or prints it.
pub fn log(options: &LogOptions) -> Result<(), ServerError> {
    let LogOptions { room, level, reset, order } = options;
    let words = [("room", room), ("level", level)].into_iter();
    let words = words.filter_map(|(name, word)| Some(format!("{name}={}", word.as_ref()?)));
    let path = format!("/admin/log?{}", words.collect::<Vec<_>>().join("&"));
    let runtime = runtime()?;
    let answer = match level.is_some() || *reset {
        true => runtime.block_on(http::post(&order.admin, &path)),
        false => runtime.block_on(http::get(&order.admin, "/admin/log")),
    };
    let page = page_of(&order.admin, answer)?;
    println!("{}", page["filter"].as_str().unwrap_or("this broker has no log of its own"));
    Ok(())
}

/// Gives the order until it is carried out, and prints every change.
fn follow(
    admin: &str,
    path: &str,
    look: impl Fn(&Value) -> (String, bool),
) -> Result<(), ServerError> {
    let runtime = runtime()?;
    let mut told = String::new();
    loop {
        let page = page_of(admin, runtime.block_on(http::post(admin, path)))?;
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

fn runtime() -> Result<Runtime, ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ServerError::system("start a runtime"))
}

/// What admin HTTP answered, or why it refused.
fn page_of(admin: &str, answer: Result<(u16, Bytes), String>) -> Result<Value, ServerError> {
    let (status, body) = answer.map_err(|why| ServerError::Fatal(format!("{admin}: {why}")))?;
    let page: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status {
        200 => Ok(page),
        _ => {
            let why = page["error"].as_str().unwrap_or("refused without a reason");
            Err(ServerError::Fatal(format!("{admin}: {why}")))
        }
    }
}
