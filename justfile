# The service on http://localhost:8080, with its own PostgreSQL.
run:
    cargo run

# Every test.
test:
    cargo test

# What must pass before a change lands.
ci:
    bash .ci/run

# Writes openapi/openapi.json anew after a change to a handler.
openapi:
    cargo run --quiet -- openapi > openapi/openapi.json

# Writes .sqlx anew after a change to a query or a migration.
queries:
    .ci/queries --write
