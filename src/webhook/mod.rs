//! Carries one message to a webhook: by HTTP, once, to an address that was looked at
//! before, and without following it anywhere else.

mod address;
mod courier;
mod error;
mod signature;

pub use address::Place;
pub use courier::Courier;
pub use error::Undelivered;
