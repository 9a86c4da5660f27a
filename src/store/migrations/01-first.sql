-- Times are seconds since the epoch, UTC. JSON columns hold what model/ serialises.
CREATE TABLE apps (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    repository    TEXT NOT NULL UNIQUE,
    deploy_branch TEXT,
    port          INTEGER NOT NULL UNIQUE,
    subnet        TEXT NOT NULL UNIQUE,
    stopped       INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    public_key  TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE config (
    app   INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE formation (
    app   INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    type  TEXT NOT NULL,
    count INTEGER NOT NULL CHECK (count BETWEEN 0 AND 100),
    PRIMARY KEY (app, type)
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app        INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    commit_id  TEXT NOT NULL,
    image      TEXT NOT NULL DEFAULT '',
    image_id   TEXT NOT NULL DEFAULT '',
    config     TEXT NOT NULL,
    processes  TEXT NOT NULL DEFAULT '{}',
    port       INTEGER NOT NULL DEFAULT 0,
    env        TEXT NOT NULL DEFAULT '{}',
    worker_mib INTEGER,
    runtime    TEXT NOT NULL DEFAULT '',
    root       INTEGER NOT NULL DEFAULT 0,
    why        TEXT NOT NULL,
    who        TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('preparing', 'ready', 'current', 'retired', 'failed')),
    created_at INTEGER NOT NULL,
    UNIQUE (app, number)
) STRICT;

-- An app has one current release, and one that is on its way.
CREATE UNIQUE INDEX one_current ON releases (app) WHERE state = 'current';
CREATE UNIQUE INDEX one_unfinished ON releases (app) WHERE state IN ('preparing', 'ready');

-- The fixed address of each container, kept from before its start to after its end.
CREATE TABLE addresses (
    app     INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    release INTEGER NOT NULL,
    process TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (app, release, process),
    UNIQUE (app, address)
) STRICT;

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
