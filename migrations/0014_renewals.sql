-- The record of a secret that was replaced names the record that took its place, and finds the session until it
-- expires a few seconds later. There is no foreign key: a record that names a deleted one finds no session.
alter table session_records add column renewed_as text;

create index session_records_renewed_as_idx on session_records (renewed_as) where renewed_as is not null;
