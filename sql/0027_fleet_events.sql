-- The feed of events (GET /admin/events): one row for each change of which an operator's program wants to hear. A new table,
-- and one column of device_status without a default. Locks devices, device_status, enrollment_tokens, commands, jobs and
-- apk_builds for an instant; no row is rewritten. The previous release runs on it, and its changes are noted as well;
-- only a phone that came back is noted later, at its first heartbeat to this release.

create table fleet_events (
  event_id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  type text not null, -- src/domain/fleet-event.ts
  subject text not null, -- id of the device, command, job, build or enrollment token
  device_id uuid, -- its alias is not stored: reads join the device, and leave out a deleted one
  detail jsonb
);
-- Readers read its last number; the role of the service need not be that of the migrations.
grant select on sequence fleet_events_event_id_seq to public;
-- Retention keeps the newest row, so there always is one for a cursor to name.
insert into fleet_events (type, subject) values ('feed.started', 'feed');

-- When the service noticed that it is silent; null: it is not, or was never heard of. In no index: a heartbeat stays a HOT update.
alter table device_status add column offline_at timestamptz;

-- Constraint triggers that are deferred run at the commit, so an event takes its number last of all: after every lock that
-- its transaction waited for, and milliseconds before others can see it. Number order is therefore the order of commits
-- wherever one change depends on another (src/db/events/settled-events.ts). A change that does not match `when` costs
-- a comparison and makes no event.

create function note_device_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, device_id, detail) values (tg_argv[0], new.device_id::text, new.device_id,
    jsonb_build_object('enrollment_no', new.enrollment_no, 'token_id', new.enrolled_by));
  return null;
end
$$;
create constraint trigger devices_event_enrolled after insert on devices deferrable initially deferred
  for each row execute function note_device_event('device.enrolled');
create constraint trigger devices_event_re_enrolled after update of enrollment_no on devices deferrable initially deferred
  for each row when (new.enrollment_no > old.enrollment_no) execute function note_device_event('device.re_enrolled');
create constraint trigger devices_event_deleted after update of deleted_at on devices deferrable initially deferred
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function note_device_event('device.deleted');

-- `last_seen_at`: the contact before the silence.
create function note_presence_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, device_id, detail) values (
    case when new.offline_at is null then 'device.online' else 'device.offline' end, new.device_id::text, new.device_id,
    jsonb_build_object('last_seen_at', to_char(old.last_seen_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
  return null;
end
$$;
create constraint trigger device_status_event after update of offline_at on device_status deferrable initially deferred
  for each row when ((old.offline_at is null) <> (new.offline_at is null) and not new.is_deleted)
  execute function note_presence_event();

create function note_command_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, device_id, detail) values ('command.ended', new.request_id, new.device_id,
    jsonb_build_object('action', new.action, 'state', new.state, 'outcome', new.outcome));
  return null;
end
$$;
-- A member of a job whose device was deleted meanwhile begins as cancelled.
create constraint trigger commands_event_insert after insert on commands deferrable initially deferred
  for each row when (new.state <> 'open') execute function note_command_event();
create constraint trigger commands_event_update after update of state on commands deferrable initially deferred
  for each row when (old.state = 'open' and new.state <> 'open') execute function note_command_event();

create function note_job_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, detail) values (
    case tg_op when 'INSERT' then 'job.created' else 'job.' || new.state end, new.job_id,
    jsonb_build_object('action', new.action, 'state', new.state, 'reason', new.reason));
  return null;
end
$$;
create constraint trigger jobs_event_insert after insert on jobs deferrable initially deferred
  for each row execute function note_job_event();
create constraint trigger jobs_event_update after update of state on jobs deferrable initially deferred
  for each row when (old.state <> new.state) execute function note_job_event();

create function note_build_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, detail) values (tg_argv[0], new.build_id,
    jsonb_build_object('build_type', new.build_type, 'package', new.package, 'version_code', new.version_code));
  return null;
end
$$;
create constraint trigger apk_builds_event_published after insert on apk_builds deferrable initially deferred
  for each row when (not new.staged) execute function note_build_event('build.published');
create constraint trigger apk_builds_event_staged after insert on apk_builds deferrable initially deferred
  for each row when (new.staged) execute function note_build_event('build.staged');
create constraint trigger apk_builds_event_released after update of staged on apk_builds deferrable initially deferred
  for each row when (old.staged and not new.staged) execute function note_build_event('build.released');
create constraint trigger apk_builds_event_withdrawn after update of withdrawn_by on apk_builds deferrable initially deferred
  for each row when (old.withdrawn_by is null and new.withdrawn_by is not null)
  execute function note_build_event('build.withdrawn');

create function note_token_event() returns trigger
language plpgsql
as $$
begin
  insert into fleet_events (type, subject, detail) values (tg_argv[0], new.token_id::text,
    jsonb_build_object('uses_allowed', new.uses_allowed, 'uses_consumed', new.uses_consumed));
  return null;
end
$$;
create constraint trigger enrollment_tokens_event_created after insert on enrollment_tokens deferrable initially deferred
  for each row execute function note_token_event('token.created');
create constraint trigger enrollment_tokens_event_consumed after update of uses_consumed on enrollment_tokens
  deferrable initially deferred
  for each row when (new.uses_consumed > old.uses_consumed) execute function note_token_event('token.consumed');
create constraint trigger enrollment_tokens_event_revoked after update of revoked_at on enrollment_tokens
  deferrable initially deferred
  for each row when (old.revoked_at is null and new.revoked_at is not null)
  execute function note_token_event('token.revoked');
