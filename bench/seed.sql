-- Not verified, so that a login by a new client mails nobody.
insert into users (id, email, name, password_hash, email_verified)
  select gen_random_uuid(), 'user' || i || '@example.com', 'User ' || i, :'hash', false
  from generate_series(1, :n) i;
insert into users (id, email, name, password_hash, email_verified)
  select gen_random_uuid(), 'fast' || i || '@example.com', 'Fast ' || i, :'fasthash', false
  from generate_series(1, :nfast) i;
analyze users;
