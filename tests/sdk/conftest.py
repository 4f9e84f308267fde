"""The official SDKs, unmodified, against the running gateway, with the demo provider of each protocol behind it."""

import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import demo  # noqa: E402
import protocols  # noqa: E402
from sdk_shared import Behind  # noqa: E402


@pytest.fixture(params=protocols.PROTOCOLS, ids=lambda name: f"behind-{name}")
def budgeted(quiet: Any, request: pytest.FixtureRequest) -> Iterator[Behind]:
    """A provider that heeds no limit, behind a gateway with budgets."""
    gateway = quiet.gateway("budgets")
    log = gateway.log_size()
    behind = Behind(request.param, gateway, quiet)
    behind.never_ends()
    yield behind
    assert behind.seen()[0].hung_up.wait(10), "the provider is left"
    gateway.check_alive(log)


@pytest.fixture(params=protocols.PROTOCOLS, ids=lambda name: f"behind-{name}")
def behind(quiet: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    monkeypatch.setattr(demo, "PAUSE", 0)
    for name, rule in demo.RULES.items():
        quiet.provider.rule(name, rule)
    gateway = quiet.gateway("default")
    log = gateway.log_size()
    yield Behind(request.param, gateway, quiet)
    request.node.add_report_section("call", "envoy's log", gateway.tail(log)[-4000:])
    gateway.check_alive(log)
