//! What the apps had to do in the last hour, as the proxies tell it: in memory, by minutes.
//! What nobody told of was not nothing: it is said how much of a time is known.

use super::routes::ProxyId;
use crate::model::{AppLoad, AppName, Load};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Minutes that are remembered, this one included.
pub const MINUTES: u64 = 60;
const MINUTE: u64 = 60;

/// The numbers of all apps; clones share them.
#[derive(Clone)]
pub struct Loads {
    begun: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By minutes since the beginning; those without requests are left out.
    apps: HashMap<AppName, VecDeque<(u64, Load)>>,
    /// Requests under way, by who has them.
    in_flight: HashMap<ProxyId, HashMap<AppName, u64>>,
    /// Proxies that tell.
    telling: HashSet<ProxyId>,
    /// From when to when some did, in seconds since the beginning; the last may go on.
    told: VecDeque<(u64, Option<u64>)>,
}

/// What is known of a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// What there was.
    pub load: Load,
    /// How long that was.
    pub time: Duration,
    /// For how long of it somebody has told.
    pub known: Duration,
}

/// One minute of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minute {
    /// How many minutes ago it began, to the minute; 0: this one.
    pub ago: u64,
    /// What is known of it.
    pub measured: Measured,
}

impl Default for Loads {
    fn default() -> Self {
        Self { begun: Instant::now(), state: Arc::default() }
    }
}

impl Loads {
    /// A proxy tells from now on.
    pub fn join(&self, proxy: ProxyId) {
        self.state().join(proxy, self.now());
    }

    /// It does no more.
    pub fn leave(&self, proxy: ProxyId) {
        self.state().leave(proxy, self.now());
    }

    /// A proxy has told.
    pub fn hear(&self, proxy: ProxyId, loads: Vec<AppLoad>) {
        self.state().hear(proxy, loads, self.now());
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: &AppName) {
        let mut state = self.state();
        state.apps.remove(app);
        for apps in state.in_flight.values_mut() {
            apps.remove(app);
        }
    }

    /// An app's last minutes: so many whole ones and this one.
    pub fn last(&self, app: &AppName, minutes: u64) -> Measured {
        self.state().last(app, minutes.min(MINUTES - 1), self.now())
    }

    /// The minutes of an app of which anything is known, the oldest first.
    pub fn minutes(&self, app: &AppName) -> Vec<Minute> {
        self.state().minutes(app, self.now())
    }

    /// An app's requests under way.
    pub fn in_flight(&self, app: &AppName) -> u64 {
        self.state().in_flight.values().filter_map(|apps| apps.get(app)).sum()
    }

    /// Seconds since the server has begun to listen.
    fn now(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, proxy: ProxyId, now: u64) {
        self.telling.insert(proxy);
        if self.told.back().is_none_or(|(_, until)| until.is_some()) {
            self.told.push_back((now, None));
        }
        let long_ago =
            |&(_, until): &(u64, Option<u64>)| until.is_some_and(|until| until + MINUTES * MINUTE < now);
        while self.told.front().is_some_and(long_ago) {
            self.told.pop_front();
        }
    }

    fn leave(&mut self, proxy: ProxyId, now: u64) {
        self.in_flight.remove(&proxy);
        if self.telling.remove(&proxy)
            && self.telling.is_empty()
            && let Some((_, until)) = self.told.back_mut()
        {
            *until = Some(now);
        }
    }

    fn hear(&mut self, proxy: ProxyId, loads: Vec<AppLoad>, now: u64) {
        let minute = now / MINUTE;
        for AppLoad { app, in_flight, load } in loads {
            let its = self.in_flight.entry(proxy).or_default();
            if in_flight == 0 {
                its.remove(&app);
            } else {
                its.insert(app.clone(), in_flight);
            }
            if load == Load::default() {
                continue;
            }
            let minutes = self.apps.entry(app).or_default();
            match minutes.back_mut() {
                Some((last, there)) if *last == minute => there.add(&load),
                _ => minutes.push_back((minute, load)),
            }
            while minutes.front().is_some_and(|(first, _)| first + MINUTES <= minute) {
                minutes.pop_front();
            }
        }
    }

