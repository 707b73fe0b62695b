-- Where an account is looked for by a part of its names. ICU's rules fold every letter; those of the
-- locale C, which the embedded server has, only a to z.
create function search_text(username text, email text, name text) returns text
    language sql immutable parallel safe
    return lower(
        coalesce(username, '') || E'\n' || coalesce(email, '') || E'\n' || coalesce(name, '')
        collate "und-x-icu"
    );

-- Every run of so many characters. Unlike those of pg_trgm they may be of one or two characters and of any
-- script in any locale, and nobody has to be allowed the extension.
create function search_parts(text text, shortest integer, longest integer) returns text[]
    language sql immutable strict parallel safe
    return (
        select array_agg(substr(text, start, length))
        from generate_series(shortest, longest) length,
            generate_series(1, char_length(text) - length + 1) start
    );

-- Without fastupdate, nobody waits while what others wrote is merged.
create index users_search_idx on users
    using gin ((search_parts(search_text(username, email, name), 1, 3) collate "C"))
    with (fastupdate = off);

-- Room on each page for what a login writes, which then changes no index.
alter table users set (fillfactor = 90);

-- The few that a list by these would otherwise look for among all.
create index users_admin_idx on users (id) where role = 'admin';
create index users_disabled_idx on users (id) where not is_active;
