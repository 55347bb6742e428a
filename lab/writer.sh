#!/bin/bash
# `writer.py` for those who start a thousand: a line every second, in the same form, and never another process.
#
#   writer.sh FILE TICKET SITE TOKEN 3<>FIFO
#
# Nobody ever writes to FIFO. /proc/uptime is the clock of the lab as CLOCK_BOOTTIME, cut to hundredths; no machine under test is
# suspended.
exec >>"$1"
number=0
while :; do
    number=$((number + 1))
    read -r up _ </proc/uptime
    echo "$2 $3 $4 $number ${up%.*}${up#*.}0000000"
    read -r -t 1 -u 3
done
