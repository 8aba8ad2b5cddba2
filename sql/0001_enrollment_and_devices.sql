-- Who may enroll, who is enrolled, and with which credential. New tables only: no lock on anything live.

create table installation (
  -- One row: which installation a phone or an operator is talking to, the same on every replica.
  is_only boolean primary key default true check (is_only),
  instance_id uuid not null,
  created_at timestamptz not null default now()
);

create table hmac_secrets (
  -- Which HMAC_SECRETs this installation was run with: a start with another value under a used id is refused.
  secret_id text primary key,
  fingerprint bytea not null
);

create table enrollment_tokens (
  token_id uuid primary key,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  alias text, -- null: unbound
  uses_allowed integer not null check (uses_allowed between 1 and 1000),
  uses_consumed integer not null default 0 check (uses_consumed between 0 and uses_allowed),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  issued_by text not null,
  note text,
  issued_at timestamptz not null default now(),
  request_id text not null
);
create index enrollment_tokens_issued on enrollment_tokens (issued_at desc, token_id desc);
create index enrollment_tokens_by_admin on enrollment_tokens (issued_by, issued_at);

create table devices (
  device_id uuid primary key,
  alias text not null,
  hardware_id text, -- as the first call of the current enrollment gave it
  enrollment_no integer not null check (enrollment_no >= 1),
  enrolled_by uuid not null references enrollment_tokens,
  reissues integer not null default 0, -- lost answers of the current enrollment
  hmac_secret_id text not null, -- which HMAC_SECRET made the current command key
  fcm_token text,
  fcm_token_at timestamptz, -- effective time of the report that set fcm_token
  fcm_token_died_at timestamptz, -- FCM called this fcm_token dead; it is remembered, not erased
  app_version text,
  model text,
  manufacturer text,
  android_version text,
  sdk_int integer,
  created_at timestamptz not null default now(),
  enrolled_at timestamptz not null default now(),
  deleted_at timestamptz,
  request_id text not null
);
create unique index devices_live_alias on devices (alias) where deleted_at is null;
create index devices_hmac_secret on devices (hmac_secret_id) where deleted_at is null;
create index devices_created on devices (created_at desc, device_id desc);

create table device_tokens (
  token_hash bytea primary key check (octet_length(token_hash) = 32),
  device_id uuid not null references devices,
  enrollment_no integer not null,
  issued_at timestamptz not null default now(),
  first_used_at timestamptz, -- at its first use a token kills its siblings of the same enrollment
  dead_at timestamptz,
  dead_reason text check (dead_reason in ('superseded', 're_enrolled', 'device_deleted')),
  request_id text not null,
  check ((dead_at is null) = (dead_reason is null))
);
create index device_tokens_device on device_tokens (device_id, enrollment_no);

-- One row a device, made with it. No index on a changing column: every update stays HOT.
create table device_status (
  device_id uuid primary key references devices,
  last_seen_at timestamptz, -- the server's clock; null until the first heartbeat
  effective_at timestamptz, -- of the heartbeat that the descriptive columns come from
  status text check (status in ('ok', 'warn', 'error')),
  battery_pct smallint,
  network_type text,
  uptime_s bigint,
  plugged boolean,
  temp_c real,
  signal_dbm smallint,
  ram_used_mb integer,
  app_version text,
  agent_version text,
  request_id text
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
