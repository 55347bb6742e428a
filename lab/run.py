#!/usr/bin/env python3
"""The lab: real daemons in namespaces of this kernel, a seeded nemesis, and a checker that believes only what was written.

    python3 lab/run.py --programs target/release --suite chaos --faults 60 --seed 1 [--members 3,4,5] [--json]

docs/testing.md, "The lab", says what it does. Root; Debian packages iproute2, nftables, e2fsprogs, util-linux. Everything runs
in a process and a mount namespace of its own, so nothing outlives the lab, however it ends: the kernel removes processes,
mounts, loop devices and networks. What is kept is the directory that is printed.
"""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import compare
import fencing
from times import CHAOS, COMPARE, FENCING, MANY, WATCHED
from verdict import merge, summary

HERE = Path(__file__).resolve().parent
GROUND_MIB = 400
END_S_MAX = 20
NEEDED = ("ip", "nft", "tc", "unshare", "nsenter", "losetup", "mkfs.ext4", "e2fsck", "fsfreeze")
# What else the other systems of `compare` and `latency` need, and the Debian packages that have it.
NEEDED_BY = {
    "booth": ("crm_ticket", "cibadmin"),
    "etcd": ("etcd", "etcdctl"),
}
PACKAGES = {"booth": "pacemaker-cli-utils", "etcd": "etcd-server etcd-client"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=HERE.parent / "target/release", type=Path, help="where the daemons are")
    parser.add_argument("--suite", default="chaos", choices=["chaos", "compare", "latency", "fencing"])
    parser.add_argument("--faults", type=int, default=60, help="how many, over all sizes of formations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", default="3,4,5", help="sizes of the formations, all at work at once")
    parser.add_argument("--kinds", help="only these kinds of faults, with commas")
    parser.add_argument("--sut", default="sitegate,booth", help="what `compare` compares")
    parser.add_argument("--runs", type=int, default=4, help="of each scenario of `compare`")
    parser.add_argument("--parallel", type=int, default=4, help="formations at once in `compare`")
    parser.add_argument("--booth", type=Path, help="where boothd and booth are: see lab/get_booth.sh")
    parser.add_argument("--no-key", action="store_true", help="booth without its authfile")
    parser.add_argument("--scenarios", help="only these of `compare` or `fencing`, with commas")
    parser.add_argument("--rounds", type=int, default=8, help="of each scenario of `fencing`: four losses each")
    parser.add_argument("--fencing", help=argparse.SUPPRESS)
    parser.add_argument("--latency", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scenario", help=argparse.SUPPRESS)
    parser.add_argument("--pretend", action="store_true",
                        help="fence plans that do nothing and report success: must be found out")
    parser.add_argument("--directory", type=Path, help="where to keep what happened; a new one in /tmp unless given")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON on standard output")
    parser.add_argument("--judge", type=Path, help="judge an earlier run's directory again, and run nothing")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


# Outside: one child for each size of formation.

def not_found(names):
    return [name for name in names if shutil.which(name) is None]


def outside(options):
    missing = not_found(NEEDED)
    if os.geteuid() != 0 or missing:
        say(f"error: the lab needs root{' and ' + ', '.join(missing) if missing else ''}")
        return 2
    for system in options.sut.split(",") if options.suite in ("compare", "latency") else ():
        if missing := not_found(NEEDED_BY.get(system, ())):
            say(f"error: {system} needs {', '.join(missing)} here: apt-get install {PACKAGES[system]}")
            return 2
    directory = options.directory or Path(tempfile.mkdtemp(prefix="sitegate-lab-", dir="/tmp"))
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    suites = {"compare": compare.run, "latency": compare.latency, "fencing": fencing.run}
    if suite := suites.get(options.suite):
        return suite(options, directory, spawn, wait, say)
    sizes = [int(size) for size in options.members.split(",")]
    shares = [options.faults // len(sizes) + (n < options.faults % len(sizes)) for n in range(len(sizes))]
    say(f"{options.faults} faults, seed {options.seed}, formations of {options.members} members, in {directory}")
    children = [spawn(options, directory / f"members-{size}", size, faults=share) for size, share in zip(sizes, shares)]
    ended = wait(children)
    verdict = merge(options.seed, directory, sizes)
    if ended:
        verdict.update(ok=False, why=[ended] + verdict["why"])
    (directory / "verdict.json").write_text(json.dumps(verdict, indent=1) + "\n")
    print(json.dumps(verdict) if options.json else summary(verdict), flush=True)
    return 0 if verdict["ok"] else 1


def spawn(options, directory, members, **more):
    """A formation of its own; `more` are further options."""
    line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-B", __file__,
            "--inside", str(members), "--programs", str(options.programs.resolve()), "--directory", str(directory)]
    for name, value in {"seed": options.seed, "kinds": options.kinds, "booth": options.booth, "sut": "sitegate", **more}.items():
        line += [f"--{name}", str(value)] if value else []
    line += ["--pretend"] if options.pretend else []
    line += ["--no-key"] if options.no_key else []
    # It ends when its standard input does: when this process ends, in whatever way.
    return subprocess.Popen(line, stdin=subprocess.PIPE, start_new_session=True)


def wait(children):
    """Until all have ended, or this is told to end: then it says so, and ends them."""
    told = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(signal.Signals(number).name))
    while any(child.poll() is None for child in children) and not told:
        time.sleep(0.1)
    for child in children:
        child.stdin.close()
    limit = time.monotonic() + END_S_MAX
    while any(child.poll() is None for child in children) and time.monotonic() < limit:
        time.sleep(0.05)
    for child in children:
        child.kill()
        child.wait()
    return f"ended by {told[0]}" if told else None


