-- Usernames that an account gave up. Apps may know people by their username, so nobody else may claim one for a while.
create table former_usernames (
    username text constraint former_usernames_pkey primary key,
    -- the account that may claim it again; null once that is deleted
    user_id uuid,
    reserved_until timestamptz not null,
    constraint former_usernames_user_id_fkey foreign key (user_id)
        references users on delete set null
);

create index former_usernames_user_id_idx on former_usernames (user_id);
create index former_usernames_reserved_until_idx on former_usernames (reserved_until);

create function reserve_former_username() returns trigger
    language plpgsql as $$
    begin
        insert into former_usernames (username, user_id, reserved_until)
        values (
            old.username,
            case tg_op when 'UPDATE' then old.id end,
            now() + interval '30 days'
        )
        on conflict (username) do update
            set user_id = excluded.user_id, reserved_until = excluded.reserved_until;
        return null;
    end
$$;

-- In the database, so that no statement can forget it: a replica of an earlier version, or an operator in psql.
create trigger users_former_username_update
    after update of username on users
    for each row
    when (old.username is not null and old.username is distinct from new.username)
    execute function reserve_former_username();

create trigger users_former_username_delete
    after delete on users
    for each row
    when (old.username is not null)
    execute function reserve_former_username();

-- Deleted accounts whose audit events still hold addresses and user agents. The sweep removes them in batches.
create table anonymizations (
    user_id uuid constraint anonymizations_pkey primary key,
    -- the last event that was done, of those by the account and to it, and of those by it to others
    own_done uuid not null default '00000000-0000-0000-0000-000000000000',
    others_done uuid not null default '00000000-0000-0000-0000-000000000000'
);

-- The events that an account caused to others. They are few, so the index is small.
create index audit_events_others_idx on audit_events (actor_id, id)
    where actor_id is not null and user_id is distinct from actor_id;

create index api_tokens_expires_at_idx on api_tokens (expires_at) where expires_at is not null;
