#!/usr/bin/env python3
"""Import circles and long files in the product's code: python3 .ci/check_modules.py

A circle is a set of files of one package that import each other, straight or round about. A file imports another if it names
something in it by `crate::`, `super::`, `self::` or the name of a child module. `mod x;` alone imports nothing, nor do tests.
A file is long above LINES_MAX lines, without its tests. What there is of both stands in .ci/modules.txt; that list may only get shorter.
"""

import re
import sys
from pathlib import Path

LINES_MAX = 350
ROOT = Path(__file__).resolve().parent.parent
KNOWN = Path(__file__).resolve().parent / "modules.txt"
PATH = re.compile(r"\b((?:crate|self|super|[a-z_][a-z0-9_]*)(?:::[A-Za-z_][A-Za-z0-9_]*)+)")
USE = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)


def product(text):
    """The code without its tests and comments."""
    text = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.M)[0]
    return re.sub(r"//[^\n]*", "", text)


def expand(tree):
    """The paths in `a::{b, c::{d, e}}`."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        return [re.sub(r"\s+as\s+\w+$", "", tree)]
    head, depth, start, parts = tree[:brace], 0, brace + 1, []
    for at in range(brace, len(tree)):
        depth += {"{": 1, "}": -1}.get(tree[at], 0)
        if (tree[at] == "," and depth == 1) or (tree[at] == "}" and depth == 0):
            parts.append(tree[start:at])
            start = at + 1
    return [head + path for part in parts if part.strip() for path in expand(part)]


def module_of(src, file):
    """The path of a file's module in its package."""
    parts = list(file.relative_to(src).with_suffix("").parts)
    if parts[-1] in ("lib", "main", "mod"):
        parts.pop()
    return tuple(parts)


def resolve(modules, here, path):
    """The module that a path leads into, if it is one of these."""
    words = path.split("::")
    if words[0] == "crate":
        at, words = (), words[1:]
    elif words[0] in ("self", "super"):
        at, words = here, words[1:] if words[0] == "self" else words
        while words[:1] == ["super"]:
            at, words = at[:-1], words[1:]
    elif here + (words[0],) in modules:
        at = here
    else:
        return None
    for word in words:
        if at + (word,) not in modules:
            break
        at += (word,)
    return at


def imports(src):
    """For each file of a package the files that it imports from."""
    files = [f for f in sorted(src.rglob("*.rs")) if "tests" not in f.parts and f.name not in ("tests.rs", "fixture.rs")]
    files = [f for f in files if f.parent.name != "bin"]
    modules = {module_of(src, file): file for file in files}
    graph = {}
    for module, file in modules.items():
        text = product(file.read_text())
        paths = [path for tree in USE.findall(text) for path in expand(tree)]
        paths += PATH.findall(USE.sub("", text))
        found = {resolve(modules, module, path) for path in paths}
        graph[file] = {modules[m] for m in found if m in modules and m != module}
    return graph


def circles(graph):
    """The strongly connected sets of more than one file (Tarjan 1972, without recursion)."""
    index, low, stack, found = {}, {}, [], []
    for root in graph:
        work = [(root, iter(graph[root]))] if root not in index else []
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
        while work:
            node, rest = work[-1]
            step = next((n for n in rest), None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    ring = set()
                    while not ring or last != node:
                        last = stack.pop()
                        ring.add(last)
                    if len(ring) > 1:
                        found.append(ring)
            elif step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                work.append((step, iter(graph.get(step, ()))))
            elif step in stack:
                low[node] = min(low[node], index[step])
    return found


def main():
    sources = [ROOT / "src", ROOT / "arbitrator/src", ROOT / "xtask/src", *sorted(ROOT.glob("crates/*/src"))]
    seen = set()
    for src in sources:
        graph = imports(src)
        for ring in circles(graph):
            # Named by its first file and its size: one that grows is another one.
            first = min(str(file.relative_to(ROOT)) for file in ring)
            seen.add(f"circle of {len(ring)}: {first}")
        for file in graph:
            lines = len(re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", file.read_text(), maxsplit=1, flags=re.M)[0].splitlines())
            if lines > LINES_MAX:
                seen.add(f"more than {LINES_MAX} lines: {file.relative_to(ROOT)}")
    if "--write" in sys.argv:
        KNOWN.write_text("".join(f"{line}\n" for line in sorted(seen)))
    known = set(KNOWN.read_text().splitlines()) if KNOWN.exists() else set()
    for line in sorted(seen - known):
        print(f"new: {line}")
    for line in sorted(known - seen):
        print(f"gone, take it out of {KNOWN.relative_to(ROOT)}: {line}")
    counts = {kind: sum(line.startswith(kind) for line in seen) for kind in ("circle", "more")}
    print(f"modules: {counts['circle']} import circles, {counts['more']} long files, all known: {seen == known}")
    sys.exit(seen != known)


if __name__ == "__main__":
    main()
