-- For how long a release is watched after it went live (seconds; NULL: as the server
-- says); the release whose containers it took over; and the evidence (JSON of
-- model/window.rs) for which it was taken back, or by which it took over.
ALTER TABLE releases ADD COLUMN watch INTEGER;
ALTER TABLE releases ADD COLUMN took_over INTEGER;
ALTER TABLE releases ADD COLUMN evidence TEXT;

-- Releases that are watched now, and which containers stand by meanwhile.
CREATE TABLE windows (
    app     INTEGER PRIMARY KEY REFERENCES apps (id) ON DELETE CASCADE,
    release INTEGER NOT NULL,
    before  INTEGER NOT NULL,
    standby INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    former  TEXT NOT NULL
) STRICT;
