//! The pipeline: alone sequences the workers. Knows no SSH, HTTP or SQL text.
//!
//! A deploy is `prepare` (before git moves the branch) and `promote` (after):
//! [`prepare`] has all steps on one screen.

mod access;
mod account;
mod again;
mod amiss;
mod announce;
mod asker;
mod bases;
mod branch;
mod build;
mod canary;
mod certificates;
mod collect;
mod config;
mod crashes;
mod create;
mod desk;
mod domains;
mod doubt;
mod environment;
mod error;
mod health;
mod hook;
mod images;
mod issue;
mod last_words;
mod line;
mod loads;
mod maintenance;
mod manifest;
mod orders;
mod pins;
mod pipeline;
mod prepare;
mod process_words;
mod processes;
mod promote;
mod push;
mod pushes;
mod queue;
mod reconcile;
mod record;
mod recover;
mod release;
mod report;
mod resize;
mod room;
mod routes;
mod selected;
mod sleep;
mod stale;
mod tally;
mod update;
mod users;
mod watch;
mod window;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use access::AccessLogs;
pub use account::{Account, Condition, ProcessLine};
pub use again::RolledBack;
pub use announce::Told;
pub use asker::Asker;
pub use certificates::Certificates;
pub use config::{Configured, ConfiguredAll, Effect};
pub use domains::NameState;
pub use error::DeployError;
pub use hook::Hook;
pub use images::{ImageVerdict, KeptFor};
pub use loads::{Loads, Measured, Minute};
pub use pins::{BaseChange, moment};
pub use pipeline::{Pipeline, Workers};
pub use push::{Authorship, PushId};
pub use queue::Activity;
pub use report::Report;
pub use room::Cramped;
pub use routes::{ProxyId, Routes};
pub use sleep::Wakeful;
pub use stale::Staleness;
pub use update::update_mark;
pub use words::taken_back;
