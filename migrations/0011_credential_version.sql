alter table users
    -- Moves with every new password. A change that relied on an earlier one sees that it is too late.
    add column credential_version bigint not null default 1,
    -- Until its owner chooses a new password, the account may do nothing else.
    add column must_change_password boolean not null default false;

create function move_credential_version() returns trigger
    language plpgsql as $$
    begin
        new.credential_version := old.credential_version + 1;
        return new;
    end
$$;

-- In the database, so that no statement that sets a password can forget it: a replica of an earlier version, or
-- an operator in psql. Another hash of the same password sets portcullis.rehash for its transaction.
create trigger users_credential_version
    before update of password_hash on users
    for each row
    when (
        old.password_hash is distinct from new.password_hash
        and current_setting('portcullis.rehash', true) is distinct from 'on'
    )
    execute function move_credential_version();

-- Tokens that would work again if their account were enabled or promoted.
delete from api_tokens t using users u
where u.id = t.user_id and (not u.is_active or (u.role <> 'admin' and 'admin' = any(t.scopes)));
