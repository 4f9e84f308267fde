"""What every end-to-end test shares: one world for the session, and an empty one for each test."""

import sys
from pathlib import Path
from typing import Iterator

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import wall  # noqa: E402
from provider import Provider, refused_port  # noqa: E402
from world import CONFIGS, PORT, REFUSED, World  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = sorted({name for text in CONFIGS.values() for name in PORT.findall(text)} - {REFUSED})
    sock, refused = refused_port()
    with Provider(names) as provider:
        world = World(tmp_path_factory.mktemp("envoy"), provider, refused)
        yield world
        world.close()
    sock.close()


@pytest.fixture
def quiet(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """The world with no script and no request in it; when the test fails, what the providers saw is told."""
    world.provider.reset()
    yield world
    seen = world.provider.requests()
    lines = [f"{one.provider}: {one.method} {one.path} {dict(one.headers)}\n{one.body[:2000]!r}" for one in seen]
    request.node.add_report_section("call", "requests that reached providers", "\n".join(lines))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The wall of faults ends with its table."""
    if verdicts := config.stash.get(wall.VERDICTS, None):
        terminalreporter.section("the wall of faults")
        terminalreporter.write_line(wall.verdicts(verdicts))
