-- The release whose image and commands this one has; and when it stopped serving,
-- seconds since the epoch, UTC (unknown for those that stopped before this).
ALTER TABLE releases ADD COLUMN source INTEGER;
ALTER TABLE releases ADD COLUMN retired_at INTEGER;
UPDATE releases SET retired_at = created_at WHERE state = 'retired';
