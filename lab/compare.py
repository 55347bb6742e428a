"""`--suite compare` and `--suite latency`, over several systems.

`compare`: each scenario against each system, several times, each time in a formation of its own.
"""

import json
import statistics

from history import read_writes
from scenarios import HOLDER, OTHER, SCENARIOS


def run(options, directory, spawn, wait, say):
    """Exit code: 0 if sitegate let no two sites write."""
    systems = options.sut.split(",")
    names = options.scenarios.split(",") if options.scenarios else list(SCENARIOS)
    jobs = [(system, name, number) for number in range(options.runs) for name in names for system in systems]
    for first in range(0, len(jobs), options.parallel):
        batch = jobs[first:first + options.parallel]
        say(f"{first} of {len(jobs)}: " + ", ".join(f"{system} {name}" for system, name, _ in batch))
        ended = wait([spawn(options, directory / f"{system}-{name}-{number}", 3, sut=system, scenario=name,
                            seed=options.seed + number) for system, name, number in batch])
        if ended:
            say(ended)
            return 1
    rows = [row(directory, system, name, options.runs) for name in names for system in systems]
    (directory / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows) if options.json else table(rows), flush=True)
    well = all(not r["two_sites"] and not r["failed"] for r in rows if r["system"] == "sitegate")
    return 0 if well else 1


def latency(options, directory, spawn, wait, say):
    """The systems one after the other, so that they do not wait for each other's processors."""
    systems = options.sut.split(",")
    for system in systems:
        ended = wait([spawn(options, directory / system, 3, sut=system, latency=options.runs)])
        if ended:
            say(ended)
            return 1
    found = {system: json.loads((directory / system / "latency.json").read_text()) for system in systems
             if (directory / system / "latency.json").exists()}
    if options.json:
        print(json.dumps(found), flush=True)
    for system, figures in ({} if options.json else found).items():
        for what, f in figures.items():
            print(f"{system:8s}  {what:62s} {f['n']:4d} {f['min']:9.1f} {f['median']:9.1f} {f['p90']:9.1f} {f['max']:9.1f} ms")
    return 0 if len(found) == len(systems) else 1


def row(directory, system, name, runs):
    """What all runs of one scenario came to."""
    two_sites, failed, longest, losses, moved, silences, ran = 0, [], [], 0, 0, [], 0
    for number in range(runs):
        part = directory / f"{system}-{name}-{number}"
        path = part / "verdict.json"
        verdict = json.loads(path.read_text()) if path.exists() else {"why": ["the lab failed: no verdict"]}
        problems = [why for why in verdict["why"] if why.startswith("the lab failed")]
        if problems:
            failed += problems
            continue
        ran += 1
        overlaps = [o for o in verdict["overlap_details"] if o.get("two_sites")]
        two_sites += bool(overlaps)
        longest += [max(o["seconds"] for o in overlaps)] if overlaps else []
        losses += verdict["losses"]
        writes = read_writes(part / "writes")
        moved += any(write.site == OTHER for write in writes)
        silences.append(longest_silence(writes))
    return {"scenario": name, "system": system, "runs": ran, "failed": failed, "two_sites": two_sites,
            "overlap_s_median": round(statistics.median(longest), 2) if longest else None,
            "overlap_s_max": round(max(longest), 2) if longest else None, "taken_over": moved, "losses": losses,
            "unwritten_s_max": round(max(silences), 1) if silences else None,
            "unwritten_s_median": round(statistics.median(silences), 1) if silences else None}


def longest_silence(writes):
    """The longest time in which a ticket was written by nobody."""
    longest = 0.0
    for ticket in {write.ticket for write in writes}:
        times = sorted(write.at for write in writes if write.ticket == ticket)
        longest = max(longest, max((b - a for a, b in zip(times, times[1:])), default=0.0))
    return longest


def table(rows):
    lines = [f"| what happens to {HOLDER} | system | both sites wrote | for (median, max) | taken over | losses | "
             "nobody wrote (median, max) |",
             "|---|---|---|---|---|---|---|"]
    for r in rows:
        overlap = f"{r['overlap_s_median']} s, {r['overlap_s_max']} s" if r["two_sites"] else "–"
        lines.append(f"| `{r['scenario']}` | {r['system']} | {r['two_sites']} of {r['runs']} | {overlap} | "
                     f"{r['taken_over']} of {r['runs']} | {r['losses']} | {r['unwritten_s_median']} s, {r['unwritten_s_max']} s |"
                     + (f" {len(r['failed'])} failed to run: {r['failed'][0]}" if r["failed"] else ""))
    return "\n".join(lines)
