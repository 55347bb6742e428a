"""The line to a machine's init: one JSON object each way over a Unix socket."""

import json
import socket

ANSWER_S_MAX = 20


def ask(path, **request):
    """Sends a request; returns the answer, or raises what went wrong there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(ANSWER_S_MAX)
        line.connect(path)
        line.send(json.dumps(request).encode())
        answer = json.loads(line.recv(1 << 16))
    if "error" in answer:
        raise RuntimeError(f"{path}: {request['op']}: {answer['error']}")
    return answer
