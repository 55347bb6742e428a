#!/bin/bash
# The hook `start` of a site with a thousand tickets, light: start.sh DIRECTORY FILE SITE CLOCK
#
# `hook.sh` ends what it starts.
mark="$1/$SITEGATE_TICKET.$SITEGATE_TOKEN.pid"
[ -e "$mark" ] && kill -0 "$(<"$mark")" && exit 0
fifo="$1/fifo"
[ -p "$fifo" ] || mkfifo "$fifo" || [ -p "$fifo" ] || exit 1
nsenter --time="$4" -- /bin/bash "${0%/*}/writer.sh" "$2" "$SITEGATE_TICKET" "$3" "$SITEGATE_TOKEN" \
    3<>"$fifo" </dev/null >/dev/null &
echo "$!" >"$mark"
