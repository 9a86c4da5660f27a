//! Which certificates are to be ordered, when, and when the authority is left alone.

use crate::acme::{AcmeError, Authority};
use crate::model::{AppId, CertificateOrigin, Domain, StoredCertificate};
use crate::settings::{AcmeSettings, ChallengeKind};
use crate::store::certificates::FailedOrder;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The longest time between two attempts, in seconds.
pub(super) const DAY: i64 = 86_400;
/// Orders until it is looked again what is due.
const AT_A_TIME: usize = 16;
/// The longest time for which nothing at all is ordered.
const HOUR: i64 = 3600;
/// So many names in a row have to be refused for their rate before all are held back.
const REFUSALS: u32 = 5;

/// What orders share.
#[derive(Default)]
pub(super) struct Orders {
    /// Something has changed.
    pub(super) news: Notify,
    truce: Mutex<Truce>,
    /// Our account.
    pub(super) authority: tokio::sync::Mutex<Option<Arc<Authority>>>,
    /// Held from looking at the store until its certificates are published.
    pub(super) publishing: tokio::sync::Mutex<()>,
}

impl Orders {
    /// Something has changed: look what is due.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    /// How long nothing is to be ordered.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.truce().until.and_then(|until| until.checked_duration_since(Instant::now()))
    }

    /// An order has come to this end.
    pub(super) fn heed(&self, error: Option<&AcmeError>) {
        self.truce().heed(error);
    }

    fn truce(&self) -> MutexGuard<'_, Truce> {
        self.truce.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authority wants to be left alone. What it says of one name holds for that name:
/// a limit that one app has reached is not to keep the others' certificates from being
/// renewed. Only when it is busy, or refuses one name after another, all wait.
#[derive(Debug, Default)]
struct Truce {
    until: Option<Instant>,
    refusals: u32,
}

impl Truce {
    fn heed(&mut self, error: Option<&AcmeError>) {
        let Some(error) = error else {
            self.refusals = 0;
            return;
        };
        let Some(seconds) = error.retry_after() else { return };
        self.refusals += 1;
        if error.is_busy() || self.refusals >= REFUSALS {
            let seconds = u64::try_from(seconds.clamp(1, HOUR)).unwrap_or(1);
            self.until = self.until.max(Some(Instant::now() + Duration::from_secs(seconds)));
            self.refusals = 0;
        }
    }
}

/// A name that wants a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whose name.
    pub(super) app: AppId,
    /// The name.
    pub(super) name: Domain,
    /// When it is to be ordered.
    pub(super) at: i64,
    /// How often that has failed in a row.
    pub(super) failures: u32,
    /// There is one, which ends.
    pub(super) renewal: bool,
}

/// How a name is to be proven; with each failure another way is tried.
pub(super) fn kind(acme: &AcmeSettings, wanted: &Wanted) -> ChallengeKind {
    if wanted.name.is_wildcard() {
        return ChallengeKind::Dns01;
    }
    let turn = usize::try_from(wanted.failures).unwrap_or(0) % acme.challenges.len().max(1);
    acme.challenges.get(turn).copied().unwrap_or(ChallengeKind::Http01)
}

/// Which names want a certificate, and when.
pub(super) fn wanted(
    apps: &[(AppId, Vec<Domain>)],
    stored: &[StoredCertificate],
    failed: &[FailedOrder],
    now: i64,
) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (app, names) in apps {
        for name in names {
            let covers = |one: &&StoredCertificate| one.names.iter().any(|own| own.covers(name));
            let brought = stored.iter().filter(covers).any(|one| {
                let ours = one.app.is_none_or(|owner| owner == *app);
                ours && one.origin == CertificateOrigin::Own && one.not_after > now
            });
            if brought {
                continue;
            }
            let ordered = stored.iter().filter(|one| {
                one.app == Some(*app) && one.origin == CertificateOrigin::Acme && one.names.contains(name)
            });
            let renew_at = ordered.map(renew_at).max();
            let failed = failed.iter().find(|failed| failed.name == *name);
            let failures = failed.map_or(0, |failed| failed.failures);
            // Written down by a clock that was far ahead.
            let next_at = failed.map(|failed| failed.next_at).filter(|&at| at <= now + 2 * DAY);
            let at = renew_at.max(next_at).unwrap_or(0);
            all.push(Wanted { app: *app, name: name.clone(), at, failures, renewal: renew_at.is_some() });
        }
    }
    all
}

/// Those that are due now, and in how many seconds the next one is. What is live goes
/// before what was refused so often; few at a time, so that new names wait for no long list.
pub(super) fn due(mut all: Vec<Wanted>, now: i64) -> (Vec<Wanted>, Option<i64>) {
    all.sort_by_key(|wanted| (wanted.at > now, !wanted.renewal, wanted.failures, wanted.at));
    let count = all.iter().take_while(|wanted| wanted.at <= now).take(AT_A_TIME).count();
    let later = all.split_off(count);
    let next = later.iter().map(|wanted| (wanted.at - now).max(1)).min();
    (all, next)
}

/// Two thirds of its life, and up to a thirtieth more, so that those of one day are not
/// all renewed on one day again.
fn renew_at(one: &StoredCertificate) -> i64 {
    let life = one.not_after - one.not_before;
    one.not_before + life / 3 * 2 + chance(&one.id, life / 30)
}

