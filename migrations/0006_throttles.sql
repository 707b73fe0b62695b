-- How much of each limit is used up; shared by all replicas. Not logged: after a crash of PostgreSQL
-- it is empty, and every limit is whole again.
create unlogged table throttles (
    -- SHA-256 of what is limited, since people type passwords where a name is asked for
    key bytea constraint throttles_pkey primary key,
    -- when the limit will be whole again
    full_at timestamptz not null
);

create index throttles_full_at_idx on throttles (full_at);
