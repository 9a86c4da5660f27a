-- What checks:set has said of an app's check: JSON of model/checks.rs, CheckChange.
ALTER TABLE apps ADD COLUMN checks TEXT NOT NULL DEFAULT '{}';
