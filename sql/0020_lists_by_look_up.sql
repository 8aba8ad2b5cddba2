-- Devices by how long they have been silent, and enrollment tokens by status: by an index, where all rows were read.
-- Rewrites device_status (1 s to 2 s for 300,000 devices) and locks it and enrollment_tokens meanwhile; heartbeats wait, or
-- are sent again. The previous release runs on it: PostgreSQL computes heard_after, and what is_deleted leaves out is
-- looked up in vain.

-- A deleted device is silent for ever, and in no list. Set by the deletion, which ends the last heartbeat.
alter table device_status add column is_deleted boolean not null default false;
update device_status s set is_deleted = true
from devices d where d.device_id = s.device_id and d.deleted_at is not null;

-- At most six hours before last_seen_at, and unchanged for as long: one heartbeat in 72 changes its index entry, the others
-- stay HOT updates, which an index on last_seen_at would end. Each device has a time of its own for that, by its id, or all
-- would do so at once. Never heard of: -infinity.
alter table device_status add column heard_after timestamptz generated always as (
  coalesce(date_bin(interval '6 hours', last_seen_at, to_timestamp(uuid_hash(device_id) % 21600)), '-infinity')) stored;
create index device_status_heard_after on device_status (heard_after) where not is_deleted;

-- Used up or not, newest first: most of the newest are still valid.
create index enrollment_tokens_used on enrollment_tokens ((uses_consumed >= uses_allowed), issued_at desc, token_id desc)
  where revoked_at is null;
-- Of one alias, however many tokens it had: those that are valid, and those that were revoked. -infinity: only the list that
-- asks for it may use the index; that of expired tokens took it to sort all of them.
create index enrollment_tokens_alias_unexpired on enrollment_tokens (alias, expires_at)
  where alias is not null and revoked_at is null and expires_at > '-infinity';
create index enrollment_tokens_alias_revoked on enrollment_tokens (alias, issued_at desc, token_id desc)
  where alias is not null and revoked_at is not null;
