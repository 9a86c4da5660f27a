//! See `paas::cli`.
fn main() {}
