#!/usr/bin/env python3
"""Writes helm/files/public-authorities.pem, the public certificate authorities, from certifi's list; --check compares only."""

import sys
from pathlib import Path

import certifi

FILE = Path(__file__).resolve().parents[2] / "helm/files/public-authorities.pem"
HEAD = "# Mozilla's certificate authorities, as the package certifi has them. `make bless` writes this file.\n"


def wanted() -> str:
    """Without certifi's comments: the chart, with everything in it, must fit into a Secret of Helm's."""
    lines = [line for line in Path(certifi.where()).read_text().splitlines() if line and not line.startswith("#")]
    return HEAD + "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    if words == ["--check"]:
        if FILE.exists() and FILE.read_text() == wanted():
            return 0
        print(f"{FILE.name}: not as certifi says; run `make bless`", file=sys.stderr)
        return 1
    FILE.write_text(wanted())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
