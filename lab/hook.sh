#!/bin/sh
# The hook `stop` and the fence level `kill`: hook.sh stop|kill DIRECTORY
#
# In shell, and light: a level that a busy machine keeps from ending within its limit has failed, and what the other site then
# does is no fault of its own. DIRECTORY has a file for each writer: TICKET.TOKEN.pid, and TICKET.TOKEN.asked while a start is queued.
[ "$1" = stop ] && signal=TERM || signal=KILL
cd "$2" || exit 1
# Set by the scenario in which the local cluster is slow.
[ "$1" = stop ] && [ -e slow ] && sleep 3
# What is queued first, so that nothing starts behind our back (init.py looks again after it has made the pid known).
rm -f "$SITEGATE_TICKET".*.asked
for file in "$SITEGATE_TICKET".*.pid; do
    [ -e "$file" ] || continue
    read -r pid <"$file"
    kill -s "$signal" "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -le 40 ] || exit 1
        sleep 0.02
    done
    rm -f "$file"
done
