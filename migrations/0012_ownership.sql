-- A device secret belongs to one account. Earlier releases let further accounts adopt it, also one that
-- somebody had planted in a shared browser: only the first account keeps it. This comes first, since it
-- reads the whole table: the locks below are held for a moment.
delete from known_devices d
using known_devices o
where o.hash = d.hash and (o.created_at, o.user_id) < (d.created_at, d.user_id);

-- Whether the person who chose the password is known to read the mail of the account's address. False
-- after somebody verified the address without a session or a device of the account: the password may be
-- that of a stranger who registered the address. Existing accounts count as proven; the constant default
-- fills them in without a rewrite of the table.
alter table users add column password_proven boolean not null default true;
alter table users alter column password_proven set default false;

-- SHA-256 of the device secret that the registering client was given: the account knows it from its
-- creation.
alter table registrations add column device_hash bytea;

-- SHA-256 of the secret that the client got when it requested a login code: the code works for no
-- other client.
alter table outbox add column request_hash bytea;
alter table one_time_tokens add column request_hash bytea;
