-- Names of apps whose requests are sent on to another name.
CREATE TABLE redirects (
    name   TEXT PRIMARY KEY,
    app    INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    code   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX redirects_by_app ON redirects (app);
