-- A phone with a wrong clock loses neither its push token nor its status for long: what is remembered of its clock beside
-- effective_at. Adds columns without a default: device_status is locked for an instant, no row is rewritten. The previous
-- release ignores them. devices.fcm_token_at is in the phone's time from now on; what stands there heals by itself.

alter table device_status
  -- reported time of the heartbeat that the descriptive columns come from, where it was ahead of our clock
  add column clock_ahead_at timestamptz,
  -- reported time of the latest heartbeat, where it did not fit to what the phone had said before
  add column doubted_at timestamptz;
