"""`make run`: what it prints works as printed, it stops as a whole, and every way of not starting is told in a line."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# In the environment of `make run`, which has less than the tests' own.
PYTHON = ROOT / ".attache/running/bin/python"
RUN = [str(PYTHON), "tests/tools/run.py"]
READY = "Ctrl-C stops everything."
# A key of the developer's own must not turn the demo into the real thing.
KEYLESS = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}


class Running:
    """`make run` without make, with its output so far."""

    started: "list[Running]" = []

    def __init__(self, folder: Path, *options: str, **environment: str):
        self.output = folder / "output"
        self.process = subprocess.Popen(
            [*RUN, *options], cwd=ROOT, stdout=self.output.open("w"), stderr=subprocess.STDOUT, env={**KEYLESS, **environment}
        )
        self.started.append(self)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def until_ready(self) -> "Running":
        deadline = time.monotonic() + 60
        while READY not in self.said:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said
            time.sleep(0.05)
        return self

    def children(self) -> list[int]:
        own = self.process.pid
        return [int(word) for word in Path(f"/proc/{own}/task/{own}/children").read_text().split()]

    def end(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture(autouse=True)
def surroundings() -> Iterator[None]:
    assert PYTHON.exists(), "`make running` makes it"
    yield
    # Whatever a failed test left.
    for one in Running.started:
        one.end(signal.SIGKILL)
    Running.started.clear()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    yield Running(tmp_path).until_ready()


def test_printed_lines_work_and_all_stops_together(running: Running) -> None:
    lines = re.findall(r"^  ((?:curl|\S*python) .+)$", running.said, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), (line, done)
        assert '"error"' not in done.stdout, (line, done.stdout)
    children = running.children()
    assert len(children) == 2
    assert running.end() == 0
    assert not any(alive(child) for child in children)


def test_readmes_budget_does_what_it_says(running: Running) -> None:
    """30 tokens of answers a minute for one team: two answers, a third that ends in the middle, and no fourth."""
    line = next(block for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M) if "x-team: blue" in block)
    # Its window is a minute of the clock.
    time.sleep(max(0.0, time.time() % 60 - 45) and 60 - time.time() % 60)
    ask = lambda: subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=True).stdout  # noqa: E731
    answers = [ask() for _ in range(4)]
    done = [re.search(r"x-attache-budget: (.+?)\s", answer).group(1) for answer in answers]
    assert done == ["blue;clamp=30", "blue;clamp=18", "blue;clamp=6", "blue;reject"]
    assert ['"finish_reason": "length"' in answer for answer in answers] == [False, False, True, False]
    assert answers[3].startswith("HTTP/1.1 429") and "\nretry-after: " in answers[3] and "budget_exceeded" in answers[3]
    assert running.end() == 0


def test_an_impatient_ctrl_c_stops_it_too(running: Running) -> None:
    children = running.children()
    for _ in range(200):
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    # The last ones may meet Python on its way out, which then ends by the signal.
    assert running.end() in (0, -signal.SIGINT) and "Traceback" not in running.said, running.said
    assert not any(alive(child) for child in children)


def test_killed_outright_leaves_no_orphan(running: Running) -> None:
    children = running.children()
    running.end(signal.SIGKILL)
    assert eventually(lambda: not any(alive(child) for child in children))


def test_a_child_that_dies_is_named(running: Running) -> None:
    first, second = running.children()
    os.kill(first, signal.SIGKILL)
    assert running.process.wait(20) == 1
    assert "demo providers: ended by itself (killed by signal 9)" in running.said
    assert not alive(second)


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        values = demo_with(tmp_path, listener={"port": port})
        ended = Running(tmp_path, "--values", values)
        assert ended.process.wait(20) == 1
    assert f"port {port} (`listener.port`): Address already in use" in ended.said
    assert "Traceback" not in ended.said


def test_refused_configuration_shows_the_fault(tmp_path: Path) -> None:
    route = {"models": ["same"], "targets": [{"provider": "openai"}]}
    provider = {"name": "openai", "origin": "http://127.0.0.1:18081"}
    values = demo_with(tmp_path, gateway={"providers": [provider], "routes": [route, route]})
    ended = Running(tmp_path, "--values", values)
    assert ended.process.wait(60) == 1
    assert "the filter refused its configuration" in ended.said
    assert "routes[1].models[0]" in ended.said


def test_a_key_of_the_environment_goes_to_its_owner_alone(tmp_path: Path) -> None:
    running = Running(tmp_path, OPENAI_API_KEY="sk-fake").until_ready()
    assert re.search(r"openai +https://api\.openai\.com, key from OPENAI_API_KEY", running.said)
    assert re.search(r"anthropic +demo, ", running.said)
    keys = ROOT / ".attache/run/keys"
    assert (keys / "openai").read_text() == "sk-fake" and (keys / "openai").stat().st_mode & 0o777 == 0o600
    assert (keys / "anthropic").read_text() == "demo-key-anthropic"
    assert running.end() == 0
    shutil.rmtree(keys)


@pytest.mark.parametrize("option", ["--values", "--keys"])
def test_what_is_not_there_is_one_line(option: str, tmp_path: Path) -> None:
    ended = Running(tmp_path, option, "nowhere")
    assert ended.process.wait(20) == 1
    assert ended.said.count("\n") == 1 and "nowhere: no such" in ended.said


@pytest.mark.parametrize(
    "given, told",
    [
        ("gateway:\n  providers: [", "values.yaml:2:15: not YAML: "),
        ("[]", "expected a mapping"),
        ("gateway: 3", "  gateway: got number"),
        ("tls: null", "  tls: missing"),
        ("gateway: {providers: [], routes: []}", "  gateway.providers: none; at least one is needed"),
        ("paths: {keys: nowhere}", "nowhere: no such directory (paths.keys)"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_in_lines(given: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(given)
    ended = Running(tmp_path, "--values", str(file))
    assert ended.process.wait(20) == 1
    assert told in ended.said and ended.said.count("\n") <= 2, ended.said


def demo_with(folder: Path, **members: object) -> str:
    values = yaml.safe_load((ROOT / "envoy/values.yaml").read_text())
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump({**values, **members}))
    return str(file)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False
