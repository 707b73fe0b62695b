-- Reads `seed`, a temporary table of session numbers and hashed ids that seed.py fills. Settings: :users,
-- :sessions, :events, :hash. Whatever is said of a number n is said in population.py, too.
\set ON_ERROR_STOP on

-- As the service makes them: the time, and then what follows from the number instead of from chance.
create function pg_temp.uuid_v7(at timestamptz, n bigint, kind text) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
        || '7' || substr(md5(kind || n), 1, 3) || 'a' || substr(md5(kind || n), 4, 15))::uuid
$$;

create temporary table given as select array[
    'Alice', 'Bob', 'Carol', 'Dave', 'Erin', 'Frank', 'Grace', 'Heidi', 'Ivan', 'Judy', 'Mallory', 'Niaj',
    'Olivia', 'Peggy', 'Rupert', 'Sybil', 'Trent', 'Victor', 'Walter', 'Zoë', 'Łukasz', 'Søren', 'Jürgen',
    'Martina', 'Martin', 'Maria', 'Mohammed', 'Fatima', 'Wei', 'Yuki', 'Hiroshi', 'Priya', 'Arjun', 'Chidi',
    'Amara', 'Diego', 'Lucía', 'João', 'Inês', 'Chloé', 'Émile', 'Dmitri', 'Olga', 'Жанна', '李娜', '山田'
] as names;
create temporary table family as select array[
    'Adams', 'Baker', 'Clark', 'Davis', 'Evans', 'Foster', 'Garcia', 'Harris', 'Ibrahim', 'Johnson', 'Khan',
    'Lopez', 'Martinez', 'Nguyen', 'Okafor', 'Patel', 'Quinn', 'Rossi', 'Schmidt', 'Tanaka', 'Ueda', 'Varga',
    'Williams', 'Xu', 'Young', 'Zimmermann', 'Müller', 'Núñez', 'Kowalski', 'Jensen', 'Dubois', 'Silva',
    'Petrov', 'Andersson', 'Haddad', 'Mbeki', 'Sato', 'Kim', 'O''Brien', 'van Dijk'
] as names;

create temporary table people as
    select n,
        now() - interval '3 years' * (:users - n + 1) / :users as at,
        g.names[1 + ('x' || substr(md5('given' || n), 1, 6))::bit(24)::int % cardinality(g.names)] as given,
        f.names[1 + ('x' || substr(md5('family' || n), 1, 6))::bit(24)::int % cardinality(f.names)] as family,
        -- The first third registered by the address of a company of which nobody came later.
        case when n <= :users / 3 then 'first' when n % 5 = 0 then 'mail' else 'home' end as domain
    from generate_series(1, :users) n, given g, family f;
-- Names of others than a to z stand in addresses and usernames by their number alone.
alter table people add column id uuid, add column handle text;
update people set id = pg_temp.uuid_v7(at, n, 'user'),
    handle = ltrim(trim('.' from regexp_replace(lower(given || '.' || family), '[^a-z.]', '', 'g')) || '.' || n, '.');
create unique index on people (n);
analyze people;

\echo users
insert into users
        (id, username, email, email_verified, name, password_hash, role, is_active, created_at, updated_at,
         last_login_at)
    select id,
        case when n % 10 <> 0 then handle end,
        case when n % 3 <> 0 or n % 10 = 0 then handle || '@' || domain || '.example.com' end,
        n % 4 <> 0,
        case when n % 20 <> 0 then given || ' ' || family end,
        :'hash',
        case when n in (1, :users / 2, :users) then 'admin' else 'user' end,
        -- One that was disabled in ten thousand.
        n % 10000 <> 7,
        at, at, now() - interval '30 days' * random()
    from people order by n;

\echo session_records
create temporary table logins as
    select s.n, s.record_id, s.digest, p.id as user_id, p.n as user_n,
        s.n % 10 = 0 as is_token,
        s.n % 3 = 0 or s.n % 10 = 0 as remember,
        -- In the order in which they are inserted, as logins are.
        now() - case when s.n % 3 = 0 or s.n % 10 = 0 then interval '29 days' else interval '6 days' end
            * (:sessions - s.n + 1) / :sessions as at,
        interval '8 hours' * ((s.n * 7919) % 10007) / 10007 as unused_for
    from seed s
    -- A step that shares no factor with the number of users visits all of them.
    join people p on p.n = 1 + (s.n * 7368787) % :users;
analyze logins;
insert into session_records (id, data, expiry_date)
    select record_id, '\x93c410'::bytea || digest || '\x8099cd07eacd014d132b12ce1f9d85f2000000'::bytea,
        at + case when remember then interval '31 days' else interval '8 days' end
    from logins order by n;

\echo sessions
insert into sessions
        (id, record_id, user_id, transport, remember, created_at, authenticated_at, last_seen_at, expires_at,
         ends_at, ip, user_agent, device, remember_for, network4)
    select pg_temp.uuid_v7(at, l.n, 'session'), record_id, user_id, case when is_token then 'token' else 'cookie' end,
        remember, at, at, greatest(at, now() - unused_for),
        case when remember then at + interval '30 days'
            else least(at + interval '7 days', now() - unused_for + interval '12 hours') end,
        at + case when remember then interval '30 days' else interval '7 days' end,
        ('203.0.113.' || l.n % 250 + 1)::inet, a.agent, a.device, case when remember then interval '30 days' end,
        '203.0.113.0/24'
    from logins l join agents a on a.n = l.n % (select count(*) from agents)
    order by l.at;

\echo known_devices
insert into known_devices (hash, user_id, created_at, last_used_at)
    select sha256(('device ' || n)::bytea), id, at, now() - interval '30 days' * random()
    from people order by n;

\echo audit_events
insert into audit_events
        (id, at, kind, outcome, user_id, actor_id, session_id, ip, user_agent, request_id, details)
    select pg_temp.uuid_v7(at, l.n, 'event'), at,
        case when l.n % 50 = 0 then 'login_failed' else 'logged_in' end,
        case when l.n % 50 = 0 then 'failure' else 'success' end,
        user_id, case when l.n % 50 <> 0 then user_id end, pg_temp.uuid_v7(at, l.n, 'session'),
        ('203.0.113.' || l.n % 250 + 1)::inet, a.agent, pg_temp.uuid_v7(at, l.n, 'request'),
        '{"remember": false, "transport": "cookie"}'
    from logins l join agents a on a.n = l.n % (select count(*) from agents)
    where l.n > :sessions - :events
    order by l.at;

\echo vacuum analyze
vacuum analyze users, session_records, sessions, known_devices, audit_events;
