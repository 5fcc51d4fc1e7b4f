#!/bin/sh
# Runs roles.sql as the owner, with the passwords that Compose has mounted: `NAME_database_password` for each role.
set -eu
secrets=${SECRETS:-/run/secrets}
for role in web worker notifier relay intake cron readonly; do
    variable=PAYMENTS_$(printf %s "$role" | tr '[:lower:]' '[:upper:]')_PASSWORD
    password=$(cat "$secrets/${role}_database_password")
    export "$variable=$password"
done
PGPASSWORD=$(cat "$secrets/owner_database_password")
export PGPASSWORD
exec psql --no-psqlrc --file="${ROLES_FILE:-/roles.sql}" "$@"
