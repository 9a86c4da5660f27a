//! Plain types of the field: no I/O, no async, nothing below them.

pub mod access;
pub mod app;
pub mod auth;
pub mod canary;
pub mod certificate;
pub mod checks;
pub mod config;
pub mod dockerignore;
pub mod domain;
pub mod dotenv;
pub mod http;
pub mod https;
pub mod load;
pub mod maintenance;
pub mod mount;
pub mod name;
pub mod pin;
pub mod plan;
pub mod problem;
pub mod process_type;
pub mod public_key;
pub mod redirect;
pub mod release;
pub mod route;
pub mod selection;
pub mod sleep;
pub mod source;
pub mod traffic;
pub mod webhook;
pub mod window;
pub mod workload;

pub use access::{AccessLine, AccessLines, AccessLog};
pub use app::{App, AppId, AppStatus, Caller, KeyId, Origin};
pub use auth::{MOST_USERS, NotAUser, User, expect_user_name, password_of};
pub use canary::Canary;
pub use certificate::{
    CertificateOrigin, CertificateTable, Challenges, HttpChallenge, PrivateKeyPem, ServedCertificate,
    StoredCertificate, TlsChallenge,
};
pub use checks::{AskedPort, CheckChange, CheckKind, CheckSource, HealthCheck, NotACheck};
pub use config::{ConfigVars, Oversize};
pub use domain::{Domain, DomainFault, MOST_DOMAINS};
pub use http::{ByteSize, HttpSettings};
pub use https::{HttpsChoice, NotHttps};
pub use load::{Answers, AppLoad, BOUNDS, Load, Spread};
pub use maintenance::{ALL_PAGES, LONGEST_PAGE, Maintenance, NotAPage};
pub use mount::{MOST_MOUNTS, Mount, MountFault, PathPrefix};
pub use name::{AppName, EnvKey, HostName, KeyName, NameError, ProcessType};
pub use pin::BasePin;
pub use plan::{BaseImage, BuildPlan, Dockerfile, ImageSource, RELEASE_TIME, Recipe, RunCommand, WantedVar};
pub use problem::Problem;
pub use process_type::{Cpu, Memory, Restart, Size, SizeChange, TypeSettings};
pub use public_key::{KeyFault, PublicKey};
pub use redirect::Redirect;
pub use release::{
    CommitId, Formation, MOST_PROCESSES, Release, ReleaseId, ReleaseState, Scale, USUAL_ENDS, USUAL_STOP, Why,
};
pub use route::{Count, FromProxy, HttpsPolicy, Route, RouteChanges, RouteTable, Target, ToProxy};
pub use selection::{Selection, Stopped};
pub use sleep::{NotASleep, Sleep, Sleeps, Woken};
pub use source::{EntryKind, SourceEntry, SourceTree};
pub use traffic::{StickyKey, Traffic, Weights};
pub use webhook::{
    Announcement, Delivery, Endpoint, EventKind, LONGEST_PAUSE, MOST_WEBHOOKS, Webhook, pause_after,
};
pub use window::{Evidence, Seen, TakenBack, Window};
pub use workload::{BuildLimits, Limits, ProcessName, ProcessState, Workload};
