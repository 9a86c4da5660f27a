//! Wires everything, starts and stops it. No logic.

mod door;
mod error;
mod proxy_process;
mod start;

pub use error::ServerError;
pub use start::{check_config, serve};
