-- Whether people get a page instead of the app; and the app's own page for that.
ALTER TABLE apps ADD COLUMN maintenance INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN maintenance_page TEXT;
