//! What goes wrong while a command is carried out, and where: the n-th place that
//! the server comes by, which is before and after each write, each call of the
//! engine and each move of a branch, and at every failpoint.

use crate::failpoint::in_tests;
use crate::store::WRITE;
use std::cell::RefCell;
use std::rc::Rc;

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The server is killed.
    Crash,
    /// The engine refuses its next call.
    EngineFails,
    /// The store refuses its next write.
    StoreFails,
    /// Another program holds the database from now on, until the command has ended.
    StoreHeld,
    /// Somebody cancels the deploy.
    Cancel,
    /// The one who pushes goes away.
    Leave,
}

/// What the server is about to do at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Call,
    Write,
}

impl Mishap {
    /// Whether nothing can be written down.
    pub fn is_the_stores(self) -> bool {
        matches!(self, Self::StoreFails | Self::StoreHeld)
    }

    /// Whether it can happen there.
    fn strikes(self, doing: Doing) -> bool {
        match self {
            Self::EngineFails => doing == Doing::Call,
            Self::StoreFails | Self::StoreHeld => doing == Doing::Write,
            Self::Crash | Self::Cancel | Self::Leave => true,
        }
    }
}

type Act = Rc<dyn Fn(Mishap)>;

struct Planned {
    mishap: Mishap,
    /// Places to pass before it at which it could happen.
    left: u8,
    act: Act,
}

#[derive(Default)]
struct Script {
    planned: Option<Planned>,
    struck: Option<&'static str>,
    held: bool,
    /// Places that were passed until it struck.
    passed: Vec<&'static str>,
}

/// A mishap that has happened.
#[derive(Debug)]
pub(super) struct Struck {
    pub place: &'static str,
    /// What came before, and the place itself.
    passed: Vec<&'static str>,
}

impl Struck {
    /// Whether it came when the server had passed a place.
    pub fn is_after(&self, place: &str) -> bool {
        self.passed.contains(&place)
    }
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

/// Plans a mishap after so many places; `act` carries it out, failures of the engine
/// and the store aside.
pub(super) fn plan(mishap: Mishap, left: u8, act: impl Fn(Mishap) + 'static) {
    let planned = Some(Planned { mishap, left, act: Rc::new(act) });
    SCRIPT.with(|script| *script.borrow_mut() = Script { planned, ..Script::default() });
    in_tests::set(Some(Rc::new(|place| {
        go_by(place, if place == WRITE { Doing::Write } else { Doing::Nothing })
    })));
}

/// Forgets the plan; where it struck, if it did.
pub(super) fn end() -> Option<Struck> {
    in_tests::set(None);
    let Script { struck, passed, .. } = SCRIPT.with(|script| std::mem::take(&mut *script.borrow_mut()));
    Some(Struck { place: struck?, passed })
}

/// Comes by a place.
pub(super) fn pass(place: &'static str) {
    go_by(place, Doing::Nothing);
}

/// Comes by a call of the engine; whether that fails.
pub(super) fn call(place: &'static str) -> bool {
    go_by(place, Doing::Call)
}

/// Whether what is about to be done there fails.
fn go_by(place: &'static str, doing: Doing) -> bool {
    if doing == Doing::Write && SCRIPT.with(|script| script.borrow().held) {
        return true;
    }
    let due = SCRIPT.with(|script| {
        let mut script = script.borrow_mut();
        if script.struck.is_none() {
            script.passed.push(place);
        }
        let planned = script.planned.as_mut().filter(|planned| planned.mishap.strikes(doing))?;
        if planned.left > 0 {
            planned.left -= 1;
            return None;
        }
        script.held = planned.mishap == Mishap::StoreHeld;
        script.struck = Some(place);
        script.planned.take()
    });
    match due {
        Some(Planned { mishap: Mishap::EngineFails | Mishap::StoreFails | Mishap::StoreHeld, .. }) => true,
        Some(Planned { mishap, act, .. }) => {
            act(mishap);
            false
        }
        None => false,
    }
}
