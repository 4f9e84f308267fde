#!/usr/bin/env python3
"""Budgets are exact through a real Envoy (`make proof`): very many requests from 64 clients over two workers, with clients that
hang up, providers that fail, reloads twice a second and VMs that die; then a plain sequential book (book.py) says what the
gateway may have said and done. What is planned hangs on the seed alone; when it happens does not.

Prints a table; ends with 1 if anything was overrun, forgotten, doubled or lost, or if anything grows that must not.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import harness  # noqa: E402
from proof import book, clients, evidence, plan  # noqa: E402
from proof.clients import Seen  # noqa: E402
from proof.origin import Attempt  # noqa: E402
from proof.plan import Plan, Wish  # noqa: E402

CRASHING = Path(os.environ.get("ATTACHE_CRASH_WASM") or harness.ROOT / ".attache/attache-crash.wasm")
COLUMNS = ["overshoot", "undershoot", "lost"]
KINDS = ["fixed", "sliding", "calendar", "concurrent"]
# Seconds between two reloads.
RELOAD = 0.5
# What waits in a worker at most (SEATS, filter/plugin/src/desk.rs), for both of them, and some more.
LEAVERS = 2400


@dataclass
class Report:
    plan: Plan
    seen: list[Seen] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    verdict: book.Verdict = field(default_factory=book.Verdict)
    reloads: int = 0
    # Requests that waited, as the gateway counts them.
    queued: int = 0
    # Of the requests alone.
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    # What else may not be.
    wrong: list[str] = field(default_factory=list)
    machines: int = 0

    def counts(self) -> dict[str, int]:
        found = Counter()
        tried = Counter(attempt.number for attempt in self.attempts)
        for one in self.seen:
            told = one.told.get("x-attache-budget", "")
            found["admitted"] += tried[one.number] > 0
            found["refused"] += one.status == 429
            found["clamped"] += ";clamp=" in told
            found["downgraded"] += ";downgrade" in told
            found["shadowed"] += ";shadow" in told
            found["disconnects"] += one.left > 0
            found["failovers"] += tried[one.number] > 1
            found["sent again"] += one.turned_away
            found["stranded"] += clients.ENDLESS in one.broke
            found["broke off"] += one.status == 200 and not one.complete and not one.left
        return dict(found) | {"crashes": len(deaths(self)), "reloads": self.reloads, "queued": self.queued}

    def faults(self) -> list[str]:
        return self.wrong + [fault.text() for fault in self.verdict.faults]

    def text(self) -> str:
        lines = [f"seed {self.plan.seed}: {len(self.plan.wishes)} requests in {self.seconds:.0f} s", ""]
        lines.append(f"{'window':12}" + "".join(f"{column:>12}" for column in COLUMNS))
        for kind in KINDS:
            of_kind = [fault for fault in self.verdict.faults if fault.budget.kind == kind]
            lines.append(f"{kind:12}" + "".join(f"{sum(fault.amount for fault in of_kind if fault.column == column):>12}" for column in COLUMNS))
        checked = self.verdict.checked
        lines += ["", ", ".join(f"{name} {count}" for name, count in self.counts().items()),
                  f"checked: {checked['accounts']} accounts, {checked['windows']} windows, {checked['told']} words of what is left; "
                  f"{checked['exact']} of {checked['final']} last words known to the unit",
                  f"memory: {self.grown()[0]:.0f} MB in the second third, {self.grown()[1]:.0f} MB in the last; {self.machines} VMs"]
        return "\n".join(lines)

    def grown(self) -> tuple[float, float]:
        third = max(1, len(self.memory) // 3)
        return statistics.median(self.memory[third : 2 * third] or [0]), statistics.median(self.memory[2 * third :] or [0])


def deaths(report: Report) -> list[Seen]:
    """Those that killed their VM: nobody answered them."""
    return [one for one in report.seen if one.wish.crash and not one.told]


class Origin:
    """The providers' process."""

    def __enter__(self) -> "Origin":
        command = [sys.executable, str(TESTS / "proof/origin.py"), *plan.ROWS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = [int(port) for port in self.process.stdout.readline().split()]
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.stdin.close()
        self.process.wait(10)

    def attempts(self) -> list[Attempt]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/", timeout=60) as answer:
            return [Attempt(**one) for one in json.load(answer)]


class Reloads:
    """Configurations with the same budgets and something else changed, renamed into place one after the other."""

    def __init__(self, gateway: harness.Gateway, seed: int):
        self.place, dice = gateway.config / "gateway.yaml", random.Random(seed)
        document = yaml.safe_load(self.place.read_text())
        held = document["resources"][0]["typed_config"]["config"]["configuration"]
        whole = json.loads(held["value"])
        self.texts = []
        for number in range(4):
            routes = [*whole["gateway"]["routes"], {"models": [f"unused-{number}"], "targets": [{"provider": "one"}]}]
            dice.shuffle(routes)
            held["value"] = json.dumps({**whole, "gateway": {**whole["gateway"], "routes": routes}})
            self.texts.append(yaml.safe_dump(document))
        self.made = 0

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(RELOAD)
            self.one()

    def one(self) -> None:
        draft = self.place.with_name(".gateway.new")
        draft.write_text(self.texts[self.made % len(self.texts)])
        draft.replace(self.place)
        self.made += 1


def run(folder: Path, seed: int, requests: int) -> Report:
    """The whole of it, with an Envoy and providers of its own."""
    made = plan.made(seed, requests)
    with Origin() as origin:
        values, keys = {"gateway": plan.configured(made, origin.ports)}, {name: "key" for name in plan.PROVIDERS}
        with harness.Gateway(folder / "envoy", values, keys, concurrency=2, wasm=CRASHING) as gateway:
            try:
                return asyncio.run(proof(made, gateway, origin))
            except OSError as broken:
                raise AssertionError(f"{broken}\n{ending(gateway)}") from broken


def ending(gateway: harness.Gateway) -> str:
    """What became of Envoy."""
    time.sleep(1)
    return f"Envoy ended with {gateway.process.poll()}\n{(gateway.folder / 'stderr').read_text()[-5000:]}\n{gateway.tail(0)[-10_000:]}"


async def proof(made: Plan, gateway: harness.Gateway, origin: Origin) -> Report:
    report, begun = Report(made), time.monotonic()
    reloads = Reloads(gateway, made.seed)
    beside = [asyncio.create_task(reloads.go_on()), asyncio.create_task(sampled(gateway, report))]
    await clients.carry_out(gateway.port, made, report.seen)
    report.seconds = time.monotonic() - begun
    [task.cancel() for task in beside]
    report.reloads = reloads.made
    found = evidence.gather(made, report.seen, origin.attempts())
    await at_once_is_free(gateway, report, found)
    await lapse(found)
    found = evidence.gather(made, report.seen, origin.attempts())
    files = evidence.file(made, found)
    probes = [await clients.probe(gateway.port, wish) for wish in probing(made, files)]
    report.queued = sum(value for name, value in gateway.stats("attache_budget").items() if name.endswith("class=queue"))
    await leavers(gateway, report)
    report.attempts = origin.attempts()
    last = evidence.file(made, evidence.gather(made, probes, report.attempts), final=True)
    for account, entries in last.entries.items():
        files.entries.setdefault(account, []).extend(entries)
    for account, told in last.told.items():
        files.told.setdefault(account, []).extend(told)
    book.check(made, files, report.verdict)
    report.wrong += [*unexplained(found, report), *(f"probe {one.wish.mix}: {one.status} {one.error}" for one in probes if one.status not in (200, 429))]
    report.wrong += at_rest(gateway, report)
    report.wrong += [f"nothing was {what}: this proves nothing" for what in NEEDED if not report.counts()[what]]
    return report


# What a run must have met.
NEEDED = ["admitted", "refused", "clamped", "downgraded", "disconnects", "failovers", "queued", "crashes", "reloads"]


async def sampled(gateway: harness.Gateway, report: Report) -> None:
    while True:
        await asyncio.sleep(0.5)
        report.memory.append(gateway.memory())


async def lapse(found: list[evidence.Evidence]) -> None:
    """Waits until all is settled, or has lapsed."""
    until = max(evidence.settled_by(one, one.admitted) for one in found if not one.never)
    await asyncio.sleep(max(0.0, until - time.time()))


def probing(made: Plan, files: evidence.Files) -> list[Wish]:
    """The smallest request to each account."""
    budgets, found = {budget.name: budget for budget in made.budgets}, []
    for at, (name, account) in enumerate(sorted(set(files.entries) | set(files.told))):
        budget, parts = budgets[name], account.split("/")
        key = parts.pop(0) if budget.keyed else "k0"
        provider, model = ("one", "gpt-4o-mini") if not budget.routes else ("two", "gpt-4o")
        if budget.follows_provider:
            provider = parts.pop()
        elif "model" in budget.per:
            model = parts.pop()
            provider = next(by for targets in plan.ROUTES.values() for by, of in targets if of == model)
        number = (1 << 40) + at
        found.append(Wish(number, f"probe-{name}", f"only-{provider}-{model}", key, 1, 1, 1, 1, False, False, "ok", 0))
    return found


async def at_once_is_free(gateway: harness.Gateway, report: Report, found: list[evidence.Evidence]) -> None:
    """Without waiting for anything to lapse: who has ended, however, is under way no more. Where a VM has died it may be."""
    made, now = report.plan, time.time()
    files = evidence.file(made, found).entries
    for budget in [budget for budget in made.budgets if budget.kind == "concurrent"]:
        for account in sorted(account for name, account in files if name == budget.name):
            if any(entry.who.shaken and entry.settled > now for entry in files[budget.name, account]):
                continue
            report.verdict.checked["free"] += 1
            wish = Wish(0, f"probe-{budget.name}", "only-one-gpt-4o-mini", account or "k0", 1, 1, 1, 1, False, False, "ok", 0)
            deadline = time.monotonic() + harness.PATIENCE
            while (left := (await clients.probe(gateway.port, wish)).remaining.get("concurrent")) != str(made.limits[budget.name] - 1):
                if time.monotonic() > deadline:
                    report.wrong.append(f"{budget.name}, account {account!r}: {left} left beside one request, though none else is under way")
                    break


async def leavers(gateway: harness.Gateway, report: Report) -> None:
    """More requests than may wait at a time wait, and leave; whoever comes then must find a seat."""
    left, busy = 0, True
    base = Wish(0, "n-keyed", "plain", "z", 1, 1, 1, 1, False, False, "ok", 3000)

    async def occupy() -> None:
        while busy:
            await clients.probe(gateway.port, base)

    async def leave() -> None:
        nonlocal left
        while left < LEAVERS:
            seen = await clients.probe(gateway.port, replace(base, millis=0, leaves_after=25))
            left += seen.left > 0
            if "too many requests wait" in seen.error:
                report.wrong.append(f"after {left} had waited and left: {seen.error}")
                return

    occupants = [asyncio.create_task(occupy()) for _ in range(3)]
    await asyncio.gather(*(leave() for _ in range(clients.CLIENTS)))
    busy = False
    await asyncio.gather(*occupants)


def unexplained(found: list[evidence.Evidence], report: Report) -> list[str]:
    """What happened to requests that may not."""
    wrong = []
    for one in found:
        wrong += [f"request {one.number}: {what}" for what in (*strange(one, report), *untold(one, report.plan))]
    return wrong


def untold(one: evidence.Evidence, made: Plan) -> list[str]:
    """What the gateway said of its budgets that cannot be."""
    seen, wrong = one.seen, []
    for budget in [budget for budget in made.budgets_of(seen.wish.mix) if evidence.admits(budget, one)]:
        told = evidence.telling(made, budget, one)
        if one.refused and told and evidence.fits(made, budget, one, told.least):
            wrong.append(f"{budget.name} refused it with {told.least} left, which is enough")
        if one.answered and budget.exceed != "shadow" and evidence.UNITS.get(budget.unit, budget.unit) not in seen.remaining:
            wrong.append(f"was not told what is left of {budget.name}")
    clamp = seen.told.get("x-attache-budget", "").partition(";clamp=")[2].split(",")[0]
    if clamp and one.attempts and one.attempts[0].limit != int(clamp):
        wrong.append(f"was told a limit of {clamp}, and the provider {one.attempts[0].limit}")
    return wrong


def strange(one: evidence.Evidence, report: Report) -> list[str]:
    """What became of it that may not."""
    seen, wrong = one.seen, []
    cut = seen.status == 200 and one.attempts and one.attempts[-1].act in evidence.FAILS
    if seen.broke and not one.deaths and not cut:
        wrong.append(seen.broke)
    if clients.ENDLESS in seen.broke and not stranded(one, report.plan):
        wrong.append(seen.broke)
    if seen.turned_away and not one.deaths and not near(seen, report):
        wrong.append("no VM to see it, and none has died")
    if one.refused and one.attempts:
        wrong.append("was refused, and sent all the same")
    if seen.status not in (0, 200, 429, 502, 503, 504):
        wrong.append(f"{seen.status} {seen.error}")
    return wrong


def stranded(one: evidence.Evidence, made: Plan) -> bool:
    """It waited for its budgets when its VM died. Envoy ends it, but only after `request_timeout` (helm/templates/_http.tpl)."""
    waits = any(isinstance(budget.exceed, dict) and "queue" in budget.exceed for budget in made.budgets_of(one.seen.wish.mix))
    return waits and bool(one.deaths) and not one.attempts


# Seconds in which a worker has a new VM.
REVIVED = 10.0


def near(seen: Seen, report: Report) -> bool:
    return any(one.sent <= seen.ended and seen.sent <= one.ended + REVIVED for one in deaths(report))


def at_rest(gateway: harness.Gateway, report: Report) -> list[str]:
    """What must be as if nothing had been."""
    wrong = []
    middle, end = report.grown()
    # V8 collects its garbage when it likes; a leak of a kilobyte for each request would show all the same.
    if end > middle * 1.1 + 10:
        wrong.append(f"memory grew from {middle} MB to {end} MB")
    active = {name: value for name, value in gateway.stats("rq_active").items() if value and "admin" not in name}
    wrong += [f"{name} is {value}, though nothing is under way" for name, value in active.items()]
    report.machines = gateway.stats("wasm.*v8.active").get("wasm.envoy.wasm.runtime.v8.active", 0)
    if report.machines > MACHINES:
        wrong.append(f"{report.machines} VMs are there, of which {MACHINES} can have a use")
    log = gateway.tail(0)
    panics, wished = log.count("panicked at"), log.count("as the request wished")
    if panics != wished or harness.CRASH.search(EXPECTED.sub("", log)):
        wrong.append(f"{panics} VMs panicked, {wished} of them as was wished\n{EXPECTED.sub('', log)[-3000:]}")
    if gateway.process.poll() is not None:
        wrong.append(f"Envoy ended with {gateway.process.returncode}")
    return wrong


# One for each worker and the main thread, and as many that make room.
MACHINES = 6
# What a VM writes that dies as was wished.
EXPECTED = re.compile(r"panicked at [^\n]*\nas the request wished|Function: \w+ failed: Uncaught RuntimeError: unreachable|Plugin is not ready")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.seed, options.requests)
    print(report.text())
    faults = report.faults()
    print("\n".join(["", f"{len(faults)} faults:", *faults[:50]]) if faults else "\nnothing overrun, forgotten, doubled or lost")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
