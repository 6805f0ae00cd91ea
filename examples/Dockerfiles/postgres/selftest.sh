#!/bin/sh
# Start the server without a port, ask it something, stop it.
set -eu
pg_ctl --silent --wait --options='-c listen_addresses=' --log=/tmp/log start || { cat /tmp/log; exit 1; }
psql --no-align --tuples-only --command "insert into visits (who) values ('$1') returning 'visit ' || id || ' by ' || who" postgres
pg_ctl --silent --wait --mode=fast stop