/// Seconds until the next attempt: soon another way is tried, then ever later.
pub(super) fn delay(failures: u32, name: &Domain) -> i64 {
    let base = match failures {
        0 | 1 => 60,
        more => (600 << (more - 2).min(8)).min(DAY),
    };
    base + chance(&(name, failures), base / 10)
}

/// A number below `most` that is another for each thing, and always the same.
fn chance(thing: &impl Hash, most: i64) -> i64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    let number = i64::try_from(hasher.finish() >> 1).unwrap_or(0);
    if most > 0 { number % most } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::PrivateKeyPem;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn certificate(app: Option<i64>, origin: CertificateOrigin, name: &str) -> StoredCertificate {
        StoredCertificate {
            id: "1".into(),
            app: app.map(AppId),
            origin,
            names: vec![domain(name)],
            chain: String::new(),
            key: PrivateKeyPem::new(String::new()),
            issuer: "Test".into(),
            trusted: true,
            not_before: 0,
            not_after: 90 * DAY,
            created_at: 0,
        }
    }

    #[test]
    fn names_are_ordered_that_have_none_and_renewed_after_two_thirds() {
        use CertificateOrigin::{Acme, Own};
        let apps = [(AppId(1), vec![domain("new.a"), domain("old.a"), domain("own.a"), domain("bad.a")])];
        let stored = [
            certificate(Some(1), Acme, "old.a"),
            certificate(Some(1), Own, "own.a"),
            // Another app's helps nobody.
            certificate(Some(2), Own, "new.a"),
        ];
        let order = FailedOrder { name: domain("bad.a"), failures: 3, next_at: 500, problem: "no".into() };
        let all = wanted(&apps, &stored, &[order], 100);
        let at: Vec<_> = all.iter().map(|one| (one.name.to_string(), one.at, one.failures)).collect();
        assert_eq!(at[0], ("new.a".into(), 0, 0));
        assert_eq!(at[2], ("bad.a".into(), 500, 3));
        let renewal = at[1].1;
        assert!((60 * DAY..63 * DAY).contains(&renewal), "{renewal}");
        // What was brought and is over is ordered.
        assert_eq!(wanted(&apps, &stored, &[], 91 * DAY).len(), 4);
    }

    #[test]
    fn a_time_that_a_clock_far_ahead_has_written_down_is_not_waited_for() {
        let apps = [(AppId(1), vec![domain("a.example")])];
        let order =
            |next_at| FailedOrder { name: domain("a.example"), failures: 2, next_at, problem: "no".into() };
        assert_eq!(wanted(&apps, &[], &[order(DAY)], 100)[0].at, DAY);
        assert_eq!(wanted(&apps, &[], &[order(9 * 365 * DAY)], 100)[0].at, 0);
    }

    #[test]
    fn what_is_live_is_renewed_before_what_was_refused_is_tried_again() {
        let name = |name: &str, at, failures, renewal| Wanted {
            app: AppId(1),
            name: domain(name),
            at,
            failures,
            renewal,
        };
        let mut all: Vec<Wanted> =
            (0..40).map(|number| name(&format!("x{number}.example"), 5, 3, false)).collect();
        all.push(name("new.example", 0, 0, false));
        all.push(name("live.example", 90, 0, true));
        all.push(name("later.example", 107, 0, true));
        let (now, next) = due(all.clone(), 100);
        assert_eq!((now.len(), next), (AT_A_TIME, Some(1)));
        assert_eq!(
            now[..2].iter().map(|one| one.name.to_string()).collect::<Vec<_>>(),
            ["live.example", "new.example"]
        );
        let (now, next) = due(all.split_off(40), 100);
        assert_eq!((now.len(), next), (2, Some(7)));
    }

    fn refused(kind: &str, status: u16, retry_after: Option<i64>) -> AcmeError {
        let problem = instant_acme::Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: None,
            status: Some(status),
            subproblems: Vec::new(),
        };
        AcmeError::Refused { problem: Box::new(problem), retry_after }
    }

    #[test]
    fn the_limit_of_one_name_keeps_no_other_waiting() {
        let mut truce = Truce::default();
        for _ in 0..20 {
            truce.heed(Some(&refused("rateLimited", 429, Some(4_000_000_000))));
            truce.heed(None);
            truce.heed(Some(&refused("unauthorized", 403, None)));
        }
        assert_eq!(truce.until, None);
        for _ in 0..REFUSALS {
            truce.heed(Some(&refused("rateLimited", 429, Some(4_000_000_000))));
        }
        let pause = truce.until.unwrap().duration_since(Instant::now());
        assert!(pause <= Duration::from_secs(3600) && pause > Duration::from_secs(3500), "{pause:?}");
        let mut truce = Truce::default();
        truce.heed(Some(&refused("rateLimited", 503, Some(30))));
        assert!(truce.until.is_some(), "the authority itself is busy");
    }

    #[test]
    fn attempts_are_further_and_further_apart() {
        let name = domain("a.example");
        let delays: Vec<i64> = (1..14).map(|failures| delay(failures, &name)).collect();
        for (failures, delay) in delays.iter().enumerate() {
            assert!((60..=DAY + DAY / 10).contains(delay), "{failures}: {delay}");
        }
        // Five failures an hour is what the largest authority forgives.
        assert!(delays[..5].iter().sum::<i64>() > 3600, "{delays:?}");
        assert_eq!(delays.iter().rposition(|delay| *delay < DAY), Some(8));
    }
}
