-- Which processes of a release were stopped while it serves: JSON of model/selection.rs.
ALTER TABLE releases ADD COLUMN stopped TEXT NOT NULL DEFAULT '[]';
