//! Which processes one request has asked in vain.

use super::upstream::Upstream;
use std::sync::Arc;

/// Those that refused a request, and those that took no connection for it in time.
#[derive(Default)]
pub(super) struct Asked {
    refused: Vec<Arc<Upstream>>,
    busy: Vec<Arc<Upstream>>,
    /// All have refused before.
    again: bool,
}

impl Asked {
    /// Whether this one was asked.
    pub(super) fn has(&self, one: &Arc<Upstream>) -> bool {
        self.refused.iter().chain(&self.busy).any(|asked| Arc::ptr_eq(asked, one))
    }

    /// Whether nobody is left who might take it. Once all have refused, one refusal
    /// more stands for all that refused somebody a moment ago.
    pub(super) fn is_in_vain(&self, one: &Arc<Upstream>) -> bool {
        self.has(one) || self.again && !self.refused.is_empty() && one.is_ejected()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Upstream>> {
        self.refused.iter().chain(&self.busy).cloned().collect()
    }

    /// It has ended the connection without an answer.
    pub(super) fn lost(&mut self, one: Arc<Upstream>) {
        self.refused.push(one);
    }

    /// It refuses connections.
    pub(super) fn refused(&mut self, one: Arc<Upstream>) {
        one.eject();
        self.refused.push(one);
    }

    /// It took none in time.
    pub(super) fn busy(&mut self, one: Arc<Upstream>) {
        one.eject();
        self.busy.push(one);
    }

    /// Those that were busy may be asked again. Whether there are some.
    pub(super) fn forget_busy(&mut self) -> bool {
        !std::mem::take(&mut self.busy).is_empty()
    }

    /// All may be asked again.
    pub(super) fn forget(&mut self) {
        *self = Self { again: true, ..Self::default() };
    }
}
