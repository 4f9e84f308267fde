"""A pod's Envoy and its keys, without a cluster: the sidecar's files in volumes that change as the kubelet changes them.

The kubelet moves new data into place, and links the names of new files a moment later: Envoy, which looks at the move, may come first.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

import cases
import protocols
import render
from harness import PATIENCE, WASM, envoy_binary, exchange, free_port
from http.client import HTTPConnection
from provider import Provider
from test_chart_sidecar import named, objects

ORDERS = ("key first", "provider first", "together")
ROUNDS = 12
# Longer than Envoy takes to look, and as short as the kubelet is.
LINKING = (0.0, 0.05)


class Volume:
    """A folder of files, changed in the steps and the order of the kubelet's atomic writer (pkg/volume/util/atomic_writer.go)."""

    def __init__(self, folder: Path, files: dict[str, str]):
        self.folder, self.files, self._changes, self.linking = folder, {}, 0, 0.0
        folder.mkdir()
        self.change(files)

    def change(self, files: dict[str, str]) -> None:
        self._changes += 1
        data, now = self.folder / "..data", self.folder / f"..{self._changes}"
        before = data.resolve() if data.exists() else None
        now.mkdir()
        for name, text in files.items():
            (now / name).write_text(text)
        (self.folder / "..data_tmp").symlink_to(now.name)
        os.rename(self.folder / "..data_tmp", data)
        time.sleep(self.linking)
        for name in files.keys() - self.files.keys():
            (self.folder / name).symlink_to(f"..data/{name}")
        for name in self.files.keys() - files.keys():
            (self.folder / name).unlink()
        if before:
            shutil.rmtree(before)
        self.files = dict(files)


class Sidecar:
    """Envoy as in a pod in the mode `baseUrl`, with as many of the providers as it is given."""

    def __init__(self, folder: Path, provider: Provider):
        self.folder, self.provider, self.port = folder, provider, free_port()
        names = [f"late-{number}" for number in range(ROUNDS)]
        providers = [{"name": name, "provider": "openai", "origin": f"http://127.0.0.1:{provider.ports['openai']}"} for name in ("first", *names)]
        routes = [{"models": [one["name"]], "targets": [{"provider": one["name"]}]} for one in providers]
        values = {"gateway": {"providers": providers, "routes": routes}, "listener": {"port": self.port},
                  "sidecar": {"status": {"address": "127.0.0.1", "port": free_port()}}}
        data = named(objects(values, folder), "ConfigMap", "attache")["data"]
        bundle = folder / "authorities.pem"
        bundle.write_text("")
        places = {"/etc/attache-keys": folder / "keys", "/etc/attache": folder / "config", "/attache.wasm": WASM, "/run/attache": folder}
        for name, text in data.items():
            for path, place in places.items():
                # In Lua, within JSON, quotes have a backslash.
                text = text.replace(f'"{path}', f'"{place}')
            data[name] = text
        self._all = data
        self.keys = Volume(folder / "keys", {"first": "first-key"})
        self.config = Volume(folder / "config", self.files(0))

    def files(self, late: int) -> dict[str, str]:
        """The ConfigMap when only so many of the late providers are known."""
        response = json.loads(self._all["clusters.json"])
        number = lambda one: int((one["name"].rpartition("late-")[2] if "late-" in one["name"] else "-1").partition(".")[0])  # noqa: E731
        response["resources"] = [one for one in response["resources"] if number(one) < late]
        return {**self._all, "clusters.json": json.dumps({**response, "version_info": str(late)})}

    def __enter__(self) -> "Sidecar":
        command = [envoy_binary(), "-c", str(self.folder / "config/envoy-baseUrl.json"), "--disable-hot-restart", "--concurrency", "2",
                   "--log-level", "warning", "--log-path", str(self.folder / "envoy.log"), "--file-flush-interval-msec", "50"]
        self.process = subprocess.Popen(command, env={**os.environ, "ATTACHE_DELIVERY": ""})
        self.until(lambda: self.key_of("first") == "Bearer first-key", "the first provider answers")
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(10)

    def key_of(self, model: str) -> str | None:
        """What the provider is shown, or why it was not asked."""
        request = cases.request_of({"protocol": "openai", "model": model})
        self.provider.forget(["openai"])
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            reply = exchange(connection, request.method, request.path, request.headers, request.body, None)
        except OSError as error:
            return f"not asked: {error}"
        finally:
            connection.close()
        seen = self.provider.requests("openai")
        return seen[-1].header("authorization") if seen else f"not asked: {reply.status}"

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}\n{(self.folder / 'envoy.log').read_text()[-2000:]}"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with Provider(["openai"]) as provider:
        provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
        with Sidecar(tmp_path_factory.mktemp("pod"), provider) as started:
            yield started


def test_a_late_key_is_found_in_every_order(sidecar: Sidecar) -> None:
    """Each change is made once, and is the last that there is."""
    for number in range(ROUNDS):
        name = f"late-{number}"
        sidecar.keys.linking = sidecar.config.linking = LINKING[number // len(ORDERS) % len(LINKING)]
        key = lambda: sidecar.keys.change({**sidecar.keys.files, name: f"key-{name}"})  # noqa: B023, E731
        provider = lambda: sidecar.config.change(sidecar.files(number + 1))  # noqa: B023, E731
        order = ORDERS[number % len(ORDERS)]
        if order == "key first":
            key()
            provider()
        elif order == "provider first":
            provider()
            sidecar.until(lambda: sidecar.key_of(name) is None, f"{name} is asked without a key")
            key()
        else:
            both = threading.Thread(target=key)
            both.start()
            provider()
            both.join()
        sidecar.until(lambda: sidecar.key_of(name) == f"Bearer key-{name}", f"{name}, {order}: its key")


def test_a_key_is_changed_removed_and_put_back(sidecar: Sidecar) -> None:
    for linking in LINKING:
        sidecar.keys.linking = linking
        rest = {name: key for name, key in sidecar.keys.files.items() if name != "first"}
        for key in ("second-key", None, "third-key"):
            sidecar.keys.change({**rest, **({"first": key} if key else {})})
            sidecar.until(lambda: sidecar.key_of("first") == (f"Bearer {key}" if key else None), f"the key is {key}")  # noqa: B023


def test_a_key_that_is_a_file_of_lines(sidecar: Sidecar) -> None:
    """As `kubectl create secret --from-file` takes it. What is more than a line would be more than a header."""
    rest = sidecar.keys.files
    sidecar.keys.change({**rest, "first": "line-key\r\n"})
    sidecar.until(lambda: sidecar.key_of("first") == "Bearer line-key", "without its line's end")
    sidecar.keys.change({**rest, "first": "line-key\r\nx-more: header\r\n"})
    sidecar.until(lambda: sidecar.key_of("first") is None, "not used")
    sidecar.until(lambda: "/first: a key is one line" in (sidecar.folder / "envoy.log").read_text(), "the log says why")
