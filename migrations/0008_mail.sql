-- The address that an account is to have as soon as it is verified; several may want the same.
alter table users add column pending_email text;

-- Accounts that are to be made as soon as their address is verified, where registration does not tell
-- which addresses are taken.
create table registrations (
    id uuid constraint registrations_pkey primary key,
    email text not null,
    username text,
    name text,
    password_hash text not null,
    created_at timestamptz not null default now()
);

create index registrations_created_at_idx on registrations (created_at);

-- Mails that are to be sent, written in the transaction of what they tell and deleted when sent. No row
-- holds a secret: that is made when the mail is.
create table outbox (
    -- of two mails to one person, the later one has the higher id
    id bigint generated always as identity constraint outbox_pkey primary key,
    kind text not null,
    -- whether somebody waits for it
    is_urgent boolean not null
        generated always as (kind in ('verify_email', 'reset_password', 'log_in')) stored,
    email text not null,
    -- whose account it is about; null where that is for the mailer to find out
    user_id uuid,
    registration_id uuid,
    details jsonb not null default '{}',
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    -- when it is to be tried next
    due_at timestamptz not null default now(),
    constraint outbox_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint outbox_registration_id_fkey foreign key (registration_id)
        references registrations on delete cascade
);

create index outbox_due_at_idx on outbox (is_urgent desc, due_at);
create index outbox_created_at_idx on outbox (created_at);
create index outbox_email_idx on outbox (email);
create index outbox_user_id_idx on outbox (user_id);
create index outbox_registration_id_idx on outbox (registration_id);

-- What was mailed to prove that an address is somebody's own.
create table one_time_tokens (
    -- SHA-256 of the token
    hash bytea constraint one_time_tokens_pkey primary key,
    -- a slow hash of the code that may be typed instead
    code_hash bytea not null,
    purpose text not null,
    -- where it was sent
    email text not null,
    user_id uuid,
    registration_id uuid,
    -- the mail that holds it; each try at sending that has one of its own
    mail_id bigint not null,
    expires_at timestamptz not null,
    constraint one_time_tokens_user_id_fkey foreign key (user_id) references users on delete cascade,
    constraint one_time_tokens_registration_id_fkey foreign key (registration_id)
        references registrations on delete cascade,
    constraint one_time_tokens_owner_check check (num_nonnulls(user_id, registration_id) = 1),
    constraint one_time_tokens_purpose_check check (
        purpose in ('verify_email', 'reset_password', 'log_in')
    )
);

create index one_time_tokens_user_id_idx on one_time_tokens (user_id);
create index one_time_tokens_registration_id_idx on one_time_tokens (registration_id);
create index one_time_tokens_email_idx on one_time_tokens (email);
create index one_time_tokens_expires_at_idx on one_time_tokens (expires_at);
