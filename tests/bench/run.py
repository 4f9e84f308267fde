#!/usr/bin/env python3
"""Plain Envoy against Envoy with the filter (`make bench`): one machine, one run, rounds taken in turn.

Both Envoys have one worker, the same listener and the same cluster, and stand before the same mock provider; 16
connections ask as fast as they are answered. Every figure is the median of the rounds; a ratio is the median of the
ratios within each round, so that a machine that is slow for a while is slow for both. CPU time is what the scheduler
charged to Envoy's process: of all figures the one that a noisy machine changes least.

Environment: BENCH_ROUNDS (3), BENCH_SECONDS (2; of one measurement), ENVOY and HELM as everywhere.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/tools"))

import render  # noqa: E402

FOLDER = ROOT / ".attache/bench"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
CONNECTIONS = 16
# Pieces of text in a stream of the mock provider (tests/bench/src/answers.rs).
EVENTS = 100
# Milliseconds between two events of a paced stream: slow enough that none is waited for.
PACE = 5
SIZES = {"1 kB": 1_000, "10 kB": 10_000, "100 kB": 100_000}
WORDS = "the sidecar reads what the application asks, \"plans\" an answer\nand hands on every word as it comes; ".split(" ")


@dataclass
class Envoy:
    name: str
    port: int
    process: subprocess.Popen


@dataclass
class Figures:
    per_second: float
    p50: float
    p99: float
    cpu: float  # microseconds of each request
    memory: float  # MB

    @staticmethod
    def median(rounds: list["Figures"]) -> "Figures":
        def of(name: str) -> float:
            return statistics.median(getattr(figures, name) for figures in rounds)

        return Figures(of("per_second"), of("p50"), of("p99"), of("cpu"), of("memory"))


# Which Envoy, and the model that is asked for: the filter routes by it.
WAYS = {"plain": ("plain", "gpt-4o-mini"), "same": ("filter", "gpt-4o-mini"), "translated": ("filter", "translated")}
# The same for budgets, before an Envoy with two workers: none applies, or four do, kept for one key or for 10,000.
BUDGETS = {"none": ("budgets", "gpt-4o-mini"), "one key": ("budgets", "budgeted"), "10,000 keys": ("budgets", "budgeted")}
KEYS = {"10,000 keys": 10_000}


def main() -> int:
    for needed in (render.helm, envoy_binary):
        try:
            needed()
        except (render.Refused, FileNotFoundError) as missing:
            print(missing, file=sys.stderr)
            return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    tool = built()
    processes: list[subprocess.Popen] = []
    try:
        envoys = started(tool, processes)
        cases = [(stream, size, 0) for stream in (False, True) for size in SIZES] + [(True, "1 kB", PACE)]
        found = {case: {way: [] for way in WAYS} for case in cases}
        for case in cases:
            for way in WAYS:
                check(tool, envoys, way, case)
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            for case in cases:
                # The order turns with the round, so that none is always first.
                for way in rotated(list(WAYS), number):
                    found[case][way].append(measured(tool, envoys, way, case, SECONDS))
        budgets = {case: {way: [] for way in BUDGETS} for case in cases[:-1] if case[1] != "100 kB"}
        for number in range(ROUNDS):
            print(f"budgets, round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            for case in budgets:
                for way in rotated(list(BUDGETS), number):
                    budgets[case][way].append(measured(tool, envoys, way, case, SECONDS))
        text = report(found) + budget_report(budgets)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    (FOLDER / "results.md").write_text(text)
    print(text)
    return 0


# ---- what is run ----


def envoy_binary() -> str:
    beside = Path(sys.executable).parent / "envoy"
    found = os.environ.get("ENVOY") or (str(beside) if beside.exists() else shutil.which("envoy"))
    if not found:
        raise FileNotFoundError("envoy: not found; `make testing` installs it, or name it in ENVOY")
    return found


def built() -> Path:
    target = FOLDER / "target"
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(ROOT / "tests/bench/Cargo.toml")]
    subprocess.run([*command, "--target-dir", str(target)], check=True)
    return target / "release/attache-bench"


def started(tool: Path, processes: list[subprocess.Popen]) -> dict[str, Envoy]:
    provider = subprocess.Popen([tool, "provider", "--port", "0"], stdout=subprocess.PIPE, text=True)
    processes.append(provider)
    assert provider.stdout
    port = int(provider.stdout.readline().split()[1])
    envoys = {}
    for name, workers in (("filter", 1), ("plain", 1), ("budgets", 2)):
        folder = FOLDER / name
        listener, admin = free_port(), free_port()
        config = configuration(folder, port, listener, admin)
        if name == "plain":
            config = without_filter(config)
        (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
        command = [envoy_binary(), "-c", str(folder / "envoy.yaml"), "--concurrency", str(workers), "--disable-hot-restart"]
        log = open(folder / "envoy.log", "w")
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log, cwd=ROOT)
        processes.append(process)
        wait_ready(admin, process, folder)
        envoys[name] = Envoy(name, listener, process)
    return envoys


def configuration(folder: Path, provider: int, listener: int, admin: int) -> dict[str, Any]:
    """The chart's rendering of values.yaml, with files in `folder`."""
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_load((ROOT / "tests/bench/values.yaml").read_text().replace("PORT", str(provider)))
    for entry in values["gateway"]["providers"]:
        (keys / entry["name"]).write_text("bench")
    wasm = os.environ.get("ATTACHE_WASM") or str(ROOT / ".attache/attache.wasm")
    values |= {"listener": {"port": listener}, "admin": {"port": admin}}
    values |= {"paths": {"wasm": wasm, "config": str(folder), "keys": str(keys)}}
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    render.write(render.render(["-f", str(folder / "values.yaml")]), folder)
    return yaml.safe_load((folder / "envoy.yaml").read_text())


