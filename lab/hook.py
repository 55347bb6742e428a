"""The hooks of a site: `start`, `stop` and the fence level `kill`.

    hook.py start|stop|kill SETTINGS

SETTINGS is a JSON file of the site. A ticket listed under `delegated` is started by the machine's init, out of reach of what
contains the hooks, as `systemctl start` does; every other one hangs below the hook.
"""

import json
import os
import signal
import subprocess
import sys
import time

import control

# As long as a level may take, less what Python needs to come up on a busy machine.
CHANGE_S_MAX = 0.7


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode().split("\0")[:-1]
    except OSError:
        return []


def writers(settings, ticket):
    """{pid: token} of the ticket's writers on this machine."""
    found = {}
    for name in os.listdir("/proc"):
        line = command_line(name) if name.isdigit() else []
        if settings["writer"] in line and line[-3:-2] == [ticket]:
            found[int(name)] = line[-1]
    return found


def start(settings, ticket, token):
    if token in writers(settings, ticket).values():
        return True
    line = ["nsenter", f"--time={settings['clock']}", "--", sys.executable, "-SEsB",
            settings["writer"], settings["writes"], ticket, settings["site"], token]
    if ticket in settings["delegated"]:
        control.ask(settings["init"], op="spawn", argv=line)
    else:
        subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    return until(lambda: token in writers(settings, ticket).values())


def end(settings, ticket, how):
    for pid in writers(settings, ticket):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            pass
    return until(lambda: not writers(settings, ticket))


def until(holds):
    limit = time.monotonic() + CHANGE_S_MAX
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def main():
    verb = sys.argv[1]
    with open(sys.argv[2]) as file:
        settings = json.load(file)
    ticket, token = os.environ["SITEGATE_TICKET"], os.environ["SITEGATE_TOKEN"]
    if verb == "start":
        done = start(settings, ticket, token)
    else:
        done = end(settings, ticket, signal.SIGTERM if verb == "stop" else signal.SIGKILL)
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
