#!/bin/sh
. "$LIB/price.sh"
for item in "$@"; do
    echo "item $item costs $(price "$item")"
done
