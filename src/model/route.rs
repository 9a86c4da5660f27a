//! Routes, and the two messages between the control plane and a proxy.
//!
//! The socket carries these and nothing else, each as a 4-byte big-endian
//! length and a JSON document of that many bytes (at most 64 MiB).

use super::access::AccessLines;
use super::certificate::{CertificateTable, Challenges};
use super::domain::Domain;
use super::load::AppLoad;
use super::name::AppName;
use super::traffic::Traffic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One process that can take requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Container address and port.
    pub address: SocketAddr,
    /// `web.1`, for log lines.
    pub process: String,
    /// `3` for `v3`; addresses are used again, so (address, release) is the identity.
    pub release: u32,
}

/// Where an app's requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The app.
    pub app: AppName,
    /// Host names without port, in lower case; an exact one beats a wildcard.
    pub hosts: Vec<Domain>,
    /// What becomes of plain requests, and what browsers are told.
    #[serde(default)]
    pub https: HttpsPolicy,
    /// The app's own rules for its requests.
    #[serde(default)]
    pub traffic: Traffic,
    /// Its own port on loopback, where any host name will do.
    pub port: Option<u16>,
    /// The release whose answers these are, for counting them: `3` for `v3`; 0: none.
    #[serde(default)]
    pub release: u32,
    /// Processes in turn; empty: every request is answered by `outage`.
    pub targets: Vec<Target>,
    /// Heroku's code while `targets` is empty: `H10` (crashed), `H14` (no web
    /// processes).
    pub outage: String,
}

/// Whether an app is to be reached by HTTPS alone. Holds for a name only once there is
/// a certificate for it that clients trust, so that it locks nobody out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsPolicy {
    /// Plain requests are sent on.
    pub redirect: bool,
    /// For how many seconds browsers are to use nothing else (HSTS); 0: not told.
    pub hsts: u32,
}

/// How many requests a release has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The app.
    pub app: AppName,
    /// `3` for `v3`.
    pub release: u32,
    /// All answers, by the app or by a page of the proxy's in its place.
    pub answers: u64,
    /// Those of them with a status from 500 on.
    pub errors: u64,
}

/// Everything a proxy knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows by one with each change, over restarts too.
    pub version: u64,
    /// By app name.
    pub routes: BTreeMap<AppName, Arc<Route>>,
}

/// What one version of the table has that another had not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChanges {
    /// The version that is changed; who has another one needs the whole table.
    pub from: u64,
    /// The version that it becomes.
    pub version: u64,
    /// The routes that are other ones now; `None`: there is none any more.
    pub routes: BTreeMap<AppName, Option<Arc<Route>>>,
}

impl RouteTable {
    /// Makes the changes, which have to be of this version.
    pub fn change(&mut self, changes: &RouteChanges) {
        self.version = changes.version;
        for (app, route) in &changes.routes {
            match route {
                Some(route) => self.routes.insert(app.clone(), Arc::clone(route)),
                None => self.routes.remove(app),
            };
        }
    }
}

/// What the control plane says to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToProxy {
    /// Use this table from now on; answered by `Ack` once it is in force.
    Table(RouteTable),
    /// Change the table that you have in this way; answered by `Ack`. For proxies that
    /// have said that they know it; one that has another version closes the connection,
    /// and is sent the whole table on the next.
    Changes(RouteChanges),
    /// Show these certificates from now on; answered by `Certified`.
    Certificates(CertificateTable),
    /// Answer these challenges, and no others, from now on; answered by `Challenged`.
    Challenges(Challenges),
}

/// What a proxy says to the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromProxy {
    /// First message of a connection.
    Hello {
        /// The proxy's process id.
        pid: u32,
        /// Version of the table it serves from.
        version: u64,
        /// Whether it takes certificates and challenges; older ones do not know them.
        #[serde(default)]
        tls: bool,
        /// Whether it takes changes of the table.
        #[serde(default)]
        changes: bool,
        /// Whether it tells what the apps have to do.
        #[serde(default)]
        loads: bool,
        /// Whether it knows weights of targets.
        #[serde(default)]
        weights: bool,
        /// Whether it holds requests to apps that sleep, and tells who is idle.
        #[serde(default)]
        sleep: bool,
    },
    /// Every new handshake uses this version of the certificates.
    Certified {
        /// The table's version.
        version: u64,
    },
    /// This version of the challenges is answered.
    Challenged {
        /// Their version.
        version: u64,
    },
    /// This version is in force: no new request uses an older one.
    Ack {
        /// The table's version.
        version: u64,
        /// Ports that could not be listened on, with the reason.
        refused_ports: BTreeMap<u16, String>,
    },
    /// Requests answered since the last message of this kind, if there were any.
    Counts {
        /// By release.
        counts: Vec<Count>,
        /// What the apps had to do since they were last told of here.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        loads: Vec<AppLoad>,
    },
    /// Requests that have ended, for the logs of those apps whose route has an
    /// `access_log`: nobody else has asked for them.
    Lines {
        /// By app.
        apps: Vec<AccessLines>,
    },
    /// Requests wait for this app, which sleeps. Said once more while they do.
    Wake {
        /// The app.
        app: AppName,
    },
    /// For how long nobody has used each app that may fall asleep.
    Idle {
        /// In seconds; 0 if a request or a stream is under way.
        apps: BTreeMap<AppName, u32>,
    },
    /// From now on this proxy accepts no connections; it finishes those that it has,
    /// and follows the table until then.
    Retiring,
    /// A target that is no longer in the table has finished its last request.
    /// Sent once for each target that a table removed (at once if it was idle).
    Drained {
        /// The target.
        target: Target,
    },
}
