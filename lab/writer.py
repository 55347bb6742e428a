"""What a ticket gates: one write(2) to the shared file every EVERY_S, for ever.

    writer.py FILE TICKET SITE TOKEN

A line is `TICKET SITE TOKEN SEQUENCE NANOSECONDS`. All writers and the checker use one clock, CLOCK_MONOTONIC of the lab's own
time namespace: whoever starts this goes there first. The kernel puts O_APPEND writes in an order, so the file is a witness of
its own: what stands after a later token's line was written after it, whatever a clock says.
"""

import os
import sys
import time

EVERY_S = 0.04


def main():
    path, ticket, site, token = sys.argv[1:]
    out = os.open(path, os.O_WRONLY | os.O_APPEND)
    sequence = 0
    while True:
        sequence += 1
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        os.write(out, f"{ticket} {site} {token} {sequence} {now}\n".encode())
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
