"""The scripted providers, and one Envoy for each configuration in tests/configs."""

import re
from pathlib import Path
from typing import Any

import yaml

from harness import Gateway
from provider import Provider
from setting import key_files

CONFIGS = {file.stem: file.read_text() for file in sorted((Path(__file__).resolve().parent / "configs").glob("*.yaml"))}
# `{port:NAME}` in a configuration is the port of the scripted provider NAME; this one refuses every connection.
PORT = re.compile(r"\{port:([a-z0-9-]+)\}")
REFUSED = "refused"
# Envoys that run at a time: each watches its key files, and Linux gives a user 128 inotify instances for everything.
MOST_RUNNING = 4


class World:
    """The scripted providers and the gateways in front of them."""

    def __init__(self, folder: Path, provider: Provider, refused: int):
        self.folder, self.provider = folder, provider
        self.ports = provider.ports | {REFUSED: refused}
        self._gateways: dict[str, Gateway] = {}
        self._started = 0

    def values(self, config: str) -> dict[str, Any]:
        return yaml.safe_load(PORT.sub(lambda found: str(self.ports[found[1]]), CONFIGS[config]))

    def gateway(self, config: str) -> Gateway:
        """The running gateway of that configuration, started when first asked for; the one longest unused makes room."""
        gateway = self._gateways.pop(config, None)
        if gateway is None:
            while len(self._gateways) >= MOST_RUNNING:
                self._end(next(iter(self._gateways)))
            self._started += 1
            gateway = self.fresh(config, f"{config}-{self._started}").__enter__()
        self._gateways[config] = gateway
        return gateway

    def _end(self, config: str) -> None:
        gateway = self._gateways.pop(config)
        gateway.__exit__()
        # What came last is in the log now.
        gateway.check_log(0)

    def fresh(self, config: str, folder: str) -> Gateway:
        """A gateway of one's own, not started: for tests that change its files."""
        values = self.values(config)
        keys = {file: key_of(file) for provider in values["gateway"]["providers"] for file in key_files(provider)}
        return Gateway(self.folder / folder, values, keys)

    def close(self) -> None:
        for config in list(self._gateways):
            self._end(config)


def key_of(file: str) -> str:
    """The secret in that key file."""
    return f"secret-of-{file}"
