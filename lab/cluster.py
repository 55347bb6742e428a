"""What a site's cluster does with booth's tickets, at its best: cluster.py SETTINGS

Follows the CIB file; a ticket that is granted there has its writer started, one that is not has it killed, at once. Pacemaker
takes longer for both, and like it, this does not look at `expires`, which is an attribute of booth's own.
"""

import json
import subprocess
import sys
import time

from booth import tickets_in

LOOK_S = 0.01


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return tickets_in(file.read())
    except OSError:
        return None


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    writers = {}
    while True:
        states = read(settings["cib"])
        for ticket, (granted, term) in (states or {}).items():
            if granted and ticket not in writers:
                writers[ticket] = subprocess.Popen(
                    ["nsenter", f"--time={settings['clock']}", "--", sys.executable, "-SEsB", settings["writer"],
                     settings["writes"], ticket, settings["site"], str(term)], stdin=subprocess.DEVNULL)
            elif not granted and ticket in writers:
                writer = writers.pop(ticket)
                writer.kill()
                writer.wait()
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
