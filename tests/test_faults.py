"""The wall of faults (tests/faults), through a real Envoy: a table of verdicts stands at the end of the run."""

from typing import Iterator

import httpx
import pytest

import cases
import protocols
import wall
from certificates import Certificates
from harness import PATIENCE, Gateway
from provider import Provider, deaf_port, refused_port
from wall_run import Wall
from world import World, key_of

CASES = {case.id: case for case in wall.cases()}


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Wall]:
    """Every case that is to run, side by side: most of their time is waiting."""
    # Its key files want nearly half of the inotify instances that a user has.
    world.close()
    wanted = [item.callspec.params["case"] for item in request.session.items if getattr(item, "originalname", "") == test_fault.__name__]
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


@pytest.mark.parametrize("ending", [{"reset": True}, {"close": True}, None], ids=["reset", "closed", "ended"])
@pytest.mark.parametrize("provider", protocols.PROTOCOLS)
@pytest.mark.parametrize("client", protocols.PROTOCOLS)
def test_http2_client_sees_what_broke_off(client: str, provider: str, ending: dict | None, quiet: World) -> None:
    """An error event or a stream that is reset, never a clean end."""
    events = protocols.split(provider, protocols.saying(provider, "It begins well and then does not end so"))
    quiet.provider.script(provider, [{"chunks": [*events[:4], {"delay": 0.1}, *([ending] if ending else [])]}])
    request = cases.request_of({"protocol": client, "model": f"to-{provider}", "stream": True})
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    url, body = f"http://127.0.0.1:{quiet.gateway('default').port}{request.path}", b""
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as connection:
        with pytest.raises((httpx.RemoteProtocolError, protocols.StreamFailed)):
            with connection.stream("POST", url, headers=headers, content=request.body) as answer:
                assert answer.http_version == "HTTP/2" and answer.status_code == 200
                for piece in answer.iter_raw():
                    body += piece
            protocols.join(client, body)
    assert b"It begin" in body


def test_no_vm_has_died(running: Wall) -> None:
    running.finish()
    running.gateway.check_alive(0)
