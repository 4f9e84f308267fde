"""The papers say what is so: README's configuration is accepted, the files that ARCHITECTURE names are there, and what is generated is up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import render  # noqa: E402
import wall  # noqa: E402


def blocks(paper: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / paper).read_text(), re.S | re.M)


def test_readmes_configuration_is_accepted(tmp_path):
    block, *others = blocks("README.md", "yaml")
    values = tmp_path / "values.yaml"
    # What comes after it is added to it.
    gateway = {name: member for text in (block, *others) for name, member in yaml.safe_load(text)["gateway"].items()}
    values.write_text(yaml.safe_dump({"gateway": gateway}))
    files = render.render(["-f", str(values)])
    rendered = yaml.safe_load(files["gateway.yaml"])
    assert "gateway" in str(rendered)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 15, f"README promises a 15-line configuration, it has {len(lines)}"


@pytest.mark.parametrize("paper", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_every_path_that_a_paper_names_exists(paper):
    text = (ROOT / paper).read_text()
    top = r"(?:filter|helm|envoy|tests)/|[A-Z]+\.md|Makefile|Cargo\.toml"
    paths = set(re.findall(rf"`((?:{top})[\w./-]*)`", text))
    assert paths, f"{paper} names no paths"
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing, f"{paper} names what is not there: {missing}"


def test_every_source_file_has_its_line_in_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    # A codec's folder is told with its file.
    files = [p for crate in ("protocol", "gateway", "plugin") for p in sorted((ROOT / "filter" / crate / "src").glob("*.rs"))]
    untold = [str(p.relative_to(ROOT)) for p in files if p.name != "lib.rs" and f"`{p.relative_to(ROOT)}`" not in text]
    assert not untold, f"ARCHITECTURE.md's code map lacks {untold}"


def test_every_make_target_that_a_paper_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for paper in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        for target in set(re.findall(r"`make ([a-z-]+)", (ROOT / paper).read_text())):
            assert re.search(rf"^{target}:", makefile, re.M), f"{paper} names `make {target}`"


def test_what_is_generated_is_as_the_code_says():
    command = ["cargo", "run", "--quiet", "-p", "attache-gateway", "--features", "schema", "--bin", "generate", "--", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_readmes_table_of_faults_is_that_of_the_wall():
    begin, end = wall.MARKS
    assert begin + wall.table() + end in (ROOT / "README.md").read_text(), "`make bless` writes it"
