//! What is shown with real brokers and real clients, one file per story.

pub mod admin;
pub mod administrators;
pub mod alerts;
pub mod blackbox;
pub mod chaos;
pub mod clients;
pub mod console;
pub mod consumers;
pub mod damage;
pub mod dev;
pub mod diagnosis;
pub mod doctor;
pub mod elections;
pub mod failover;
pub mod faults;
pub mod groups;
pub mod hostile;
pub mod logs;
pub mod membership;
pub mod planted;
pub mod shutdown;
pub mod snapshots;
pub mod steady;
pub mod traces;
