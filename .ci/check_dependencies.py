"""Every direct dependency of every crate is used and has its line in docs/dependencies.md; no line is left over."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("dependencies", "dev-dependencies", "build-dependencies")
PATH = re.compile(r'#\[path = "([^"]+)"\]')
LINE = re.compile(r"^- `([\w-]+)`: \S")


def declared() -> dict[Path, tuple[str, set[str]]]:
    """Each package's directory, name, and dependencies that are not of this workspace."""
    directories = [ROOT, *sorted(ROOT.glob("crates/*/")), ROOT / "arbitrator", ROOT / "fuzz", ROOT / "xtask"]
    packages = {}
    for directory in directories:
        parsed = tomllib.loads((directory / "Cargo.toml").read_text())
        names = {name for table in TABLES for name in parsed.get(table, {})}
        own = {name for name in names if not name.startswith("sitegate-")}
        packages[directory] = (parsed["package"]["name"], own)
    return packages


def unused(directory: Path, names: set[str]) -> set[str]:
    """Those that no source file of the package names."""
    sources = [source for part in ("src", "tests", "fuzz_targets") for source in (directory / part).rglob("*.rs")]
    # Modules that lie elsewhere count where they are compiled.
    sources += [source.parent / path for source in sources for path in PATH.findall(source.read_text())]
    text = "\n".join(source.read_text() for source in sources)
    return {name for name in names if not re.search(rf"\b{name.replace('-', '_')}(::|!|;| as\b)", text)}


def listed() -> dict[str, set[str]]:
    """What the document lists below each package's heading."""
    packages: dict[str, set[str]] = {}
    package = None
    for line in (ROOT / "docs/dependencies.md").read_text().splitlines():
        if line.startswith("## "):
            package = line.removeprefix("## ").strip("` ")
            packages[package] = set()
        elif package and (match := LINE.match(line)):
            packages[package].add(match[1])
    return packages


def main() -> int:
    wrong = []
    packages, lines = declared(), listed()
    for directory, (package, names) in packages.items():
        wrong += [f"{package} declares {name} and uses it nowhere" for name in unused(directory, names)]
        wrong += [f"{package} depends on {name}, which is not listed" for name in names - lines.get(package, set())]
        wrong += [f"{package} does not depend on {name}, which is listed" for name in lines.get(package, set()) - names]
    shared = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    anywhere = set().union(*(names for _, names in packages.values()))
    wrong += [f"no crate uses {name} of [workspace.dependencies]"
              for name in shared if name not in anywhere and not name.startswith("sitegate-")]
    for text in sorted(wrong):
        print(f"docs/dependencies.md: {text}", file=sys.stderr)
    if not wrong:
        print(f"docs/dependencies.md: {len(anywhere)} dependencies of {len(packages)} packages")
    return 1 if wrong else 0


sys.exit(main())
