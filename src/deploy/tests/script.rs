//! What goes wrong while a command is carried out, and where: the n-th place that
//! the server comes by, which is before and after each write, each call of the
//! engine and each move of a branch, and at every failpoint.

use crate::failpoint::in_tests;
use std::cell::RefCell;
use std::rc::Rc;

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The server is killed.
    Crash,
    /// The engine refuses its next call.
    EngineFails,
    /// Somebody cancels the deploy.
    Cancel,
    /// The one who pushes goes away.
    Leave,
}

type Act = Rc<dyn Fn(Mishap)>;

struct Planned {
    mishap: Mishap,
    /// Places to pass before it.
    left: u8,
    act: Act,
}

#[derive(Default)]
struct Script {
    planned: Option<Planned>,
    struck: Option<&'static str>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

/// Plans a mishap after so many places; `act` carries it out, the engine's
/// failure aside.
pub(super) fn plan(mishap: Mishap, left: u8, act: impl Fn(Mishap) + 'static) {
    let planned = Some(Planned { mishap, left, act: Rc::new(act) });
    SCRIPT.with(|script| *script.borrow_mut() = Script { planned, struck: None });
    in_tests::set(Some(Rc::new(|place| {
        pass(place);
    })));
}

/// Forgets the plan; the place where it struck, if it did.
pub(super) fn end() -> Option<&'static str> {
    in_tests::set(None);
    SCRIPT.with(|script| std::mem::take(&mut *script.borrow_mut()).struck)
}

/// Comes by a place.
pub(super) fn pass(place: &'static str) {
    go_by(place, false);
}

/// Comes by a call of the engine; whether that fails.
pub(super) fn call(place: &'static str) -> bool {
    go_by(place, true)
}

fn go_by(place: &'static str, call: bool) -> bool {
    let due = SCRIPT.with(|script| {
        let mut script = script.borrow_mut();
        let planned = script.planned.as_mut()?;
        if planned.left > 0 {
            planned.left -= 1;
            return None;
        }
        if planned.mishap == Mishap::EngineFails && !call {
            return None;
        }
        script.struck = Some(place);
        script.planned.take()
    });
    match due {
        Some(Planned { mishap: Mishap::EngineFails, .. }) => true,
        Some(Planned { mishap, act, .. }) => {
            act(mishap);
            false
        }
        None => false,
    }
}