def without_filter(config: dict[str, Any]) -> dict[str, Any]:
    """The same listener and clusters, without the filter, its route and its retries: what a plain proxy would be."""
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [one for one in manager["http_filters"] if one["name"] == "envoy.filters.http.router"]
    # The first is for what the filter has admitted, the other for what it has not.
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"] = [host["routes"][0] | {"match": {"prefix": "/"}, "route": {"timeout": "0s", "cluster": "origin.openai"}}]
    for cluster in resources["clusters"]:
        for options in cluster.get("typed_extension_protocol_options", {}).values():
            options.pop("http_filters", None)
    return config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(admin: int, process: subprocess.Popen, folder: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"envoy ended; {folder / 'envoy.log'} says why")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("envoy: not ready after a minute")


# ---- measuring ----

Case = tuple[bool, str, int]


def body(model: str, stream: bool, size: int) -> bytes:
    """A conversation of about this many bytes, in turns of no more than 4 kB."""
    words = iter(endless())
    turns = max(1, size // 4_000)
    messages = [{"role": "system", "content": "Answer briefly."}]
    for turn in range(turns):
        text = ""
        while len(text) < (size - 250) / turns - 40:
            text += next(words) + " "
        messages.append({"role": "assistant" if turn % 2 and turn + 1 < turns else "user", "content": text})
    request = {"model": model, "messages": messages, "temperature": 0.2, "max_completion_tokens": 500}
    return json.dumps(request | ({"stream": True} if stream else {}), separators=(",", ":")).encode()


def endless() -> Iterator[str]:
    while True:
        yield from WORDS


def measured(tool: Path, envoys: dict[str, Envoy], way: str, case: Case, seconds: float, save: Path | None = None) -> Figures:
    stream, size, pace = case
    name, model = (WAYS | BUDGETS)[way]
    file = FOLDER / f"{model}-{'stream' if stream else 'whole'}-{SIZES[size]}.json"
    file.write_bytes(body(model, stream, SIZES[size]))
    envoy = envoys[name]
    options = {"port": envoy.port, "path": "/v1/chat/completions", "body": file, "connections": CONNECTIONS}
    options |= {"seconds": seconds, "pid": envoy.process.pid, "keys": KEYS.get(way, 1)}
    options |= ({"pace": pace} if pace else {}) | ({"save": save} if save else {})
    command = [str(tool), "load", *(text for key, value in options.items() for text in (f"--{key}", str(value)))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{way} {case}: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    if said["errors"] or not said["requests"]:
        raise SystemExit(f"{way} {case}: {said}")
    requests = said["requests"]
    cpu = said["cpu_ns"] / 1_000 / requests
    return Figures(requests / said["seconds"], said["p50_us"], said["p99_us"], cpu, said["rss_kb"] / 1_000)


def check(tool: Path, envoys: dict[str, Envoy], way: str, case: Case) -> None:
    """What is measured is a right answer, whole, in the client's protocol; and the code is warm after it."""
    sample = FOLDER / "sample.txt"
    sample.unlink(missing_ok=True)
    measured(tool, envoys, way, case, 0.6, sample)
    text = sample.read_bytes().decode()
    right = text.count('"content":" word') == EVENTS and "data: [DONE]" in text if case[0] else '"content":" word0 word1' in text
    provider = {"plain": None, "same": "openai", "translated": "anthropic"}[way]
    told = provider is None or f"x-attache-provider: {provider}\r\n" in text
    if not (right and told):
        raise SystemExit(f"{way} {case}: a wrong answer, kept in {sample}")


def rotated(items: list[str], by: int) -> list[str]:
    by %= len(items)
    return items[by:] + items[:by]


# ---- telling ----


def report(found: dict[Case, dict[str, list[Figures]]]) -> str:
    lines = [f"# Plain Envoy and Envoy with the filter\n\n{circumstances()}\n"]
    lines.append("| answer | body | way | requests/s | ratio | p50 ms | p99 ms | CPU µs/request | + µs | by CPU | RSS MB |")
    lines.append("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for case, ways in found.items():
        if not case[2]:
            lines += [row(case, ways, way) for way in WAYS]
    lines.append("\n| stream | way | CPU µs/event | added by the filter | RSS MB |")
    lines.append("|---|---|---:|---:|---:|")
    for case, ways in found.items():
        if case[0]:
            lines += [event_row(case, ways, way) for way in WAYS]
    lines.append("")
    lines.append("`same`: OpenAI in and out. `translated`: OpenAI in, Anthropic out. `+ µs`: beyond plain Envoy. `by CPU`: the ratio of")
    lines.append("CPU times, which is that of requests/s where Envoy has a core to itself. An event's share is")
    lines.append(f"a stream's CPU time divided by its {EVENTS} pieces of text, its request included. Paced streams send an event each")
    lines.append(f"{PACE} ms, so that Envoy takes each by itself; the others as fast as Envoy takes them, often several at once.")
    return "\n".join(lines) + "\n"


def budget_report(found: dict[Case, dict[str, list[Figures]]]) -> str:
    lines = ["\n## Four budgets\n\nTokens, dollars, requests and requests at once apply to each request, or none does; two workers.\n"]
    lines.append("| answer | body | budgets | requests/s | ratio | p50 ms | p99 ms | CPU µs/request | + µs | RSS MB |")
    lines.append("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (stream, size, _), ways in found.items():
        free = Figures.median(ways["none"])
        for way in BUDGETS:
            figures = Figures.median(ways[way])
            ratio = statistics.median(a.per_second / b.per_second for a, b in zip(ways[way], ways["none"]))
            lines.append(
                f"| {f'stream of {EVENTS}' if stream else 'whole'} | {size} | {way} | {figures.per_second:,.0f} | {ratio:.2f} | {figures.p50 / 1000:.2f} | "
                f"{figures.p99 / 1000:.2f} | {figures.cpu:.1f} | {figures.cpu - free.cpu:.1f} | {figures.memory:.0f} |"
            )
    return "\n".join(lines) + "\n"


def row(case: Case, ways: dict[str, list[Figures]], way: str) -> str:
    figures, plain = Figures.median(ways[way]), Figures.median(ways["plain"])
    ratio = statistics.median(a.per_second / b.per_second for a, b in zip(ways[way], ways["plain"]))
    share = statistics.median(b.cpu / a.cpu for a, b in zip(ways[way], ways["plain"]))
    more = "" if way == "plain" else f"{figures.cpu - plain.cpu:.1f}"
    kind = f"stream of {EVENTS}" if case[0] else "whole"
    return (
        f"| {kind} | {case[1]} | {way} | {figures.per_second:,.0f} | {ratio:.2f} | {figures.p50 / 1000:.2f} | "
        f"{figures.p99 / 1000:.2f} | {figures.cpu:.1f} | {more} | {share:.2f} | {figures.memory:.0f} |"
    )


def event_row(case: Case, ways: dict[str, list[Figures]], way: str) -> str:
    figures, plain = Figures.median(ways[way]), Figures.median(ways["plain"])
    kind = f"{case[1]} body, " + (f"paced {case[2]} ms" if case[2] else "as fast as it goes")
    more = "" if way == "plain" else f"{(figures.cpu - plain.cpu) / EVENTS:.2f}"
    return f"| {kind} | {way} | {figures.cpu / EVENTS:.2f} | {more} | {figures.memory:.0f} |"


def circumstances() -> str:
    said = subprocess.run([envoy_binary(), "--version"], capture_output=True, text=True).stdout
    version = re.search(r"/(\d+\.\d+\.\d+)/", said)
    model = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return (
        f"Envoy {version[1] if version else '?'}, one worker, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS:g} s; "
        f"{os.cpu_count()} cores ({model[0] if model else '?'}), load {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    sys.exit(main())
