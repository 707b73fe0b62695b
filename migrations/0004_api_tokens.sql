create table api_tokens (
    id uuid constraint api_tokens_pkey primary key,
    user_id uuid not null,
    name text not null,
    -- SHA-256 of the secret
    hash bytea not null,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    constraint api_tokens_hash_key unique (hash),
    constraint api_tokens_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint api_tokens_scopes_check check (
        scopes <@ array['read', 'write', 'admin'] and cardinality(scopes) > 0
    )
);

create index api_tokens_user_id_idx on api_tokens (user_id);
