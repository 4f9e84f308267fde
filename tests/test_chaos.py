"""A short run of `make chaos`, always with the same seed."""

from pathlib import Path

import chaos


def test_a_little_chaos(tmp_path: Path) -> None:
    report = chaos.run(tmp_path, requests=1500, concurrency=32, seed=7)
    print(report.text())
    assert not report.faults(), "\n".join(report.faults()[:50])
