-- What paas.toml says of process types (JSON of model/process_type.rs); and sizes
-- that were set by command: the app's, and those that a release runs with.
ALTER TABLE releases ADD COLUMN types TEXT NOT NULL DEFAULT '{}';
ALTER TABLE releases ADD COLUMN sizes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE apps ADD COLUMN sizes TEXT NOT NULL DEFAULT '{}';
