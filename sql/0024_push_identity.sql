-- A phone's push identity is a registration token (fcm_token) or a Firebase Installation ID (fid). At most one of them is set,
-- and fcm_token counts where a previous release has set it beside a fid: that release clears no fid and never sends one as a
-- token. fcm_token_at, _died_at and _due_at belong to the identity of either kind.
-- Adds columns without a default: each table is locked for an instant, no row is rewritten. The previous release ignores them.

alter table devices add column fid text;

alter table device_status
  -- seconds from a heartbeat's reported time to its receive time: the phone's clock, plus the delay of the heartbeat
  add column clock_lag_s double precision,
  -- the smaller of two such lags in a row that agree within 5 s: added to a phone's time it gives ours; null: not known
  add column clock_offset_s double precision,
  -- when a result last said that FCM had lowered the priority of its message; null once one came with the priority it had
  add column push_lowered_at timestamptz;

-- What the phone reported about the push message that brought the command.
alter table commands
  add column push_received_at timestamptz, -- the phone's clock
  add column push_priority text,
  add column push_original_priority text;
