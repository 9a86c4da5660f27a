//! The data plane from outside: a real proxy on real sockets, with a control
//! plane and apps made here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod app_limits;
mod attacks;
mod balancing;
mod bodies;
mod control;
mod guard;
mod handover;
mod http2;
mod limits;
mod lines;
mod metrics;
mod pages;
mod routing;
mod sleep;
mod swaps;
mod tls;
mod uploads;
mod world;
