create table users (
    id uuid constraint users_pkey primary key,
    username text,
    email text,
    email_verified boolean not null default false,
    name text,
    password_hash text not null,
    role text not null default 'user',
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_login_at timestamptz,
    constraint users_username_key unique (username),
    constraint users_email_key unique (email),
    constraint users_username_or_email_check check (username is not null or email is not null),
    constraint users_role_check check (role in ('user', 'admin'))
);
