-- A claim read commands_of_action_state from end to end while a pg_dump held its snapshot: every statement that says
-- state = 'open' may use each index on it, and those look cheap where little is open, however many dead entries they hold.
-- Without the state in its predicate commands_due is the only index that a claim can use (it asks for ended_at is null, which
-- the table's check makes the same). An ended command has no next_attempt_at: the index holds what it held before.
-- Locks commands while the index is built (under 2 s a million commands). The previous release uses it as well.

drop index commands_due;
create index commands_due on commands (next_attempt_at, request_id) where next_attempt_at is not null;
