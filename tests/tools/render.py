#!/usr/bin/env python3
"""Renders the chart and writes the ConfigMap's entries as files: what Envoy reads, without a cluster.

    render.py DIRECTORY [helm template's own options: -f values.yaml, --set key=value ...]
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faults import faults  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"


class Refused(Exception):
    """Helm would not render; the message is for the user."""


def helm() -> str:
    """$HELM, else the one that `make helm` found or built, else the user's own."""
    linked = ROOT / ".attache/helm"
    found = os.environ.get("HELM") or (str(linked) if linked.exists() else shutil.which("helm"))
    if not found:
        raise Refused("helm: not found; `make helm` builds it, or install Helm 3 or 4 and put it on PATH")
    return found


def render(options: list[str]) -> dict[str, str]:
    """File name to text, for every entry of the rendered ConfigMap."""
    # For an Envoy that no pod holds: one ConfigMap.
    command = [helm(), "template", "attache", str(CHART), "--set", "sidecar.enabled=false", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(plain(done.stderr))
    files: dict[str, str] = {}
    for document in yaml.safe_load_all(done.stdout):
        if document and document["kind"] == "ConfigMap":
            files.update(document["data"])
    return files


def plain(message: str) -> str:
    """Helm's message without the template's call stack: what the user can act upon."""
    _, found, told = message.partition("\nconfig: ")
    if found:
        return "config: " + told.partition("\n\nUse --debug")[0].strip()
    if lines := faults(message):
        return "\n  ".join([f"config: {len(lines)} fault{'s' * (len(lines) != 1)}", *lines])
    return message.strip()


def write(files: dict[str, str], directory: Path) -> None:
    """Writes every file by rename, as Envoy watches for it, and removes a key's file that is no longer rendered."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        target = directory / name
        if target.exists() and target.read_text() == text:
            continue
        draft = directory / f".{name}.new"
        draft.write_text(text)
        draft.replace(target)
    for stale in directory.glob("secret-*.yaml"):
        if stale.name not in files:
            stale.unlink()


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    try:
        write(render(sys.argv[2:]), Path(sys.argv[1]))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
