"""A user-space link with delay and jitter, for kernels without netem: relay.py NEAR FAR DELAY_MS JITTER_MS SEED

Run in the switch's network namespace. Makes the taps NEAR and FAR, prints `ready` once both are there, and carries every frame
from each to the other after DELAY_MS and up to JITTER_MS more. With jitter, frames overtake each other. At most FRAMES_MAX are
under way; what comes beyond is dropped, as by any queue.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAMES_MAX = 20_000
FRAME_BYTES_MAX = 65_536


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def deliver(fd, frame):
    try:
        os.write(fd, frame)
    except OSError:
        pass  # the tap is not up yet, or full: the frame is lost


def main():
    near, far = tap(sys.argv[1]), tap(sys.argv[2])
    delay_s, jitter_s = float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000
    chance = random.Random(int(sys.argv[5]))
    print("ready", flush=True)
    other = {near: far, far: near}
    under_way = []
    count = 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([near, far], [], [], wait)
        for fd in ready:
            frame = os.read(fd, FRAME_BYTES_MAX)
            if len(under_way) < FRAMES_MAX:
                count += 1
                due = time.monotonic() + delay_s + chance.uniform(0, jitter_s)
                heapq.heappush(under_way, (due, count, other[fd], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, fd, frame = heapq.heappop(under_way)
            deliver(fd, frame)


if __name__ == "__main__":
    main()
