# The postgres image of docker-compose.yml runs this once, when its volume is new. The service gets a role that owns
# its database and nothing else. Nobody needs a password: PostgreSQL is reached by its socket alone, whose folder
# only the service shares.
psql --username "$POSTGRES_USER" --dbname postgres -v ON_ERROR_STOP=1 <<'SQL'
create role portcullis login;
create database portcullis owner portcullis;
SQL

# The superuser must be the system user postgres: docker compose exec -u postgres postgres psql
cat > "$PGDATA/pg_hba.conf" <<'CONF'
local portcullis portcullis trust
local all postgres peer
CONF
