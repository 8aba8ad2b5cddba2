-- What jobs still have to count, and the oldest event, are found without walking over rows that are gone: a held snapshot (a
-- running pg_dump) keeps those, and vacuum came late. Beside one, each check for due jobs read 6,100 pages after ten minutes
-- at 300 commands a second.
-- The previous release names neither column: its changes have the default, and it leaves jobs.uncounted_from as it is, which
-- is never too late.

-- Retention empties these from one end, or most of their rows change: a fifth of the table may be dead by default. First,
-- since they may wait for a vacuum that is running, and nobody waits behind them but vacuum and other migrations.
alter table fleet_events set (autovacuum_vacuum_scale_factor = 0.02);
alter table audit_log set (autovacuum_vacuum_scale_factor = 0.02);
alter table apk_download_events set (autovacuum_vacuum_scale_factor = 0.02);
alter table job_members set (autovacuum_vacuum_scale_factor = 0.02);
alter table devices set (autovacuum_vacuum_scale_factor = 0.02);
alter table device_tokens set (autovacuum_vacuum_scale_factor = 0.02);
alter table enrollment_tokens set (autovacuum_vacuum_scale_factor = 0.02);

-- The transaction of each change, and per job the one that may have left the first change not counted yet: a count that took
-- all it saw also took all of every transaction that had ended by then (src/db/jobs/rows.ts). Locks jobs and then job_changes,
-- which is almost empty, in the order of a release, for an instant; the defaults rewrite no row.
alter table jobs add column uncounted_from xid8 not null default '0';
alter table job_changes add column xact xid8 not null default pg_current_xact_id();
drop index job_changes_job;
create index job_changes_job on job_changes (job_no, xact);