    fn last(&self, app: &AppName, minutes: u64, now: u64) -> Measured {
        let first = (now / MINUTE).saturating_sub(minutes);
        let mut load = Load::default();
        let all = self.apps.get(app).into_iter().flatten();
        all.filter(|(minute, _)| *minute >= first).for_each(|(_, more)| load.add(more));
        let time = Duration::from_secs(minutes * MINUTE + now % MINUTE);
        Measured { load, time, known: self.known(first * MINUTE, now) }
    }

    fn minutes(&self, app: &AppName, now: u64) -> Vec<Minute> {
        let this = now / MINUTE;
        let loads: BTreeMap<u64, &Load> =
            self.apps.get(app).into_iter().flatten().map(|(minute, load)| (*minute, load)).collect();
        let minute = |minute: u64| {
            let (begin, end) = (minute * MINUTE, ((minute + 1) * MINUTE).min(now));
            let load = loads.get(&minute).map(|&load| load.clone()).unwrap_or_default();
            let (time, known) = (Duration::from_secs(end - begin), self.known(begin, end));
            Minute { ago: this - minute, measured: Measured { load, time, known } }
        };
        let all = (this.saturating_sub(MINUTES - 1)..=this).map(minute);
        let is_known = |measured: &Measured| !measured.known.is_zero() || measured.load != Load::default();
        all.filter(|minute| is_known(&minute.measured)).collect()
    }

    /// How much of a time somebody has told of.
    fn known(&self, from: u64, until: u64) -> Duration {
        let part = |&(begun, ended): &(u64, Option<u64>)| {
            ended.unwrap_or(until).min(until).saturating_sub(begun.max(from))
        };
        Duration::from_secs(self.told.iter().map(part).sum())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Answers;

    fn app() -> AppName {
        AppName::parse("shop").unwrap()
    }

    fn load(requests: u64, in_flight: u64) -> Vec<AppLoad> {
        let answers = Answers { fine: requests, ..Answers::default() };
        vec![AppLoad { app: app(), in_flight, load: Load { answers, ..Load::default() } }]
    }

    fn seen(state: &State, minutes: u64, now: u64) -> (u64, u64) {
        let measured = state.last(&app(), minutes, now);
        (measured.load.answers.sum(), measured.known.as_secs())
    }

    #[test]
    fn numbers_add_up_by_minutes_and_go_after_an_hour() {
        let (mut state, one) = (State::default(), ProxyId::of(1));
        state.join(one, 0);
        for minute in 0..90 {
            state.hear(one, load(10, 0), minute * 60);
            state.hear(one, load(5, 0), minute * 60 + 59);
        }
        let now = 89 * 60 + 59;
        assert_eq!(seen(&state, 0, now), (15, 59));
        assert_eq!(seen(&state, 5, now), (90, 359));
        assert_eq!(seen(&state, 59, now), (900, 3599));
        assert_eq!(state.apps[&app()].len(), 60);
        assert_eq!(state.minutes(&app(), now).len(), 60);
    }

    #[test]
    fn a_time_of_which_nobody_told_is_not_known() {
        let (mut state, one, two) = (State::default(), ProxyId::of(1), ProxyId::of(2));
        state.join(one, 30);
        state.hear(one, load(10, 3), 40);
        state.join(two, 50);
        state.leave(one, 60);
        state.leave(two, 90);
        assert_eq!(seen(&state, 5, 150), (10, 60));
        state.join(two, 200);
        assert_eq!(seen(&state, 5, 210), (10, 70));
        let minutes = state.minutes(&app(), 210);
        let told: Vec<_> =
            minutes.iter().map(|minute| (minute.ago, minute.measured.known.as_secs())).collect();
        assert_eq!(told, [(3, 30), (2, 30), (0, 10)], "the third minute is missing");
        for number in 0..1000 {
            state.leave(two, 4000 + number * 10);
            state.join(two, 4001 + number * 10);
        }
        assert!(state.told.len() < 400, "an hour of them at most");
    }

    #[test]
    fn requests_under_way_are_those_of_all_proxies() {
        let (loads, one, two) = (Loads::default(), ProxyId::of(1), ProxyId::of(2));
        loads.hear(one, load(1, 3));
        loads.hear(two, load(1, 4));
        assert_eq!(loads.in_flight(&app()), 7);
        loads.hear(one, load(0, 1));
        loads.leave(two);
        assert_eq!(loads.in_flight(&app()), 1);
        loads.forget(&app());
        assert_eq!((loads.in_flight(&app()), loads.minutes(&app())), (0, vec![]));
    }
}
