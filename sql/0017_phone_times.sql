-- A heartbeat that tells no time is ordered by our clock; the next one that tells its phone's time is compared with what
-- the phone's clock showed, not with ours. Adds a column without a default: device_status is locked for an instant, no
-- row is rewritten. The previous release ignores it; what is older by then only lets a heartbeat through.

alter table device_status
  -- what the phone's clock showed at the latest heartbeat that was not older; where it was ahead, the receive time
  add column clock_at timestamptz;
