-- Version codes that phones report: `version_code` of the app itself; `app_versions` of the packages that have a build, such as
-- {"com.example.app": 42}. The index tells whether a package has one; none is on device_status, whose updates stay HOT.
-- Locks device_status, heartbeats and its partitions for an instant, since columns without a default rewrite no row, and
-- apk_builds against writes while it is read once. The previous release writes neither column.

alter table device_status
  add column version_code bigint,
  add column app_versions jsonb; -- null: never reported
alter table heartbeats add column version_code bigint;
create index apk_builds_package on apk_builds (package) where package is not null;
