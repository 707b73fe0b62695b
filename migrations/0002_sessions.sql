-- The table of tower-sessions' store, in the shape the store expects. `id` is a hash of the secret
-- that the client holds; `data` is for logins under way, never for who is logged in.
create table session_records (
    id text constraint session_records_pkey primary key,
    data bytea not null,
    expiry_date timestamptz not null
);

create index session_records_expiry_date_idx on session_records (expiry_date);

-- The authority on who is logged in. Lock users, then sessions, then session_records.
create table sessions (
    id uuid constraint sessions_pkey primary key,
    record_id text not null,
    user_id uuid not null,
    transport text not null,
    remember boolean not null,
    created_at timestamptz not null default now(),
    -- when the password was last given
    authenticated_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    -- the end if the session is not used from now on; never after ends_at
    expires_at timestamptz not null,
    -- the end however much it is used
    ends_at timestamptz not null,
    ip inet,
    user_agent text,
    device text,
    constraint sessions_record_id_key unique (record_id),
    constraint sessions_record_id_fkey foreign key (record_id) references session_records on delete cascade,
    constraint sessions_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint sessions_transport_check check (transport in ('cookie', 'token')),
    constraint sessions_expires_at_check check (expires_at <= ends_at)
);

create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);
