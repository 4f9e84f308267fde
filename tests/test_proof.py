"""What dies with a VM: a short run of `make proof`, always with the same seed, and requests that wait."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import protocols
from harness import PATIENCE, Gateway
from proof import run
from world import World


def test_budgets_are_exact(tmp_path: Path) -> None:
    report = run.run(tmp_path, seed=7, requests=4000)
    print(report.text())
    assert not report.faults(), "\n".join(report.faults()[:50])


def test_who_waits_for_a_budget_in_a_vm_that_dies_is_told(world: World, quiet: World, tmp_path: Path) -> None:
    """Envoy tells a dead VM's streams only with their next event, and one that waits has none but this timer."""
    values = world.values("budgets") | {"queueLimitSeconds": 4}
    for budget in values["gateway"]["budgets"]:
        if "queue" in budget.get("onExceed", {}):
            budget["onExceed"]["queue"] = "4s"
    keys = {name: "key" for name in protocols.PROTOCOLS}

    def ask(gateway: Gateway, stream: bool = False, watch=None, **headers: str):
        spec = {"protocol": "openai", "model": "queued", "stream": stream, "headers": {"x-policy": "at-once", **headers}}
        request = cases.request_of(spec | {"members": protocols.minimal("openai", "Hello")})
        return gateway.send(request.method, request.path, request.headers, request.body, watch)

    with Gateway(tmp_path / "gateway", values, keys, concurrency=1, wasm=run.CRASHING) as gateway, ThreadPoolExecutor(2) as pool:
        events, begun = protocols.split("openai", protocols.saying("openai", "One two")), threading.Event()
        quiet.provider.script("openai", [{"chunks": [*events[:3], {"wait": "dies"}, *events[3:]]}, {"json": protocols.saying("openai", "x")}])
        first = pool.submit(ask, gateway, True, lambda _: begun.set() or True)
        assert begun.wait(PATIENCE)
        waits = pool.submit(ask, gateway)
        gateway.await_true(lambda: any("class=queue" in name for name in gateway.stats("attache_budget")), "it waits")
        assert ask(gateway, **{"x-attache-crash": "head"}).status == 503
        assert waits.result(PATIENCE).status == 503, "at the end of its time, though nobody is there to admit it"
        # What was admitted may be silent for longer, and ends with its next event.
        assert not first.done()
        quiet.provider.open("dies")
        assert not first.result(PATIENCE).complete
