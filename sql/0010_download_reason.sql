-- Why a download failed stood in the log only. Adds a column without a default: an ACCESS EXCLUSIVE lock on
-- apk_download_events for a moment, and no row is rewritten. The previous release leaves it null.

alter table apk_download_events
  add column reason text; -- null: it did not fail, has not ended, or ended before this column
