"""What the documents and the code say of each other's places is true.

- `docs/X.md, "Heading"` in the code names a heading that is there;
- a link from one document to another, or to a heading, leads somewhere;
- a path in `docs/architecture.md` exists;
- what `docs/protocol.md` quotes of golden traces stands in one.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = re.compile(r'docs/([a-z]+\.md),\s+(?://[/!]?\s*)?"([^"]+)"')
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]*)*(?:/|\.rs))`")


def tracked(*patterns: str) -> list[Path]:
    """Files of the tree, those not yet committed included."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def headings(document: Path) -> list[str]:
    return [line.lstrip("#").strip() for line in document.read_text().splitlines() if line.startswith("#")]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def references() -> list[str]:
    wrong = []
    for source in tracked("*.rs"):
        for name, heading in REFERENCE.findall(source.read_text()):
            document = ROOT / "docs" / name
            if not document.is_file() or heading not in headings(document):
                wrong.append(f'{source.relative_to(ROOT)}: docs/{name} has no "{heading}"')
    return wrong


def links() -> list[str]:
    wrong = []
    for document in tracked("*.md"):
        for link in LINK.findall(document.read_text()):
            if "://" in link:
                continue
            path, _, part = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            leads = target.exists()
            if leads and part and target.suffix == ".md":
                leads = part in map(anchor, headings(target))
            if not leads:
                wrong.append(f"{document.relative_to(ROOT)}: {link} leads nowhere")
    return wrong


def paths() -> list[str]:
    """Those below a heading that names a directory may be relative to it, and then need no slash."""
    wrong = []
    base = None
    for line in (ROOT / "docs/architecture.md").read_text().splitlines():
        if line.startswith("#"):
            base = next((ROOT / name for name in re.findall(r"`([^`]+)`", line) if (ROOT / name).is_dir()), None)
        for path in PATH.findall(line):
            found = any((directory / path).exists() for directory in (ROOT, base) if directory)
            if not found and ("/" in path or base):
                wrong.append(f"docs/architecture.md: there is no {path}")
    return wrong


def quotes() -> list[str]:
    """What docs/protocol.md quotes of golden traces, without their times."""
    told = "".join(trace.read_text() for trace in (ROOT / "crates/simulator/tests/trace").glob("*.txt"))
    quoted = re.findall(r"^(?:paris|lyon|tiebreak) .*", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE)
    return [f"docs/protocol.md: no trace has: {line}" for line in quoted if f" ms  {line}\n" not in told]


def main() -> int:
    wrong = references() + links() + paths() + quotes()
    for text in sorted(set(wrong)):
        print(text, file=sys.stderr)
    if not wrong:
        print("documents: every reference, link, path and quote is right")
    return 1 if wrong else 0


sys.exit(main())
