//! What goes wrong while a command is carried out, and where: the n-th place that
//! the server comes by, which is before and after each write, each call of the
//! engine and each move of a branch, and at every failpoint.

use crate::failpoint::in_tests;
use crate::store::WRITE;
use std::cell::{Cell, RefCell};
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
    /// What goes wrong so many places later, too.
    next: Option<(Mishap, u8)>,
    act: Act,
}

#[derive(Default)]
struct Script {
    planned: Option<Planned>,
    struck: Option<&'static str>,
    /// Nothing more is to come.
    complete: bool,
    held: bool,
    /// Places that were passed until it struck.
    passed: Vec<&'static str>,
}

/// A mishap that has happened.
#[derive(Debug)]
pub(super) struct Struck {
    pub place: &'static str,
    /// So has the one after it, if one was planned.
    pub complete: bool,
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

/// Plans a mishap after so many places, and maybe another after it; `act` carries
/// them out, failures of the engine and the store aside.
pub(super) fn plan(mishap: Mishap, left: u8, next: Option<(Mishap, u8)>, act: impl Fn(Mishap) + 'static) {
    let planned = Some(Planned { mishap, left, next, act: Rc::new(act) });
    SCRIPT.with(|script| *script.borrow_mut() = Script { planned, ..Script::default() });
    in_tests::set(Some(Rc::new(|place| {
        go_by(place, if place == WRITE { Doing::Write } else { Doing::Nothing })
    })));
}

/// Forgets the plan; where it struck, if it did.
pub(super) fn end() -> Option<Struck> {
    in_tests::set(None);
    let Script { struck, complete, passed, .. } =
        SCRIPT.with(|script| std::mem::take(&mut *script.borrow_mut()));
    Some(Struck { place: struck?, complete, passed })
}

/// Has the store refuse every write from a failpoint on, where something is done.
pub(super) fn hold_from(place: &'static str, act: impl Fn() + 'static) {
    let held = Cell::new(false);
    in_tests::set(Some(Rc::new(move |passed| {
        if passed == place {
            held.set(true);
            act();
        }
        held.get() && passed == WRITE
    })));
}

/// Does something when the server comes by a failpoint.
pub(super) fn at(place: &'static str, act: impl Fn() + 'static) {
    in_tests::set(Some(Rc::new(move |passed| {
        if passed == place {
            act();
        }
        false
    })));
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
    let held = doing == Doing::Write && SCRIPT.with(|script| script.borrow().held);
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
        script.held |= planned.mishap == Mishap::StoreHeld;
        script.struck = script.struck.or(Some(place));
        let due = script.planned.take()?;
        let Planned { next, ref act, .. } = due;
        script.complete = next.is_none();
        script.planned = next.map(|(mishap, left)| Planned { mishap, left, next: None, act: act.clone() });
        Some(due)
    });
    match due {
        Some(Planned { mishap: Mishap::EngineFails | Mishap::StoreFails | Mishap::StoreHeld, .. }) => true,
        Some(Planned { mishap, act, .. }) => {
            act(mishap);
            held
        }
        None => held,
    }
}
