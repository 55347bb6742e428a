"""A picture of a run as SVG: a lane for each ticket, a colour for each site, faults as bands behind them."""

import json
from collections import defaultdict
from html import escape

import checker
from history import read_events, read_writes

PIXELS_PER_S = 8
LANE, LEFT, TOP, BAND = 26, 90, 30, 11
COLOURS = {"paris": "#3465a4", "lyon": "#e07b39", "rome": "#4e9a06"}
OTHER = "#777777"


def draw(directory, verdict):
    writes, events = read_writes(directory / "writes"), read_events(directory / "history.jsonl")
    if not events:
        return
    start, end = events[0]["at"], events[-1]["at"]
    x = lambda at: round(LEFT + (at - start) * PIXELS_PER_S, 1)
    bands, rows = bands_of(events, end)
    tickets = sorted({write.ticket for write in writes})
    lanes_top = TOP + rows * BAND + 10
    height = lanes_top + len(tickets) * LANE + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{x(end) + 20:.0f}" height="{height}" '
           'font-family="sans-serif" font-size="10">', f"<title>{escape(title(verdict))}</title>",
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="4" y="14">{escape(title(verdict))}</text>']
    for begin, finish, row, text in bands:
        width = max(1.0, round(x(finish) - x(begin), 1))
        out.append(f'<rect x="{x(begin)}" y="{TOP}" width="{width}" height="{height - TOP - 20}" fill="#cc0000" opacity="0.06"/>')
        out.append(f'<rect x="{x(begin)}" y="{TOP + row * BAND}" width="{width}" height="{BAND - 2}" fill="#f2c4c4">'
                   f"<title>{escape(text)}</title></rect>")
        out.append(f'<text x="{x(begin) + 1}" y="{TOP + row * BAND + 8}" font-size="8">{escape(text)}</text>')
    for lane, ticket in enumerate(tickets):
        y = lanes_top + lane * LANE
        out.append(f'<text x="4" y="{y + 14}">{escape(ticket)}</text>')
        out += [block(x, y, *stretch) for stretch in stretches(writes, ticket)]
    for overlap in verdict.get("overlap_details", []):
        out.append(f'<line x1="{x(overlap["at"])}" x2="{x(overlap["at"])}" y1="{TOP}" y2="{height - 20}" '
                   f'stroke="red" stroke-width="2"><title>{escape(json.dumps(overlap))}</title></line>')
    out += axis(x, start, end, height)
    (directory / "picture.svg").write_text("\n".join(out + ["</svg>"]) + "\n")


def title(verdict):
    return (f"{verdict.get('members')} members, {verdict['faults']} faults, {verdict['overlaps']} overlaps, "
            f"{verdict['hung']} hung: {'ok' if verdict['ok'] else 'NOT OK'}")


def bands_of(events, end):
    """[(begin, end, row, text)], and the number of rows that keep them apart."""
    healed = {event["id"]: event["at"] for event in events if event["event"] == "heal"}
    found, free = [], []
    for event in events:
        if event["event"] != "begin":
            continue
        finish = healed.get(event["id"], end)
        what = event.get("member") or " ".join(event.get("group") or event.get("members") or [])
        # A short fault still needs room for its name.
        room = max(finish, event["at"] + 5 * len(event["kind"] + what) / PIXELS_PER_S)
        row = next((n for n, until in enumerate(free) if until <= event["at"]), len(free))
        free[row:row + 1] = [room]
        found.append((event["at"], finish, row, f"{event['kind']} {what}".strip()))
    return found, len(free)


def stretches(writes, ticket):
    """[(site, token, from, to)] without pauses."""
    found = defaultdict(list)
    for write in writes:
        if write.ticket == ticket:
            spans = found[write.site, write.token]
            if spans and write.at - spans[-1][1] <= checker.PAUSE_S:
                spans[-1][1] = write.at
            else:
                spans.append([write.at, write.at])
    return [(site, token, *span) for (site, token), spans in found.items() for span in spans]


def block(x, y, site, token, begin, end):
    return (f'<rect x="{x(begin)}" y="{y}" width="{max(0.5, round(x(end) - x(begin), 1))}" height="{LANE - 8}" '
            f'fill="{COLOURS.get(site, OTHER)}" opacity="0.8"><title>{escape(site)}, token {token}, '
            f"{end - begin:.1f} s</title></rect>")


def axis(x, start, end, height):
    lines = [f'<text x="4" y="{height - 6}">seconds</text>']
    for second in range(0, int(end - start) + 1, 10):
        at = x(start + second)
        lines.append(f'<line x1="{at}" x2="{at}" y1="{height - 20}" y2="{height - 16}" stroke="black"/>'
                     f'<text x="{at}" y="{height - 6}" text-anchor="middle">{second}</text>')
    legend = "".join(f'<tspan fill="{colour}"> {site}</tspan>' for site, colour in COLOURS.items())
    return lines + [f'<text x="{LEFT}" y="26">{legend}</text>']
