#!/bin/sh
# A fence level of the suite `fencing`: level.sh NUMBER DIRECTORY
#
# A file `fail-NUMBER` in DIRECTORY has it fail at once, `hang-NUMBER` until it is killed; else it kills as `hook.sh` does.
[ -e "$2/hang-$1" ] && exec sleep 1000
[ -e "$2/fail-$1" ] && exit 1
exec /bin/sh "$(dirname "$0")/hook.sh" kill "$2"
