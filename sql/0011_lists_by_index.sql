-- Lists, sweep and status filters at 300,000 phones and 3,000,000 commands: each reads a page by an index of its own, not
-- the rows that other statements left behind. Measured: open statuses 1,000,000 pages before, 400 after.
-- Locks commands and enrollment_tokens against writes while the indexes are built (about 2 s a million commands).

-- The status of an open command, as command-lists.ts computes it; one index for all actions, one for a single action.
create index commands_open_status on commands ((
  case when delivered_at is not null then 'delivered'
       when push_state = 'sent' then 'sent'
       when push_state in ('gave_up', 'no_token') then 'push_failed'
       else 'queued' end), created_at desc, request_id desc) where state = 'open';
create index commands_open_status_of_action on commands ((
  case when delivered_at is not null then 'delivered'
       when push_state = 'sent' then 'sent'
       when push_state in ('gave_up', 'no_token') then 'push_failed'
       else 'queued' end), action, created_at desc, request_id desc) where state = 'open';

-- A rare state of a common action, or the reverse. Lists of an action without a state read each state's newest.
create index commands_of_action_state on commands (action, state, created_at desc, request_id desc);
drop index commands_of_action;

-- Many commands expire at one time: without the id each batch of the sweep read all of them again and sorted them.
drop index commands_sweep;
create index commands_sweep on commands (expires_at, request_id) where state = 'open' and expires_at > '-infinity';

create index enrollment_tokens_unexpired on enrollment_tokens (expires_at) where revoked_at is null;
create index enrollment_tokens_revoked on enrollment_tokens (issued_at desc, token_id desc) where revoked_at is not null;

-- The default waits for a fifth of the table to be dead: 600,000 rows of 3,000,000.
alter table commands set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);
alter table command_events set (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.02);
