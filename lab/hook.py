"""The hook `start` of a site: hook.py SETTINGS

SETTINGS is a JSON file of the site. A ticket listed under `delegated` is started by the machine's init, out of reach of what
contains the hooks, as `systemctl start` does; every other one hangs below the hook. Stopping is for `hook.sh`.
"""

import json
import os
import subprocess
import sys
import time

import control

CHANGE_S_MAX = 5.0


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode().split("\0")[:-1]
    except OSError:
        return []


def runs(mark, line):
    """Whether the writer that `mark` names runs, past nsenter."""
    try:
        with open(f"{mark}.pid") as file:
            return command_line(int(file.read())) == line
    except (OSError, ValueError):
        return False


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    ticket, token = os.environ["SITEGATE_TICKET"], os.environ["SITEGATE_TOKEN"]
    # Set by the scenario in which the local cluster is slow.
    if os.path.exists(f"{settings['writers']}/slow"):
        time.sleep(3)
    mark = f"{settings['writers']}/{ticket}.{token}"
    line = [sys.executable, "-SEsB", settings["writer"], settings["writes"], ticket, settings["site"], token]
    if runs(mark, line):
        return
    enter = ["nsenter", f"--time={settings['clock']}", "--", *line]
    if ticket in settings["delegated"]:
        with open(f"{mark}.asked", "w"):
            pass
        control.ask(settings["init"], op="spawn", argv=enter, mark=mark)
    else:
        writer = subprocess.Popen(enter, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        with open(f"{mark}.pid", "w") as file:
            file.write(f"{writer.pid}\n")
    limit = time.monotonic() + CHANGE_S_MAX
    while not runs(mark, line):
        if time.monotonic() > limit:
            sys.exit("the writer does not start")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
