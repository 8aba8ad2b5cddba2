-- commands_expiry could serve every statement about open commands, and with few of them the planner read it from end to
-- end for each device of a group of heartbeats. Only the sweep asks for times after -infinity, so only it can use this.
-- Locks commands against writes while the index is built; it holds open commands only.

create index commands_sweep on commands (expires_at) where state = 'open' and expires_at > '-infinity';
drop index commands_expiry;