def judge_again(directory):
    """The checker's word on what was kept."""
    import checker
    from formation import TICKETS
    from history import read_events, read_writes
    well = True
    for part in sorted(directory.glob("members-*")):
        bound_s = json.loads((part / "verdict.json").read_text())["recovery_ms"]["bound"] / 1000
        verdict = checker.judge(read_writes(part / "writes"), read_events(part / "history.jsonl"), TICKETS, bound_s)
        print(json.dumps(verdict), flush=True)
        well = well and verdict["ok"]
    return 0 if well else 1


# Inside: in namespaces of its own, one formation.

def inside(options):
    from lab import Lab
    from latency import Latency
    from picture import draw
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    ground = Path("/mnt")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={GROUND_MIB}m", "tmpfs", str(ground)], check=True)
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    options.members = options.inside
    options.many, options.watched = options.fencing in fencing.MANY, options.fencing in fencing.WATCHED
    options.times = (MANY if options.many else WATCHED if options.watched else FENCING if options.fencing
                     else COMPARE if options.scenario else CHAOS)
    options.directory.mkdir(parents=True)
    lab = Lab(options, ground, options.directory, lambda text: say(f"[{options.members}] {text}"))
    threading.Thread(target=end_with_input, args=[lab], daemon=True).start()
    if options.latency:
        try:
            figures = Latency(lab, options.latency).run()
            (options.directory / "latency.json").write_text(json.dumps(figures, indent=1) + "\n")
        finally:
            lab.thaw()
        return 0
    try:
        lab.fence() if options.fencing else lab.scenario() if options.scenario else lab.chaos()
    finally:
        lab.thaw()
        verdict = {"members": options.members, **lab.verdict}
        (options.directory / "verdict.json").write_text(json.dumps(verdict, indent=1) + "\n")
        draw(options.directory, verdict)
    return 0 if verdict["ok"] else 1


def end_with_input(lab):
    select.select([sys.stdin], [], [])
    lab.thaw()
    os._exit(1)


def main():
    options = arguments()
    if options.judge:
        sys.exit(judge_again(options.judge))
    sys.exit(inside(options) if options.inside else outside(options))


if __name__ == "__main__":
    main()
