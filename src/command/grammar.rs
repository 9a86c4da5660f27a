//! The one definition of all commands, for terminal, SSH and API alike.

use super::of_app::OfApp;
use clap::{Args, Parser, Subcommand};

/// All commands that a server answers.
#[derive(Debug, Parser)]
#[command(name = "paas", bin_name = "paas", disable_help_subcommand = true, disable_version_flag = true)]
pub struct Grammar {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// How config vars are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// A dotenv file, which config:set APP - reads
    Dotenv,
    /// One object of strings, which config:set APP - reads
    Json,
    /// Lines for eval in a POSIX shell
    Shell,
}

/// How a bill of materials is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SbomFormat {
    /// CycloneDX 1.5, as JSON
    Cyclonedx,
    /// A table
    Table,
}

/// Listings come as a table or as JSON.
#[derive(Debug, Args)]
pub struct Listing {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Every command. The doc comments are the help that users see.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the apps
    #[command(name = "apps")]
    Apps(Listing),
    /// Create an app (the first push does it too)
    #[command(name = "apps:create")]
    AppsCreate(OfApp),
    /// Show all about an app
    #[command(name = "apps:info")]
    AppsInfo {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Show or set the branch whose push deploys: apps:branch APP [BRANCH]
    #[command(name = "apps:branch")]
    AppsBranch(OfApp),
    /// Remove an app with everything of it: apps:destroy APP --confirm APP
    #[command(name = "apps:destroy")]
    AppsDestroy {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// The app's name once more
        #[arg(long, value_name = "APP")]
        confirm: Option<String>,
    },
    /// Show who changed what, of an app or of all: audit [APP]
    #[command(name = "audit")]
    Audit {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How many changes
        #[arg(short = 'n', long = "num", value_name = "COUNT", default_value_t = 50)]
        count: u32,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// List who may use an app, if it asks for passwords
    #[command(name = "auth")]
    Auth {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Have an app ask for a password, read from standard input: auth:set APP USER
    #[command(name = "auth:set")]
    AuthSet(OfApp),
    /// Take a user from an app; without any it asks nobody: auth:remove APP USER
    #[command(name = "auth:remove")]
    AuthRemove(OfApp),
    /// List what was built lately, and on which base images
    #[command(name = "builds")]
    Builds {
        /// Only this app
        #[command(flatten)]
        app: OfApp,
        /// Only what runs on a base image that should be another
        #[arg(long)]
        stale: bool,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// End the deploy or restart that is being prepared
    #[command(name = "builds:cancel")]
    BuildsCancel(OfApp),
    /// List certificates, of an app or all: certs [APP]
    #[command(name = "certs")]
    Certs {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Add a certificate with its key from standard input: cat chain.pem key.pem | certs:add APP
    #[command(name = "certs:add")]
    CertsAdd {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// The server's, shown for all names that have none
        #[arg(long = "default")]
        server: bool,
    },
    /// Remove a certificate: certs:remove APP ID
    #[command(name = "certs:remove")]
    CertsRemove {
        /// The app, then the ID
        #[command(flatten)]
        app: OfApp,
        /// One of the server's
        #[arg(long = "default")]
        server: bool,
    },
    /// Show how web is asked whether it is well, and which processes are
    #[command(name = "checks")]
    Checks(OfApp),
    /// Set how web is asked: checks:set APP path=/healthz interval=5
    #[command(name = "checks:set")]
    ChecksSet {
        /// The app, then KEY=VALUE
        #[command(flatten)]
        app: OfApp,
        /// Even if what runs does not pass
        #[arg(long)]
        force: bool,
    },
    /// Leave that to paas.toml and the Dockerfile: checks:unset APP [KEY …]
    #[command(name = "checks:unset")]
    ChecksUnset {
        /// The app, then keys
        #[command(flatten)]
        app: OfApp,
        /// Even if what runs does not pass
        #[arg(long)]
        force: bool,
    },
    /// Show config vars
    #[command(name = "config")]
    Config {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// Those of all apps
        #[arg(long)]
        global: bool,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Set config vars and restart: config:set APP KEY=VALUE …, or - to read a dotenv file
    #[command(name = "config:set")]
    ConfigSet {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// For all apps, below each app's own
        #[arg(long)]
        global: bool,
        /// Only store; it takes effect with the next release
        #[arg(long)]
        no_restart: bool,
    },
    /// Print one config var: config:get APP KEY
    #[command(name = "config:get")]
    ConfigGet {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// One of all apps
        #[arg(long)]
        global: bool,
    },
    /// Print all config vars for a file or a shell
    #[command(name = "config:export")]
    ConfigExport {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// Those of all apps
        #[arg(long)]
        global: bool,
        /// For what
        #[arg(long, value_enum, default_value_t = ExportFormat::Dotenv)]
        format: ExportFormat,
    },
    /// Remove config vars and restart: config:unset APP KEY …
    #[command(name = "config:unset")]
    ConfigUnset {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// From all apps
        #[arg(long)]
        global: bool,
        /// Only store; it takes effect with the next release
        #[arg(long)]
        no_restart: bool,
    },
    /// List an app's names, and how each does with HTTPS
    #[command(name = "domains")]
    Domains {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Let an app answer to more names: domains:add APP www.example.com *.example.com
    #[command(name = "domains:add")]
    DomainsAdd {
        /// The app, then names, or paths under names (example.com/api)
        #[command(flatten)]
        app: OfApp,
        /// Of paths: the app is not to see them
        #[arg(long)]
        strip_prefix: bool,
    },
    /// Take names from an app: domains:remove APP www.example.com
    #[command(name = "domains:remove")]
    DomainsRemove(OfApp),
    /// Send a name's requests on to another: domains:redirect APP www.example.com example.com
    #[command(name = "domains:redirect")]
    DomainsRedirect {
        /// The app, the name, and where to
        #[command(flatten)]
        app: OfApp,
        /// 301, 302, 307 or 308
        #[arg(long, value_name = "STATUS", default_value_t = 301)]
        code: u16,
        /// Let the app answer to the name again
        #[arg(long, conflicts_with = "code")]
        off: bool,
    },
    /// Show whether an app is reached by HTTPS alone
    #[command(name = "https")]
    Https(OfApp),
    /// Set it: https:set APP redirect=off hsts=180d
    #[command(name = "https:set")]
    HttpsSet(OfApp),
    /// List or prepare base images
    #[command(name = "images")]
    Images {
        /// Make or pull the bases of this language, or all of them
        #[arg(long, value_name = "LANGUAGE", num_args = 0..=1, default_missing_value = "all")]
        prepare: Option<String>,
        /// The versions that each image source can give
        #[arg(long, conflicts_with = "prepare")]
        available: bool,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Get newer base images for an app's next build: images:update APP, or --all
    #[command(name = "images:update")]
    ImagesUpdate {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// All apps, and the bases that new ones get
        #[arg(long)]
        all: bool,
    },
    /// List the SSH keys that may come in
    #[command(name = "keys")]
    Keys(Listing),
    /// Add a key read from standard input: keys:add NAME < id.pub
    #[command(name = "keys:add")]
    KeysAdd {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove a key
    #[command(name = "keys:remove")]
    KeysRemove {
        /// The key's name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show an app's log
    #[command(name = "logs")]
    Logs {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// Go on as lines come
        #[arg(short = 't', long = "tail")]
        tail: bool,
        /// How many lines
        #[arg(short = 'n', long = "num", value_name = "LINES", default_value_t = 100)]
        lines: usize,
        /// Only this process or type: web, web.1
        #[arg(short = 'p', long = "ps", value_name = "PROCESS")]
        process: Option<String>,
        /// Only this source: app, build, router, platform
        #[arg(short = 's', long = "source", value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Show whether an app is in maintenance
    #[command(name = "maintenance")]
    Maintenance(OfApp),
    /// Answer every request with a page (503); the app goes on running
    #[command(name = "maintenance:on")]
    MaintenanceOn(OfApp),
    /// Let the app answer again
    #[command(name = "maintenance:off")]
    MaintenanceOff(OfApp),
    /// Set the app's own page for it from standard input: maintenance:page APP < page.html
    #[command(name = "maintenance:page")]
    MaintenancePage {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// The server's page again
        #[arg(long)]
        default: bool,
    },
    /// Show what an app has to do, and what it takes for it; or what all apps have to do
    #[command(name = "metrics")]
    Metrics {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// List an app's processes
    #[command(name = "ps")]
    Ps {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Set how many processes run: ps:scale APP web=2 worker=1
    #[command(name = "ps:scale")]
    PsScale(OfApp),
    /// Show or set what processes get: ps:resize APP web --memory 1G --cpu 2
    #[command(name = "ps:resize")]
    PsResize {
        /// The app, then process types
        #[command(flatten)]
        app: OfApp,
        /// Memory of each process, or default
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// CPUs of each process, or default
        #[arg(long, value_name = "CPUS")]
        cpu: Option<String>,
    },
    /// Replace processes by new ones: ps:restart APP [worker|web.2 …]
    #[command(name = "ps:restart")]
    PsRestart(OfApp),
    /// Stop processes until ps:start, ps:restart or the next release: ps:stop APP [worker|web.2 …]
    #[command(name = "ps:stop")]
    PsStop(OfApp),
    /// Start what ps:stop stopped: ps:start APP [worker|web.2 …]
    #[command(name = "ps:start")]
    PsStart(OfApp),
    /// Show or set after how long without a request an app falls asleep: ps:sleep APP --after 15m
    #[command(name = "ps:sleep")]
    PsSleep {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// After so long: 90s, 15m, 2h
        #[arg(long, value_name = "TIME", conflicts_with_all = ["off", "now"])]
        after: Option<String>,
        /// Never
        #[arg(long, conflicts_with = "now")]
        off: bool,
        /// At once, if nobody uses it
        #[arg(long)]
        now: bool,
    },
    /// Wake an app that is asleep, as a request would
    #[command(name = "ps:wake")]
    PsWake(OfApp),
    /// List an app's releases
    #[command(name = "releases")]
    Releases {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Remove the images that no rollback needs, and say why others stay
    #[command(name = "releases:prune")]
    ReleasesPrune {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Run an earlier release again: rollback APP [vN]
    #[command(name = "rollback")]
    Rollback {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// Keep today's config vars instead of that release's
        #[arg(long)]
        keep_config: bool,
    },
    /// Print what a release consists of, as a CycloneDX document: sbom APP [vN]
    #[command(name = "sbom")]
    Sbom {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// For programs or for people
        #[arg(long, value_enum, default_value_t = SbomFormat::Cyclonedx)]
        format: SbomFormat,
    },
    /// Encrypt all config vars under a new key
    #[command(name = "secrets:rotate")]
    SecretsRotate,
    /// Show what is being built and run
    #[command(name = "status")]
    Status {
        /// Only this app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// List who else is told what happens to an app, and whether they were
    #[command(name = "webhooks")]
    Webhooks {
        /// The app
        #[command(flatten)]
        app: OfApp,
        /// How
        #[command(flatten)]
        listing: Listing,
    },
    /// Tell another program what happens: webhooks:add APP https://example.com/hook
    #[command(name = "webhooks:add")]
    WebhooksAdd {
        /// The app, then the address
        #[command(flatten)]
        app: OfApp,
        /// Only of these: release, rollback, crash
        #[arg(long, value_name = "LIST")]
        events: Option<String>,
        /// Sign messages with a secret read from standard input
        #[arg(long)]
        secret: bool,
    },
    /// Tell it no more: webhooks:remove APP ID
    #[command(name = "webhooks:remove")]
    WebhooksRemove(OfApp),
    /// Show this help, or that of a command
    #[command(name = "help")]
    Help {
        /// The command
        command: Option<String>,
    },
    /// Show the version
    #[command(name = "version")]
    Version,
}
