#!/bin/sh
. /etc/counter.conf
state=/home/app/state/count
echo $(($(cat "$state") + STEP)) > "$state"
echo "$(id -un) counts $(cat "$state"), built by $(cat built-by), home $HOME"
touch /etc/counter.conf 2>/dev/null && echo "and may write /etc" || echo "and may not write /etc"
