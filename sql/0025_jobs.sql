-- Jobs: one action for a selection of devices, released at a pace. src/domain/job.ts has the states and their transitions.
-- New tables, plus two columns without a default: commands is locked for an instant, no row is rewritten. Its new indexes
-- hold members of jobs only; building the three reads commands three times and locks it against writes meanwhile. The
-- previous release runs on it, and what it records of a member is counted by the triggers as well.

create table jobs (
  job_no bigint generated always as identity primary key,
  job_id text not null unique check (job_id ~ '^[A-Za-z0-9._:-]{1,120}$'),
  request_hash bytea not null, -- SHA-256 over selection, action and params: tells a repeat from a conflict
  content_hash bytea not null, -- commands.request_hash of its members
  selection text not null, -- as it was written
  action text not null,
  params jsonb not null,
  ttl_s integer not null,
  per_minute integer check (per_minute > 0), -- null: no limit
  max_failed_pct integer check (max_failed_pct between 1 and 100), -- null: no threshold
  min_results integer not null,
  not_before timestamptz,
  note text,
  admin text not null,
  request_id text not null, -- of the request that created it

  state text not null check (state in ('scheduled', 'running', 'paused', 'done', 'aborted')),
  reason text check (reason in ('admin', 'threshold')),
  changed_by text, -- the admin who brought it into this state; null: the service
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default now(), -- of the state
  ended_at timestamptz,
  is_cancelling boolean not null default false, -- aborted, and open commands are left to cancel
  is_settled boolean not null default false, -- ended, and so has every command: nothing of it can change

  devices integer not null check (devices > 0),
  released integer not null default 0 check (released between 0 and devices), -- members 1 to n, in this order
  lost integer not null default 0, -- released without a command: the device's row or the command's id was gone
  -- members with a command by status, without what job_changes still holds
  queued integer not null default 0,
  sent integer not null default 0,
  delivered integer not null default 0,
  push_failed integer not null default 0,
  completed integer not null default 0,
  failed integer not null default 0,
  expired integer not null default 0,
  cancelled integer not null default 0,
  -- the threshold counts what ended since the last resume
  ended_before integer not null default 0,
  failed_before integer not null default 0,
  -- a token bucket: members that may be released now, as of filled_at
  allowance double precision not null default 1,
  filled_at timestamptz not null default now(),
  -- two marks, half a minute apart, from which the present rate is computed
  mark_at timestamptz not null default now(),
  mark_released integer not null default 0,
  mark_ended integer not null default 0,
  next_mark_at timestamptz not null default now(),
  next_mark_released integer not null default 0,
  next_mark_ended integer not null default 0,
  -- of a job that is done: the commonest message of its failures
  failure_message text,
  failure_count integer,

  check ((state in ('done', 'aborted')) = (ended_at is not null)),
  check ((state in ('paused', 'aborted')) = (reason is not null)),
  check (state = 'aborted' or not is_cancelling),
  check (ended_at is not null or not is_settled)
);
create index jobs_unsettled on jobs (job_no) where not is_settled;
create index jobs_newest on jobs (created_at desc, job_id desc);
create index jobs_of_state on jobs (state, created_at desc, job_id desc);
create index jobs_ended on jobs (ended_at, job_no) where ended_at is not null;

-- Written once, with the job. No foreign keys: each member would be checked, and the rows of jobs and devices outlive it or
-- their absence is counted (jobs.lost).
create table job_members (
  job_no bigint not null,
  n integer not null,
  device_id uuid not null,
  primary key (job_no, n)
);

-- Members that changed their status, until they are added to the counts of their job. Counters in the job's row would make
-- every result of a job wait for the one before; appending does not.
create table job_changes (
  job_no bigint not null,
  was text, -- null: it was just released
  became text not null
);
create index job_changes_job on job_changes (job_no);
-- It is emptied several times a second.
alter table job_changes set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

alter table commands
  add column job_no bigint, -- null: a command of its own
  add column job_n integer;

-- The status that jobs count, of a command that has not expired unnoticed.
create function job_member_status(state text, push_state text, is_delivered boolean, outcome text) returns text
language sql immutable parallel safe
as $$
  select case
    when state = 'completed' then case when outcome = 'success' then 'completed' else 'failed' end
    when state <> 'open' then state
    when is_delivered then 'delivered'
    when push_state = 'sent' then 'sent'
    when push_state in ('gave_up', 'no_token') then 'push_failed'
    else 'queued' end
$$;

create unique index commands_of_job on commands (job_no, job_n) where job_no is not null;
create index commands_of_job_status on commands (
  job_no, job_member_status(state, push_state, delivered_at is not null, outcome), job_n) where job_no is not null;
create index commands_of_job_outcome on commands (job_no, outcome, job_n) where job_no is not null and outcome is not null;

-- One trigger instead of a clause in each of the eight statements that change a command: none can be forgotten.
create function note_job_change() returns trigger
language plpgsql
as $$
declare
  was text;
begin
  if tg_op = 'UPDATE' then
    was := job_member_status(old.state, old.push_state, old.delivered_at is not null, old.outcome);
  end if;
  insert into job_changes (job_no, was, became) values
    (new.job_no, was, job_member_status(new.state, new.push_state, new.delivered_at is not null, new.outcome));
  return null;
end
$$;

create trigger commands_job_insert after insert on commands
  for each row when (new.job_no is not null) execute function note_job_change();
create trigger commands_job_update after update on commands
  for each row when (new.job_no is not null
    and job_member_status(new.state, new.push_state, new.delivered_at is not null, new.outcome)
      <> job_member_status(old.state, old.push_state, old.delivered_at is not null, old.outcome))
  execute function note_job_change();
