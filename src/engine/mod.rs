//! The container engine: what the pipeline asks of one, and Docker, which does it.

mod api;
mod disk;
mod docker;
mod error;
mod words;

pub use api::{
    Answer, AppImage, BuildLine, BuildRequest, BuiltImage, Context, Engine, Event, EventKind, Identity,
    LogLine, Output, Usage,
};
pub use disk::Space;
pub use docker::{DEFAULT_SOCKETS, DockerEngine, host_routes, is_free};
pub use error::{BuildFailure, EngineError, Overtime, Refusal};

/// Label: the app's number.
pub const LABEL_APP: &str = "paas.app";
/// Label: the app's name.
pub const LABEL_NAME: &str = "paas.name";
/// Label: `3` for `v3`.
pub const LABEL_RELEASE: &str = "paas.release";
/// Label: `web.1`.
pub const LABEL_PROCESS: &str = "paas.process";
