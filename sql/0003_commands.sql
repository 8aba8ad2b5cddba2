-- Commands: the outbox that push reads and the mailbox that heartbeats empty, and each command's story.
-- New tables only: no lock.

create table commands (
  request_id text primary key check (request_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
  device_id uuid not null references devices,
  action text not null,
  params jsonb not null,
  request_hash bytea not null, -- SHA-256 over device, action and params: tells a repeat from a conflict
  admin text not null,
  state text not null default 'open' check (state in ('open', 'completed', 'expired', 'cancelled')),
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  -- every message, pushed or handed over, raises it: a repeat always carries a higher number
  attempt integer not null default 0,
  push_state text not null
    check (push_state in ('off', 'no_token', 'waiting', 'sending', 'backoff', 'paused', 'sent', 'gave_up')),
  push_attempts integer not null default 0,
  push_failures integer not null default 0, -- in a row; the exponent of the back-off
  fcm_http_code integer,
  fcm_status text,
  lease_id uuid,
  lease_until timestamptz,
  -- null: nothing to push; while leased it is lease_until, so an abandoned lease falls due by itself
  next_attempt_at timestamptz,
  delivered_at timestamptz, -- last hand-over in a heartbeat's answer
  deliveries integer not null default 0,
  outcome text check (outcome in ('success', 'failure', 'timeout', 'rejected')),
  result_message text,
  result_output text,
  result_exit_code integer,
  result_finished_at timestamptz, -- the device's clock: data
  result_at timestamptz,
  result_request_id text, -- ingress id of the request that brought the result
  late_result boolean not null default false, -- came after expiry or cancellation
  check ((state = 'open') = (ended_at is null))
);
create index commands_due on commands (next_attempt_at, request_id)
  where state = 'open' and next_attempt_at is not null;
create index commands_mailbox on commands (device_id, created_at, request_id) where state = 'open';
create index commands_expiry on commands (expires_at) where state = 'open';
create index commands_newest on commands (created_at desc, request_id desc);
create index commands_of_state on commands (state, created_at desc, request_id desc);
create index commands_of_device on commands (device_id, created_at desc, request_id desc);

create table command_events (
  event_id bigint generated always as identity primary key,
  request_id text not null references commands on delete cascade,
  at timestamptz not null default now(),
  stage text not null check (stage in ('accepted', 'push_sent', 'push_failed', 'push_off', 'no_push_token',
    'delivered', 'result', 'expired', 'cancelled')),
  code text,
  detail jsonb,
  instance text not null -- the replica that wrote it
);
create index command_events_story on command_events (request_id, event_id);
