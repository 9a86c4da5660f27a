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

/// The places of the watch after a promotion, which `tests/automatic_rollback.rs`
/// goes through.
pub const WATCH: [&str; 2] = ["evidence-found", "window-closed"];

/// The places of a canary, which `tests/traffic.rs` goes through.
pub const CANARY: [&str; 3] = ["canary-routed", "canary-judged", "canary-taken-back"];

/// The places of `secrets:rotate`, which `tests/secrets.rs` goes through.
pub const ROTATION: [&str; 3] = ["key-written", "sealed-in-part", "sealed-anew"];

/// The places of an app's falling asleep and waking, which `tests/sleep.rs` goes through.
pub const SLEEP: [&str; 3] = ["falling-asleep", "awake", "woken"];

/// Stops this process (SIGSTOP) if the file `PAAS_STOP_AT_FILE` names this place.
pub fn reached(place: &'static str) {
    let mut all = PLACES.iter().chain(&WATCH).chain(&CANARY).chain(&ROTATION).chain(&SLEEP);
    let listed = all.any(|known| *known == place);
    debug_assert!(listed, "{place} is not listed");
    #[cfg(debug_assertions)]
    if crate::settings::stop_at().as_deref() == Some(place) {
        tracing::warn!(place, "stopping here, as PAAS_STOP_AT_FILE says");
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
    effect(place);
}

/// Called before and after whatever outlives this process. The tests of the
/// pipeline, which have a world of their own, end that world's server here.
pub fn effect(what: &'static str) {
    #[cfg(test)]
    let _ = in_tests::call(what);
    #[cfg(not(test))]
    let _ = what;
}

/// Whether what is about to be done shall fail: the tests of the pipeline can refuse
/// a write.
pub fn fails(what: &'static str) -> bool {
    #[cfg(test)]
    return in_tests::call(what);
    #[cfg(not(test))]
    {
        let _ = what;
        false
    }
}

#[cfg(test)]
pub(crate) mod in_tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    type Hook = Rc<dyn Fn(&'static str) -> bool>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Has `hook` called at each place that this thread comes by; it says whether what
    /// is about to be done there shall fail.
    pub(crate) fn set(hook: Option<Hook>) {
        HOOK.with(|place| *place.borrow_mut() = hook);
    }

    pub(super) fn call(what: &'static str) -> bool {
        let hook = HOOK.with(|place| place.borrow().clone());
        hook.is_some_and(|hook| hook(what))
    }
}
