-- The group statement of heartbeats finds a device by its token in the row that it locks and updates anyway: one
-- look-up instead of three, and a token that dies while its row is waited for no longer fits it. Beside the previous
-- release: what that one marks as used is entered here at its next heartbeat, and enrollment_no refuses what it ended.
-- Locks device_status against writes while the index is built, and rewrites its rows (about 3 s for a million).

alter table device_status
  add column token_hash bytea, -- of the one used and live device token; null until one is used
  add column enrollment_no integer; -- of that token

update device_status s set token_hash = t.token_hash, enrollment_no = t.enrollment_no
from device_tokens t
where t.device_id = s.device_id and t.first_used_at is not null and t.dead_at is null;

create unique index device_status_token on device_status (token_hash);
