#!/bin/sh
. "$LIB/price.sh"
printf 'Content-Type: application/json\r\n\r\n{"price":%s}\n' "$(price "${QUERY_STRING:-1}")"
