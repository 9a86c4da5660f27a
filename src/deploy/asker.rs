//! For whom a command is carried out: who has gone waits for nothing any more.

use super::Report;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static ASKER: Asker;
}

/// Who asks for what is being done in this task.
#[derive(Clone)]
pub struct Asker {
    /// Cancelled when they have gone, or want it to end.
    pub gone: CancellationToken,
    /// Where they are told how it goes, if they are.
    pub report: Option<Report>,
}

impl Asker {
    /// Does something on their behalf.
    pub async fn asks<T>(self, work: impl Future<Output = T>) -> T {
        ASKER.scope(self, Box::pin(work)).await
    }

    /// The one for whom this task works; somebody who never goes, if it is for nobody.
    pub(super) fn of_this_task() -> Self {
        let nobody = || Self { gone: CancellationToken::new(), report: None };
        ASKER.try_with(Self::clone).unwrap_or_else(|_| nobody())
    }
}
