-- Which base images releases were built on: JSON of model/pin.rs.
ALTER TABLE releases ADD COLUMN bases TEXT NOT NULL DEFAULT '[]';
-- Those that images:update has given to an app since its last build.
ALTER TABLE apps ADD COLUMN next_bases TEXT NOT NULL DEFAULT '[]';
-- Those that are known here; `ours`: this server made them.
CREATE TABLE bases (
    reference TEXT PRIMARY KEY,
    name      TEXT NOT NULL,
    image_id  TEXT NOT NULL,
    digest    TEXT,
    made_at   INTEGER NOT NULL,
    ours      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
