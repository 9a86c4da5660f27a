//! The time of day, as the state has it: for what is shown and for what outlives a
//! process. How long something takes is measured by `Instant`, which nobody sets.

/// Seconds since the epoch, UTC.
pub fn now() -> i64 {
    let now = jiff::Timestamp::now().as_second();
    #[cfg(test)]
    let now = now.saturating_add(in_tests::ahead());
    #[cfg(debug_assertions)]
    let now = now.saturating_add(crate::settings::clock_ahead());
    now
}

/// The clock of a test's own, which is that of its thread.
#[cfg(test)]
pub(crate) mod in_tests {
    use std::cell::Cell;

    thread_local! {
        static AHEAD: Cell<i64> = const { Cell::new(0) };
    }

    /// Seconds that this thread's clock is ahead.
    pub(crate) fn ahead() -> i64 {
        AHEAD.get()
    }

    /// Sets it.
    pub(crate) fn set_ahead(seconds: i64) {
        AHEAD.set(seconds);
    }
}
