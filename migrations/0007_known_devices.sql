-- Which clients have logged in to which accounts. A client may know several accounts.
create table known_devices (
    -- SHA-256 of the secret that the client holds
    hash bytea not null,
    user_id uuid not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    constraint known_devices_pkey primary key (hash, user_id),
    constraint known_devices_user_id_fkey foreign key (user_id) references users on delete cascade
);

create index known_devices_user_id_idx on known_devices (user_id);
create index known_devices_last_used_at_idx on known_devices (last_used_at);
