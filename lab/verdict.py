"""One verdict of several formations, as JSON and as text."""

import json
import statistics


def merge(seed, directory, sizes):
    """One verdict of all formations."""
    parts = []
    for size in sizes:
        path = directory / f"members-{size}" / "verdict.json"
        parts.append(json.loads(path.read_text()) if path.exists()
                     else {"ok": False, "why": ["no verdict"], "members": size})
    kinds = {}
    for part in parts:
        for kind, count in part.get("by_kind", {}).items():
            kinds[kind] = kinds.get(kind, 0) + count
    total = lambda key: sum(part.get(key, 0) for part in parts)
    recovered = sorted(ms for part in parts for ms in part.get("recoveries_ms", []))
    seconds = total("seconds")
    return {
        "ok": all(part["ok"] for part in parts),
        "why": [f"{part.get('members')} members: {why}" for part in parts for why in part["why"]],
        "seed": seed, "directory": str(directory), "faults": total("faults"),
        "by_kind": dict(sorted(kinds.items())), "overlaps": total("overlaps"), "hung": total("hung"),
        "losses": total("losses"),
        "recovery_ms": {
            "min": min(recovered, default=None), "max": max(recovered, default=None), "n": len(recovered),
            "median": round(statistics.median(recovered)) if recovered else None,
            "bound": max((part["recovery_ms"]["bound"] for part in parts if "recovery_ms" in part), default=None)},
        "availability": round(sum(part.get("availability", 0) * part.get("seconds", 0) for part in parts)
                              / seconds, 4) if seconds else None,
        "fence_failures": total("fence_failures"),
        "tenures": total("tenures"), "lines": total("lines"), "seconds": seconds, "parts": parts,
    }


def summary(verdict):
    recovery = verdict["recovery_ms"]
    lines = [f"{verdict['faults']} faults: " + ", ".join(f"{n} {kind}" for kind, n in verdict["by_kind"].items()),
             f"{verdict['overlaps']} overlaps, {verdict['hung']} hung, {verdict['losses']} losses in "
             f"{verdict['tenures']} tenures, {verdict['lines']} lines, {verdict['seconds']:.0f} s",
             f"{verdict['fence_failures']} rounds of fence plans failed",
             f"recovery after healing: {recovery['min']} to {recovery['max']} ms, median {recovery['median']}, "
             f"bound {recovery['bound']}; availability {verdict['availability']}",
             f"kept in {verdict['directory']}"]
    return "\n".join(lines + [f"NOT OK: {why}" for why in verdict["why"]] + (["ok"] if verdict["ok"] else []))
