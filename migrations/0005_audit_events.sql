-- What happened to accounts. The ids refer to nothing, since events outlive what they tell of.
create table audit_events (
    id uuid constraint audit_events_pkey primary key,
    at timestamptz not null default now(),
    kind text not null,
    outcome text not null,
    user_id uuid,
    actor_id uuid,
    session_id uuid,
    ip inet,
    user_agent text,
    request_id text,
    details jsonb not null default '{}',
    constraint audit_events_outcome_check check (outcome in ('success', 'failure'))
);

create index audit_events_user_id_idx on audit_events (user_id, id);
create index audit_events_actor_id_idx on audit_events (actor_id);
create index audit_events_kind_idx on audit_events (kind, id);
create index audit_events_at_idx on audit_events (at);
