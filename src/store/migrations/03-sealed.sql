-- Values of config vars are sealed (store::secrets): they are written by seal()
-- and read by unseal(), which open them in their own row alone.
CREATE TABLE sealed_config (
    app   INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;
INSERT INTO sealed_config (app, key, value) SELECT app, key, seal('config', app, key, value) FROM config;
DROP TABLE config;
ALTER TABLE sealed_config RENAME TO config;

-- Config vars of all apps, below each app's own.
CREATE TABLE global_config (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What a release runs with: {"app": {…}, "global": {…}}.
ALTER TABLE releases ADD COLUMN vars BLOB NOT NULL DEFAULT x'';
UPDATE releases SET vars = seal('release', app, number, json_object('app', json(config), 'global', json('{}')));
ALTER TABLE releases DROP COLUMN config;

-- Pages that were given up still have what was in them.
INSERT INTO facts (name, value) VALUES ('tidy', 'due');
