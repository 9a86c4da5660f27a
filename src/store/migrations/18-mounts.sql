-- Paths under names: example.com/api may be another app's than example.com, as long as an
-- app has that name itself.
CREATE TABLE mounts (
    name  TEXT NOT NULL REFERENCES domains (name) ON DELETE CASCADE,
    path  TEXT NOT NULL,
    app   INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    strip INTEGER NOT NULL,
    PRIMARY KEY (name, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX mounts_by_app ON mounts (app);
