//! Pushes in the audit trail.

use super::pushes::{Push, State};
use super::{DeployError, Pipeline};
use crate::git::RefUpdate;
use crate::store;

/// A push that is written down as begun.
pub(super) struct Note {
    row: i64,
    /// `git push main 1a2b3c4d`, for when it is done.
    what: String,
}

/// Refs of a push that are named.
const MOST_NAMED: usize = 5;

impl Pipeline {
    /// Writes down that somebody pushes to an app that is there.
    pub(super) async fn note_push(
        &self,
        push: &Push,
        state: &mut State,
        updates: &[RefUpdate],
    ) -> Result<(), DeployError> {
        if state.note.is_some() {
            return Ok(());
        }
        let (who, app, keep) = (push.who.clone(), push.app.clone(), self.workers.settings.audit_keep);
        let begun = self.store().write(move |db| store::audit::begin(db, keep, &who, Some(&app), "git push"));
        state.note = Some(Note { row: begun.await?, what: told(updates) });
        Ok(())
    }

    /// Writes down how it ended.
    pub(super) async fn note_end(&self, push: &Push, done: bool) {
        let Some(Note { row, what }) = push.state.lock().await.note.take() else { return };
        let what = done.then_some(what);
        let written = self.store().write(move |db| store::audit::end(db, row, what.as_deref())).await;
        if let Err(error) = written {
            tracing::error!(app = %push.app, %error, "the end of a push could not be written down");
        }
    }
}

/// `git push main 1a2b3c4d, :old`
fn told(updates: &[RefUpdate]) -> String {
    let short = |name: &str| {
        let name =
            name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name);
        name.chars().take(60).collect::<String>()
    };
    let each = updates.iter().take(MOST_NAMED).map(|update| {
        let gone = update.new.is_zero();
        let name = short(&update.name);
        if gone { format!(":{name}") } else { format!("{name} {}", update.new.short()) }
    });
    let more = if updates.len() > MOST_NAMED { ", …" } else { "" };
    crate::output::tame(&format!("git push {}{more}", each.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_pushed_is_told_in_a_line() {
        let update = |new: &str, name: &str| {
            RefUpdate::parse(&format!("{} {} {name}", "0".repeat(40), new.repeat(20))).unwrap()
        };
        let updates =
            [update("a1", "refs/heads/main"), update("b2", "refs/tags/v1"), update("00", "refs/heads/old")];
        assert_eq!(told(&updates), "git push main a1a1a1a1, v1 b2b2b2b2, :old");
        let many: Vec<RefUpdate> =
            (0..9).map(|number| update("c3", &format!("refs/tags/{number}"))).collect();
        assert!(told(&many).ends_with("4 c3c3c3c3, …"), "{}", told(&many));
    }
}
