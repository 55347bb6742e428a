"""Judges a run from outside: from the shared file, the process table and the log of faults, never from what a daemon says.

Shares no code with the daemons. `judge` is a function of what was recorded, so a run can be judged again
(`python3 lab/run.py --judge DIRECTORY`), and tests can hand it lies.
"""

import statistics
from collections import defaultdict, namedtuple

# A pause in a ticket's writes that counts as nobody having written: seven of the writer's periods.
PAUSE_S = 0.3
# Recovered is what has been written so long without a pause.
STEADY_S = 1.0
SHOWN_MAX = 50

Tenure = namedtuple("Tenure", "ticket site token first last first_line last_line lines")


def tenures_of(writes):
    """{ticket: [Tenure]}, in the order in which they began to write."""
    found = {}
    for line, write in enumerate(writes):
        key = (write.ticket, write.site, write.token)
        if key in found:
            found[key].append((line, write.at))
        else:
            found[key] = [(line, write.at)]
    result = defaultdict(list)
    for (ticket, site, token), lines in found.items():
        times = [at for _, at in lines]
        result[ticket].append(
            Tenure(ticket, site, token, min(times), max(times), lines[0][0], lines[-1][0], len(lines)))
    return result


def overlaps_of(tenures):
    """Pairs of tenures of which the older one wrote after the newer one had begun: by time, or by their places in the file.

    The older one is the one that began first. It is no excuse that it is the same site: a tenure ends before the next begins.
    """
    found = []
    for older_index, older in enumerate(tenures):
        for newer in tenures[older_index + 1:]:
            gap = newer.first - older.last
            if gap < 0 or older.last_line > newer.first_line:
                found.append({"ticket": older.ticket, "older": [older.site, older.token],
                              "newer": [newer.site, newer.token], "at": round(newer.first, 4),
                              "seconds": round(max(0.0, -gap), 4), "two_sites": older.site != newer.site})
    return found


def gaps_of(tenures):
    return [newer.first - older.last for older, newer in zip(tenures, tenures[1:])]


def wrong_tokens(tenures):
    return [{"ticket": newer.ticket, "after": older.token, "came": newer.token, "site": newer.site}
            for older, newer in zip(tenures, tenures[1:]) if newer.token <= older.token]


def doubles_in(samples):
    """Two sites' writers of one ticket in the process table, in two looks in a row: one look alone is not an instant."""
    found, before = [], set()
    for sample in samples:
        sites = defaultdict(set)
        for ticket, site, _ in sample["writers"]:
            sites[ticket].add(site)
        now = {(ticket, *sorted(there)) for ticket, there in sites.items() if len(there) > 1}
        found += [{"at": sample["at"], "ticket": ticket, "sites": there} for ticket, *there in sorted(now & before)]
        before = now
    return found


def stretches_of(writes, ticket):
    """[(from, to)] in which the ticket was written without a pause."""
    found = []
    for at in sorted(write.at for write in writes if write.ticket == ticket):
        if found and at - found[-1][1] <= PAUSE_S:
            found[-1][1] = at
        else:
            found.append([at, at])
    return found


def recovery(stretches, healed, until):
    """Seconds from `healed` to the first steady stretch, 0 if it went on, None if there was none before `until`."""
    for begin, end in stretches:
        begin_seen = max(begin, healed)
        if min(end, until) - begin_seen >= STEADY_S - PAUSE_S:
            return 0.0 if begin <= healed else begin - healed
    return None


def covered(stretches, begin, end):
    return sum(max(0.0, min(to, end) - max(since, begin)) for since, to in stretches)


