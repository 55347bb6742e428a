"""Forges packets: replay.py NODES SEED VICTIM...

Run in the switch's network namespace. Whatever the nodes send to a victim, by its number, is sent to it again up to LATEST_S later
and past all cuts: once as it was, and once with one bit of what it carries turned over. Checksums are made right, so that
nobody but the receiving program can tell. At most FRAMES_MAX wait; what comes beyond is let go.
"""

import heapq
import random
import select
import socket
import struct
import sys
import time

ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
PACKET_OUTGOING = 4
TCP, UDP = 6, 17
FRAMES_MAX = 20_000
FRAME_BYTES_MAX = 1514
EARLIEST_S, LATEST_S = 0.5, 12.0


def port(node):
    line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    line.bind((f"p{node}", 0))
    line.setblocking(False)
    return line


def ones_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Frame:
    """An Ethernet frame with an IPv4 packet in it, or None of it is of use."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.ip = 14
        self.end = self.ip + struct.unpack_from("!H", data, self.ip + 2)[0]
        self.transport = self.ip + 4 * (data[self.ip] & 0x0F)
        self.protocol = data[self.ip + 9]
        header = {UDP: 8, TCP: 4 * (data[self.transport + 12] >> 4) if len(data) > self.transport + 12 else 0}
        self.payload = self.transport + header.get(self.protocol, 0)

    @staticmethod
    def read(data):
        if len(data) < 42 or len(data) > FRAME_BYTES_MAX or struct.unpack_from("!H", data, 12)[0] != ETH_P_IP:
            return None
        frame = Frame(data)
        carries = frame.protocol in (TCP, UDP) and frame.payload < frame.end <= len(data)
        return frame if carries else None

    def addressee(self):
        """Nodes have their number at the end of their address."""
        return self.data[5]

    def bent(self, chance):
        other = Frame(bytes(self.data))
        at = chance.randrange(other.payload, other.end)
        other.data[at] ^= 1 << chance.randrange(8)
        return other

    def sealed(self):
        at = self.transport + (6 if self.protocol == UDP else 16)
        self.data[at:at + 2] = b"\0\0"
        if self.protocol == TCP:  # a checksum of 0 says that there is none, with UDP
            segment = bytes(self.data[self.transport:self.end])
            pseudo = bytes(self.data[self.ip + 12:self.ip + 20]) + struct.pack("!BBH", 0, TCP, len(segment))
            struct.pack_into("!H", self.data, at, 0xFFFF ^ ones_sum(pseudo + segment))
        return bytes(self.data)


def main():
    ports = {node: port(node) for node in range(1, int(sys.argv[1]) + 1)}
    chance = random.Random(int(sys.argv[2]))
    victims = {int(number) for number in sys.argv[3:]}
    print("ready", flush=True)
    waiting, count = [], 0
    while True:
        due = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select(list(ports.values()), [], [], due)
        for line in ready:
            data, (_, _, kind, *_) = line.recvfrom(65_536)
            frame = Frame.read(data) if kind != PACKET_OUTGOING else None
            if frame and frame.addressee() in victims and len(waiting) < FRAMES_MAX:
                for copy in (frame, frame.bent(chance)):
                    count += 1
                    at = time.monotonic() + chance.uniform(EARLIEST_S, LATEST_S)
                    heapq.heappush(waiting, (at, count, frame.addressee(), copy.sealed()))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, node, data = heapq.heappop(waiting)
            try:
                ports[node].send(data)
            except OSError:
                pass  # the queue is full: the frame is lost


if __name__ == "__main__":
    main()
