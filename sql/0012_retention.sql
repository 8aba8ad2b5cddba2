-- What is kept for good no longer is (src/db/retention.ts): each prune finds the oldest rows by an index. Three columns
-- outlive the row that they name, so they refer to it no more: pruning would look each of them up in a whole table, and a
-- phone that lives for years would keep its first enrollment token for as long.
-- Locks each table for a moment, and against writes while its index is built (about 2 s a million rows).

alter table devices drop constraint devices_enrolled_by_fkey;
alter table apk_download_events
  drop constraint apk_download_events_token_id_fkey,
  drop constraint apk_download_events_device_id_fkey;

create index devices_deleted on devices (deleted_at) where deleted_at is not null;
create index device_tokens_dead on device_tokens (dead_at, token_hash) where dead_at is not null;
create index apk_download_events_age on apk_download_events (started_at, event_id);
-- Serves the list of unexpired tokens as well.
create index enrollment_tokens_expires on enrollment_tokens (expires_at, token_id);
drop index enrollment_tokens_unexpired;
