-- Names that apps answer to besides <app>.<domain>: 'www.example.com', '*.example.com'.
CREATE TABLE domains (
    name       TEXT PRIMARY KEY,
    app        INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX domains_by_app ON domains (app);

-- What https:set has said (JSON of model/app.rs).
ALTER TABLE apps ADD COLUMN https TEXT NOT NULL DEFAULT '{}';

-- Certificates of apps, and those of the server (app NULL). origin: 'own', brought by
-- its user; 'acme', ordered; 'self', made here for localhost.
CREATE TABLE certificates (
    id         TEXT PRIMARY KEY,
    app        INTEGER REFERENCES apps (id) ON DELETE CASCADE,
    origin     TEXT NOT NULL CHECK (origin IN ('own', 'acme', 'self')),
    names      TEXT NOT NULL,
    chain      TEXT NOT NULL,
    key        BLOB NOT NULL,
    issuer     TEXT NOT NULL,
    trusted    INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_app ON certificates (app);

-- Names for which no certificate could be had the last time.
CREATE TABLE orders (
    name     TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    next_at  INTEGER NOT NULL,
    problem  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Our accounts with certificate authorities, by directory.
CREATE TABLE acme_accounts (
    directory TEXT PRIMARY KEY,
    account   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
