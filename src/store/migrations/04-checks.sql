-- How web is asked whether it is well: JSON of model/checks.rs.
ALTER TABLE releases ADD COLUMN checks TEXT NOT NULL DEFAULT '{}';
