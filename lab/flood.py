"""Floods a port with connections: flood.py ADDRESS PORT SEED

Holds up to CONNECTIONS_MAX open, some silent, some that send garbage, and lets some go again all the time.
"""

import os
import random
import socket
import sys
import time

CONNECTIONS_MAX = 1200
AT_ONCE = 40


def connect(where):
    line = socket.socket()
    line.setblocking(False)
    try:
        line.connect(where)
    except BlockingIOError:
        pass
    except OSError:
        line.close()
        return None
    return line


def main():
    where = (sys.argv[1], int(sys.argv[2]))
    chance = random.Random(int(sys.argv[3]))
    held = []
    while True:
        for _ in range(AT_ONCE):
            line = connect(where)
            if line:
                held.append(line)
        for line in chance.sample(held, min(len(held), AT_ONCE)):
            try:
                line.send(os.urandom(chance.randint(1, 2000)))
            except OSError:
                pass  # not connected yet, or thrown out
        while len(held) > CONNECTIONS_MAX:
            held.pop(chance.randrange(len(held))).close()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
