-- Who changed this phone, token, command or build, and which enrollment tokens a phone was given: by an index, however
-- long the history is. `why` looked through the last 500 entries, which is 2.4 hours at 5,000 a day.
-- Locks audit_log, then enrollment_tokens, against writes while the indexes are built (about 2 s a million rows).

create index audit_log_subject on audit_log (subject, at desc, audit_id desc);
-- Of devices and enrollment tokens; the alias outlives the device's row.
create index audit_log_alias on audit_log ((detail->>'alias'), at desc, audit_id desc) where detail->>'alias' is not null;
create index enrollment_tokens_alias on enrollment_tokens (alias, issued_at desc, token_id desc) where alias is not null;
