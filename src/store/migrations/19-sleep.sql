-- Apps that sleep while nobody asks for them: after so many seconds, since when, and how
-- their last wake went.
ALTER TABLE apps ADD COLUMN sleep_after INTEGER;
ALTER TABLE apps ADD COLUMN asleep_since INTEGER;
ALTER TABLE apps ADD COLUMN woken_at INTEGER;
ALTER TABLE apps ADD COLUMN wake_took INTEGER;
