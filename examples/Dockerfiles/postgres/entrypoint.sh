#!/bin/sh
# Make the cluster where there is none, load the schema into it, then become the command.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --no-locale --no-sync >/dev/null
    pg_ctl --silent --wait --options='-c listen_addresses= -F' start >/dev/null
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --quiet --set ON_ERROR_STOP=1 --dbname postgres --file "$file"
    done
    pg_ctl --silent --wait --mode=fast stop
fi
exec "$@"
