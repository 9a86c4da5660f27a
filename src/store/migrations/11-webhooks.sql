-- Who is told what happens to an app. `endpoint` is sealed JSON of model/webhook.rs:
-- addresses have passwords in them.
CREATE TABLE webhooks (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app        INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    endpoint   BLOB NOT NULL,
    events     TEXT NOT NULL,
    who        TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Messages to them. One that waits is sent when it is due, until it arrives.
CREATE TABLE deliveries (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook INTEGER NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    name    TEXT NOT NULL UNIQUE,
    event   TEXT NOT NULL,
    body    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    due     INTEGER NOT NULL,
    tries   INTEGER NOT NULL DEFAULT 0,
    state   TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'given up')),
    outcome TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX deliveries_of ON deliveries (webhook, state, id);
CREATE INDEX deliveries_due ON deliveries (due) WHERE state = 'waiting';
