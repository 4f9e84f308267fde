"""A short run of `make proof`, always with the same seed."""

from pathlib import Path

import pytest

from proof import run


@pytest.mark.slow
def test_budgets_are_exact(tmp_path: Path) -> None:
    report = run.run(tmp_path, seed=7, requests=4000)
    print(report.text())
    assert not report.faults(), "\n".join(report.faults()[:50])
