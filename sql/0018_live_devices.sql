-- The list of devices passed over all that were enrolled and deleted since: 615 pages instead of 210 for a page of 50,
-- where 20,000 phones had been replaced. Its first column is the one by which only that list sorts, and only that list asks
-- for times after -infinity: no other statement is drawn to this index, as a group of heartbeats was to one like it while
-- devices was empty. The previous release goes on with devices_created. Locks devices against writes while the index is
-- built (under a second for 300,000).

create index devices_newest on devices ((deleted_at is null), created_at desc, device_id desc)
  where created_at > '-infinity';
