-- Labels that admins give devices, as {"site":"zrh"}: in the devices row, since every list shows them and a selection reads the
-- row anyway. Adds a column with a constant default: devices is locked for an instant, no row is rewritten. The previous
-- release ignores it: its devices have no labels, and what it enrolls again keeps them.

alter table devices add column labels jsonb not null default '{}';
