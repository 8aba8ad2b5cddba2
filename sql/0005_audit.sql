-- Who did what, and which signed requests were already accepted. New tables only: no lock.

create table audit_log (
  audit_id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  admin text, -- null: a device did it (an enrollment token consumed)
  what text not null,
  subject text not null,
  request_id text not null,
  ip text,
  detail jsonb
);
create index audit_log_at on audit_log (at desc, audit_id desc);
create index audit_log_admin on audit_log (admin, at desc, audit_id desc);

create table used_signatures (
  signature bytea primary key,
  used_at timestamptz not null default now()
);
create index used_signatures_age on used_signatures (used_at);
