"""Works while this site holds a ticket, as sitegate-fenced says: watch.py SOCKET TICKET"""
import json, os, socket, sys, threading, time

NONE = (0, 0, 0)
tenure = NONE  # the token, and the deadline on two clocks

def listen(lines):
    global tenure
    for said in map(json.loads, lines):
        if "deadline" in said:
            tenure = (said["token"], said["deadline"]["boot_ns"], said["deadline"]["raw_ns"])
        elif said.get("event") == "fencing" or said.get("reply") == "refused":
            tenure = NONE
    os._exit(1)  # the daemon has closed the connection

def token(seconds):
    """The token, if the ticket is held here for so long at least; else 0."""
    held, boot, raw = tenure
    boot, raw = boot - time.clock_gettime_ns(time.CLOCK_BOOTTIME), raw - time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    return held if min(boot, raw) >= seconds * 10**9 else 0

fenced = socket.socket(socket.AF_UNIX)
fenced.connect(sys.argv[1])
fenced.sendall(json.dumps({"op": "watch", "resource": sys.argv[2]}).encode() + b"\n")
threading.Thread(target=listen, args=[fenced.makefile()]).start()
while True:
    if held := token(1):
        print("at work under token", held, flush=True)
    time.sleep(0.1)