def judge(writes, events, tickets, bound_s):
    """The verdict on a run, as a dictionary that JSON can hold."""
    tenures = tenures_of(writes)
    faults = [event for event in events if event["event"] == "begin"]
    by_kind = defaultdict(int)
    for fault in faults:
        by_kind[fault["kind"]] += 1
    overlaps = [overlap for ticket in tickets for overlap in overlaps_of(tenures[ticket])]
    doubles = doubles_in([event for event in events if event["event"] == "processes"])
    tokens = [wrong for ticket in tickets for wrong in wrong_tokens(tenures[ticket])]
    gaps = [gap for ticket in tickets for gap in gaps_of(tenures[ticket])]
    recoveries, hung = recoveries_of(writes, events, tickets, bound_s)
    hung += [event["what"] for event in events if event["event"] == "hung"]
    begin, end = window(events, writes)
    shares = {t: covered(stretches_of(writes, t), begin, end) / max(end - begin, 1e-9) for t in tickets}
    changes = [change for ticket in tickets for change in zip(tenures[ticket], tenures[ticket][1:])]
    moves = [event for event in events if event["event"] == "moved"]
    asked = sum(was_asked_for(newer, moves) for _, newer in changes)
    why = ([f"{len(overlaps)} overlaps in the shared file"] if overlaps else []) \
        + ([f"{len(doubles)} looks at the process table found writers of two sites"] if doubles else []) \
        + ([f"{len(tokens)} tokens did not grow"] if tokens else []) + hung \
        + [f"the lab failed: {event['what']}" for event in events if event["event"] == "failed"] \
        + ([] if faults or not any(e["event"] == "plan" and e["faults"] for e in events) else ["no fault was begun"]) \
        + [f"{ticket} was never written" for ticket in tickets if not tenures[ticket]]
    disturbed = sorted(round(r * 1000) for r in recoveries if r > 0)
    return {
        "ok": not why, "why": why[:SHOWN_MAX], "faults": len(faults), "by_kind": dict(sorted(by_kind.items())),
        "overlaps": len(overlaps) + len(doubles), "overlap_details": (overlaps + doubles)[:SHOWN_MAX],
        "overlap_seconds_max": max((o["seconds"] for o in overlaps), default=0.0),
        "hung": len(hung), "losses": len(changes) - asked, "tenures": sum(map(len, tenures.values())), "moves": asked,
        "lines": len(writes), "gap_ms_min": round(min(gaps) * 1000) if gaps else None,
        "recovery_ms": {
            "min": disturbed[0] if disturbed else None,
            "median": round(statistics.median(disturbed)) if disturbed else None,
            "max": disturbed[-1] if disturbed else None, "bound": round(bound_s * 1000),
            "n": len(disturbed), "undisturbed": len(recoveries) - len(disturbed)},
        "recoveries_ms": disturbed,
        "availability": round(statistics.mean(shares.values()), 4) if shares else None,
        "seconds": round(end - begin, 1),
    }


def was_asked_for(tenure, moves):
    """It began while somebody moved its ticket there."""
    return any(move["ticket"] == tenure.ticket and move["to"] == tenure.site
               and move["began"] <= tenure.first <= move["at"] + STEADY_S for move in moves)


def recoveries_of(writes, events, tickets, bound_s):
    """After each round of faults, for each ticket: how long until it was written steadily again, and what never was."""
    recoveries, hung = [], []
    healed = [event for event in events if event["event"] == "healed"]
    stretches = {ticket: stretches_of(writes, ticket) for ticket in tickets}
    for event in healed:
        for ticket in tickets:
            took = recovery(stretches[ticket], event["at"], event["at"] + bound_s + STEADY_S)
            if took is None or took > bound_s:
                hung.append(f"{ticket} was not written steadily within {bound_s:.1f} s after {event['at']:.1f} s")
            else:
                recoveries.append(took)
    return recoveries, hung


def window(events, writes):
    """From the moment at which everything ran to the one at which everything was revoked."""
    marks = {event["event"]: event["at"] for event in events if event["event"] in ("running", "revoking")}
    first, last = (writes[0].at, writes[-1].at) if writes else (0.0, 0.0)
    return marks.get("running", first), marks.get("revoking", last)
