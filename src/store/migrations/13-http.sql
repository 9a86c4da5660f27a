-- What a release's paas.toml says of its requests: JSON of model/http.rs.
ALTER TABLE releases ADD COLUMN http TEXT NOT NULL DEFAULT '{}';
