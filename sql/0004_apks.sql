-- APK builds with their bytes, and who fetched them. New tables only: no lock.

create table apk_builds (
  build_id text primary key check (build_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
  build_type text not null,
  version_code bigint not null check (version_code > 0),
  version_name text,
  git_sha text,
  ci_run_id text,
  signer_fingerprint text,
  sha256 bytea not null check (octet_length(sha256) = 32),
  size_bytes bigint not null check (size_bytes > 0),
  chunk_count integer not null check (chunk_count > 0),
  published_at timestamptz not null default now(),
  published_by text not null,
  withdrawn_at timestamptz,
  withdrawn_by text,
  request_id text not null
);
create index apk_builds_latest on apk_builds (build_type, version_code desc, published_at desc)
  where withdrawn_at is null;
create index apk_builds_newest on apk_builds (published_at desc, build_id desc);

-- 1 MiB rows, written in the build's own transaction: a build without its bytes cannot exist.
create table apk_chunks (
  build_id text not null references apk_builds on delete cascade,
  chunk_no integer not null check (chunk_no >= 0),
  bytes bytea not null,
  primary key (build_id, chunk_no)
);
alter table apk_chunks alter column bytes set storage external; -- an APK is compressed already

create table apk_download_events (
  event_id uuid primary key,
  build_id text not null references apk_builds,
  source text not null check (source in ('enrollment', 'ota', 'manual')),
  token_id uuid references enrollment_tokens,
  device_id uuid references devices,
  admin text,
  ip text,
  request_id text not null,
  status_code integer not null,
  range_start bigint,
  started_at timestamptz not null default now(),
  ended_at timestamptz, -- null: the replica died before the answer ended
  bytes_sent bigint,
  completed boolean not null default false
);
create index apk_download_events_build on apk_download_events (build_id, started_at);
