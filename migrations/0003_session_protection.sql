alter table sessions
    -- how long the session was asked to be remembered; null when it is not
    add column remember_for interval,
    -- the client's networks, one per address family, as of when the password was last given
    add column network4 cidr,
    add column network6 cidr,
    -- when a request came from another client than the password; not fresh since then
    add column protected_at timestamptz;
