"""The wall of faults (tests/faults), through a real Envoy: a table of verdicts stands at the end of the run."""

from pathlib import Path
from typing import Iterator

import pytest

import wall
from certificates import Certificates
from harness import Gateway
from provider import Provider, deaf_port, refused_port
from wall_run import Wall
from world import key_of

CASES = {case.id: case for case in wall.cases()}


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wall]:
    """Every case that is to run, side by side: most of their time is waiting."""
    wanted = [item.callspec.params["case"] for item in request.session.items if item.path == Path(__file__) and hasattr(item, "callspec")]
    folder = tmp_path_factory.mktemp("faults")
    certificates = Certificates(folder / "tls")
    everything = list(CASES.values())
    names = wall.served(everything)
    tls = {name: certificates.server(not name.endswith("untrusted"), "h2", "http/1.1") for name in names if name.endswith(("h2", "untrusted"))}
    closed, refused = refused_port()
    silent, deaf = deaf_port()
    with Provider(names, tls=tls, slams=tuple(name for name in names if name.endswith("slam"))) as provider:
        values = wall.values(everything, provider.ports | {"refused": refused, "deaf": deaf}, certificates.authority)
        keys = {one["name"]: key_of(one["name"]) for one in values["gateway"]["providers"]}
        with Gateway(folder / "envoy", values, keys) as gateway:
            started = Wall(gateway, provider, wanted)
            yield started
            started.close()
    for sock in [closed, *silent]:
        sock.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_fault(case: wall.Case, running: Wall, request: pytest.FixtureRequest) -> None:
    found = running.result(case)
    request.config.stash.setdefault(wall.VERDICTS, {})[case] = not found
    assert not found, "\n".join([case.scenario.name, *found])


def test_no_vm_has_died(running: Wall) -> None:
    running.finish()
    running.gateway.check_alive(0)
