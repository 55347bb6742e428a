"""PID 1 of a machine of the lab: mounts what is the machine's own, then starts daemons and looks after them.

    init.py SETTINGS

It does what systemd does with the shipped units: a daemon that ends is started again after RestartSec, one that has not said
WATCHDOG=1 for WatchdogSec is killed, each has the units' priority. Unlike systemd it leaves down what the lab wants down, and
restarts without end.
"""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

RESTART_S = 0.1
TICK_S = 0.05
# As small as the kernel has them: a log that nobody reads is full at once.
PIPE_BYTES = 4096
READ_BYTES = 1 << 16


class Daemon:
    """One daemon, running or not."""

    def __init__(self, order, notify):
        self.name, self.argv = order["name"], order["argv"]
        self.log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # What it and those before it write, as far as it was not read to its end.
        self.pipes = []
        self.is_log_stuck = False
        self.nice, self.watchdog_s = order["nice"], order.get("watchdog_s")
        self.env = dict(os.environ, NOTIFY_SOCKET=notify, **order.get("env", {}))
        if self.watchdog_s:
            self.env["WATCHDOG_USEC"] = str(int(self.watchdog_s * 1e6))
        self.pid = None
        self.wanted = True
        self.due = 0.0
        self.heard = 0.0
        self.starts = 0

    def start(self):
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.pid = spawn(self.argv, write, self.env, self.nice)
        os.close(write)
        self.pipes.append(read)
        self.heard = time.monotonic()
        self.starts += 1

    def read_log(self, pipe):
        data = os.read(pipe, READ_BYTES)
        if data:
            os.write(self.log, data)
        else:
            os.close(pipe)
            self.pipes.remove(pipe)

    def stick_log(self):
        """From now on nobody reads what it says, and there is no room for another word."""
        self.is_log_stuck = True
        for pipe in self.pipes:
            # Opened anew: the daemon's own end goes on to wait.
            end = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
            for size in (512, 1):
                try:
                    while os.write(end, b"." * (size - 1) + b"\n"):
                        pass
                except BlockingIOError:
                    continue
            os.close(end)

    def look_after(self, now):
        if self.pid is None:
            if self.wanted and now >= self.due:
                self.start()
        elif self.watchdog_s and now > self.heard + self.watchdog_s:
            self.heard = now
            send(self.pid, signal.SIGKILL)


def send(pid, number):
    """Signals a process of ours, which may be ending."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def spawn(argv, out, env, nice=0, go=None):
    """Starts a program; with `go`, a pipe's reading end, only once something can be read there."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if go is not None and not os.read(go, 1):
            os._exit(0)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        nothing = os.open("/dev/null", os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing if out is None else out, 1)
        os.dup2(nothing if out is None else out, 2)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


class Init:
    def __init__(self, settings):
        self.settings = settings
        self.daemons = {}
        # Each life of the machine has sockets of its own; nobody else binds these.
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def mount(self):
        mount = lambda *arguments: subprocess.run(["mount", *arguments], check=True)
        mount("--make-rprivate", "/")
        mount("-t", "proc", "proc", "/proc")
        mount("--bind", self.settings["boot_id"], "/proc/sys/kernel/random/boot_id")
        mount("-o", "loop,errors=remount-ro", self.settings["image"], self.settings["disk"])

    def serve(self):
        for line, name in ((self.notify, "notify"), (self.listener, "control")):
            path = self.settings[name]
            if os.path.exists(path):
                os.unlink(path)
            line.bind(path)
        self.listener.listen(16)
        os.chmod(self.settings["notify"], 0o777)
        while True:
            logs = {pipe: d for d in self.daemons.values() if not d.is_log_stuck for pipe in d.pipes}
            ready, _, _ = select.select([self.listener, self.notify, *logs], [], [], TICK_S)
            for pipe, daemon in logs.items():
                if pipe in ready:
                    daemon.read_log(pipe)
            if self.notify in ready:
                self.hear()
            if self.listener in ready:
                self.answer()
            self.reap()
            now = time.monotonic()
            for daemon in self.daemons.values():
                daemon.look_after(now)

    def hear(self):
        data, extra, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(12))
        pid = int.from_bytes(extra[0][2][:4], sys.byteorder) if extra else None
        for daemon in self.daemons.values():
            if daemon.pid == pid and b"WATCHDOG=1" in data:
                daemon.heard = time.monotonic()

    def reap(self):
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for daemon in self.daemons.values():
                if daemon.pid == pid:
                    daemon.pid, daemon.due = None, time.monotonic() + RESTART_S

    def answer(self):
        line, _ = self.listener.accept()
        with line:
            try:
                request = json.loads(line.recv(1 << 16))
                reply = getattr(self, "op_" + request.pop("op"))(**request) or {}
            except Exception as error:  # whatever it is, the lab has to know
                reply = {"error": repr(error)}
            line.send(json.dumps(reply).encode())

    # What the lab asks for.

    def op_start(self, **order):
        known = self.daemons.get(order["name"])
        if known and known.pid:
            known.wanted = True
            return
        self.daemons[order["name"]] = daemon = Daemon(order, self.settings["notify"])
        daemon.start()

    def op_signal(self, name, number, wanted=True):
        daemon = self.daemons[name]
        daemon.wanted = wanted
        if number and daemon.pid:
            send(daemon.pid, number)

    def op_stick_log(self, name):
        self.daemons[name].stick_log()

    def op_read_log(self, name):
        self.daemons[name].is_log_stuck = False

    def op_spawn(self, argv, mark):
        """A writer, unless its start was called off meanwhile.

        Its pid is known before that is looked at, and it begins afterwards: whoever removes `asked` and then kills what has a
        pid leaves nothing behind that starts later.
        """
        go, let_go = os.pipe()
        try:
            pid = spawn(argv, None, {"PATH": os.environ["PATH"]}, go=go)
            with open(f"{mark}.pid", "w") as file:
                file.write(f"{pid}\n")
            os.unlink(f"{mark}.asked")
            os.write(let_go, b"!")
        finally:
            os.close(go)
            os.close(let_go)

    def op_look(self):
        return {name: {"pid": d.pid, "starts": d.starts} for name, d in self.daemons.items()}


def main():
    with open(sys.argv[1]) as file:
        init = Init(json.load(file))
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    init.mount()
    init.serve()


if __name__ == "__main__":
    main()
