//! `glasslog`: one broker (`server`), three of them on this machine (`dev`), what brokers did last
//! (`blackbox`), how a cluster is (`doctor`, `why`, `top`), and the reference of the configuration (`config`).
//!
//! Invariants: whatever goes wrong before or while running ends in one line per reason on
//! stderr and a non-zero exit code; the only integration with node and broker is `boot`.

mod admin;
mod blackbox;
mod boot;
mod cli;
mod config;
mod console;
mod consumers;
mod dev;
mod doctor;
mod error;
mod http;
mod lifeline;
mod orders;
mod partitions;
mod recover;
mod survey;
mod top;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// The command line, the configuration or the machine does not allow to start: trying again
/// without a change will not help. `dev` relies on it.
pub const EXIT_REFUSED: u8 = 1;
/// A broker that ran and could not go on, or could not drain in time.
pub const EXIT_FAILED: u8 = node::EXIT_FATAL as u8;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Server(options) => boot::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Decommission(options) => orders::decommission(&options),
        Command::Drain(options) => orders::drain(&options),
        Command::Undrain(options) => orders::undrain(&options),
        Command::Log(options) => orders::log(&options),
        Command::Recover(options) => recover::run(&options),
        Command::Doctor(options) => return doctor::doctor(&options),
        Command::Why(options) => return doctor::why(&options),
        Command::Top(options) => return top::run(&options),
        Command::Blackbox(options) => blackbox::run(&options),
        Command::Config => {
            print!("{}", config::reference());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glasslog: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
