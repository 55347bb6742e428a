#!/bin/sh
# `writer.py` for those who start a thousand: a line every two seconds, in the same form.
#
# /proc/uptime is the clock of the lab as CLOCK_BOOTTIME, cut to hundredths; no machine under test is suspended.
exec >>"$1"
number=0
while :; do
    number=$((number + 1))
    read -r up _ </proc/uptime
    echo "$2 $3 $4 $number ${up%.*}${up#*.}0000000"
    sleep 2
done
