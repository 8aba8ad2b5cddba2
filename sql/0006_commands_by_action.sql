-- Lists of one action's commands: without it a rare action is looked for in all of the history, 470 ms and 37,000
-- pages for a million commands. Locks commands against writes while it is built.

create index commands_of_action on commands (action, created_at desc, request_id desc);
