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


class World:
    """The scripted providers and the gateways in front of them."""

    def __init__(self, folder: Path, provider: Provider, refused: int):
        self.folder, self.provider = folder, provider
        self.ports = provider.ports | {REFUSED: refused}
        self._gateways: dict[str, Gateway] = {}

    def values(self, config: str) -> dict[str, Any]:
        return yaml.safe_load(PORT.sub(lambda found: str(self.ports[found[1]]), CONFIGS[config]))

    def gateway(self, config: str) -> Gateway:
        """The running gateway of that configuration, started when first asked for."""
        if config not in self._gateways:
            gateway = self.fresh(config, config)
            self._gateways[config] = gateway.__enter__()
        return self._gateways[config]

    def fresh(self, config: str, folder: str) -> Gateway:
        """A gateway of one's own, not started: for tests that change its files."""
        values = self.values(config)
        keys = {file: key_of(file) for provider in values["gateway"]["providers"] for file in key_files(provider)}
        return Gateway(self.folder / folder, values, keys)

    def close(self) -> None:
        for gateway in self._gateways.values():
            gateway.__exit__()
        for gateway in self._gateways.values():
            # What came last is in the log now.
            gateway.check_log(0)


def key_of(file: str) -> str:
    """The secret in that key file."""
    return f"secret-of-{file}"
