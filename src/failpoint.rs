//! Places where tests stop the control plane to kill it there: between every
//! two steps of a deploy. Release builds contain none of it.

/// Every place, in the order in which a push comes by. `tests/crash.rs` goes
/// through all of them.
pub const PLACES: [&str; 15] = [
    "turn-taken",
    "release-opened",
    "built",
    "image-saved",
    "release-command-done",
    "web-started",
    "web-healthy",
    "ready",
    "branch-moved",
    "committed",
    "published",
    "acknowledged",
    "others-ended",
    "others-started",
    "drained",
];

/// The places of `secrets:rotate`, which `tests/secrets.rs` goes through.
pub const ROTATION: [&str; 3] = ["key-written", "sealed-in-part", "sealed-anew"];

/// Stops this process (SIGSTOP) if the file `PAAS_STOP_AT_FILE` names this place.
pub fn reached(place: &'static str) {
    debug_assert!(PLACES.contains(&place) || ROTATION.contains(&place), "{place} is not listed");
    #[cfg(debug_assertions)]
    if crate::settings::stop_at().as_deref() == Some(place) {
        tracing::warn!(place, "stopping here, as PAAS_STOP_AT_FILE says");
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
}
