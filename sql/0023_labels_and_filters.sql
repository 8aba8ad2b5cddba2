-- Lists by outcome and by kind of change, and what erasing a phone looks for: each by an index of its own. Labels of enrollment
-- tokens. The previous release goes on with the other indexes, and gives what it enrolls no labels.
-- Locks audit_log, apk_download_events and commands against writes, in this order and until all is done (about 2 s a million
-- rows and index). enrollment_tokens comes last: it is locked for an instant, and no row is rewritten.

create index audit_log_what on audit_log (what, at desc, audit_id desc);
create index audit_log_admin_what on audit_log (admin, what, at desc, audit_id desc);
create index audit_log_device on audit_log ((detail->>'device_id')) where detail->>'device_id' is not null;
create index apk_download_events_device on apk_download_events (device_id) where device_id is not null;
create index apk_download_events_token on apk_download_events (token_id) where token_id is not null;
create index commands_outcome on commands (outcome, created_at desc, request_id desc) where state = 'completed';
create index commands_outcome_of_action on commands (outcome, action, created_at desc, request_id desc)
  where state = 'completed';

-- Those that a phone gets when it enrolls.
alter table enrollment_tokens add column labels jsonb not null default '{}';
