-- Who changed what. Apps are named: the trail outlives them.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    who     TEXT NOT NULL,
    app     TEXT,
    what    TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT 'begun'
) STRICT;
CREATE INDEX audit_of_app ON audit (app, id);
