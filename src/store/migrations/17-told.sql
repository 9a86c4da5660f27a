-- Whether people have been told that a release was taken back: those who pushed the
-- release that went live next.
ALTER TABLE releases ADD COLUMN told INTEGER NOT NULL DEFAULT 1;
-- Whether a container has taken no requests so far: it ends without waiting for any.
ALTER TABLE addresses ADD COLUMN fresh INTEGER NOT NULL DEFAULT 0;
-- Whether its config vars are gone: nothing can run it again.
ALTER TABLE releases ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
UPDATE releases SET told = 0
WHERE state = 'retired' AND evidence IS NOT NULL AND why <> 'automatic'
  AND number > (SELECT max(number) FROM releases AS newer
                WHERE newer.app = releases.app AND newer.why = 'push' AND newer.state IN ('current', 'retired')
                  AND newer.evidence IS NULL);
