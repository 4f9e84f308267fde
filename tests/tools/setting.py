"""What `make run` is to run: which configuration, whose keys, which providers are real and which are scripted."""

import json
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import fetch
import render

ROOT = render.ROOT
RUN = ROOT / ".attache/run"
OWN_KEYS = ROOT / ".attache/keys"
DEMO_VALUES = ROOT / "envoy/values.yaml"
# The ports of `tests/provider.py --demo`.
DEMO_PORTS = {18081: "OpenAI", 18082: "Anthropic", 18083: "Gemini"}
# Where the official SDKs look for a key.
VARIABLES = {
    "openai": ["OPENAI_API_KEY"],
    "anthropic": ["ANTHROPIC_API_KEY"],
    "gemini": ["GEMINI_API_KEY", "GOOGLE_API_KEY"],
}


@dataclass
class Setting:
    values: dict[str, Any]
    # The directory with envoy.yaml.
    config: Path
    # For each provider, where its requests go and whose key they carry: for people.
    told: dict[str, str]
    # The key files that are not there; each of those lines says so.
    keyless: list[str] = field(default_factory=list)

    @property
    def concurrency(self) -> int:
        return self.values["concurrency"]

    @property
    def address(self) -> str:
        address = self.values["listener"]["address"]
        return "127.0.0.1" if address == "0.0.0.0" else f"[{address}]" if ":" in address else address

    @property
    def port(self) -> int:
        return self.values["listener"]["port"]

    @property
    def admin(self) -> int:
        return self.values["admin"]["port"]

    @property
    def demo(self) -> bool:
        return any(demo_port(provider) for provider in self.values["gateway"]["providers"])

    def ports(self) -> list[tuple[int, str]]:
        """Every port that this will listen on, and what to change where it is taken."""
        own = [(self.port, "`listener.port`"), (self.admin, "`admin.port`")]
        demo = [(port, f"the demo's {name} provider; it cannot be moved") for port, name in DEMO_PORTS.items()]
        return own + (demo if self.demo else [])


def prepare(values: Path | None, keys: Path | None) -> Setting:
    """Reads, and renders where something differs from what lies in envoy/."""
    for directory in filter(None, [keys]):
        if not directory.is_dir():
            raise FileNotFoundError(f"{directory}: no such directory (KEYS)")
    if values and not values.is_file():
        raise FileNotFoundError(f"{values}: no such file (VALUES)")
    given = read(values or DEMO_VALUES)
    if values:
        # Refused as it was written, before anything is made of it.
        fetch.helm(ROOT / ".attache/helm")
        render.render(["-f", str(values)])
    whole = merged(yaml.safe_load((ROOT / "helm/values.yaml").read_text()), given)
    found = real_keys(whole["gateway"]["providers"], keys, demo=values is None)
    if values is None and not found:
        told = {one["name"]: f"demo, {one['origin']}" for one in whole["gateway"]["providers"]}
        return Setting(whole, ROOT / "envoy", told)
    # The demo's own key files are for the demo's providers alone.
    directory = given.get("paths", {}).get("keys") if values else None
    if directory and not Path(directory).is_dir():
        raise FileNotFoundError(f"{directory}: no such directory (paths.keys)")
    return rendered(whole, found, own_directory=directory)


def read(values: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(values.read_text())
        given = {} if given is None else given
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f"{values}:{place.line + 1}:{place.column + 1}" if place else str(values)
        raise render.Refused(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(given, dict):
        raise render.Refused(f"{values}: expected a mapping such as helm/values.yaml")
    return given


def key_files(provider: dict[str, Any]) -> list[str]:
    """Names of the provider's key files, as the chart makes them; none where the client's own key is passed on."""
    if provider.get("credentials") == "passthrough":
        return []
    return [f"{provider['name']}.{key['name']}" for key in provider.get("keys") or []] or [provider["name"]]


def real_keys(providers: list[dict[str, Any]], directory: Path | None, demo: bool) -> dict[str, tuple[str, str]]:
    """Key file to (key, where it was found). In the demo the owner of a key drops its scripted origin."""
    found: dict[str, tuple[str, str]] = {}
    for provider in providers:
        for name in key_files(provider):
            for place in filter(None, [directory, OWN_KEYS]):
                if (place / name).is_file() and name not in found:
                    found[name] = ((place / name).read_text().strip(), f"key file {shown(place / name)}")
            # A key of the environment goes to its owner alone, never to another origin that the values name.
            if name not in found and (demo or not provider.get("origin")):
                for variable in variables(provider):
                    if os.environ.get(variable, "").strip() and name not in found:
                        found[name] = (os.environ[variable].strip(), f"key from {variable}")
            if demo and name in found:
                provider.pop("origin", None)
    return found


def variables(provider: dict[str, Any]) -> list[str]:
    """Where the environment may hold its key; it cannot tell several apart."""
    return [] if provider.get("keys") else VARIABLES.get(provider.get("provider") or provider["name"], [])


def rendered(values: dict[str, Any], found: dict[str, tuple[str, str]], own_directory: str | None) -> Setting:
    fetch.helm(ROOT / ".attache/helm")
    config, keys = RUN / "config", Path(own_directory) if own_directory else RUN / "keys"
    RUN.mkdir(parents=True, exist_ok=True)
    values["paths"] = {"wasm": ".attache/attache.wasm", "config": shown(config), "keys": shown(keys)}
    values["tls"] = {"caBundle": authorities(values["tls"]["caBundle"])}
    file = RUN / "values.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    render.write(render.render(["-f", str(file)]), config)
    if not own_directory:
        write_keys(values["gateway"]["providers"], found, keys)
    providers = values["gateway"]["providers"]
    told = {one["name"]: tell(one, found, keys, to_write=keys if own_directory else OWN_KEYS) for one in providers}
    keyless = [shown(keys / name) for one in providers for name in key_files(one) if not (keys / name).is_file()]
    return Setting(values, config, told, keyless)


def write_keys(providers: list[dict[str, Any]], found: dict[str, tuple[str, str]], directory: Path) -> None:
    """The key files of this run, for this user's eyes; those of an earlier run go."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for provider in providers:
        for name in key_files(provider):
            key = found[name][0] if name in found else f"demo-key-{name}" if demo_port(provider) else None
            if key is not None:
                with open(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(key)


def tell(provider: dict[str, Any], found: dict[str, tuple[str, str]], keys: Path, to_write: Path) -> str:
    where = provider.get("origin") or row(provider)["origin"]
    if demo_port(provider):
        return f"demo, {where}"
    if not key_files(provider):
        return f"{where}, the client's own credential"
    return ", ".join([where, *(tell_key(provider, name, found, keys, to_write) for name in key_files(provider))])


def tell_key(provider: dict[str, Any], name: str, found: dict[str, tuple[str, str]], keys: Path, to_write: Path) -> str:
    if (keys / name).is_file():
        return found[name][1] if name in found and to_write == OWN_KEYS else f"key file {shown(keys / name)}"
    taken = variables(provider) if to_write == OWN_KEYS and not provider.get("origin") else []
    ways = [f"set {' or '.join(taken)}"] * bool(taken) + [f"write {shown(to_write / name)}"]
    return f"without a key; if it needs one: {' or '.join(ways)}, and start again"


def row(provider: dict[str, Any]) -> dict[str, Any]:
    """Its row of the provider table; the chart has refused what has none."""
    table = json.loads((ROOT / "helm/files/providers.json").read_text())
    return table[provider.get("provider") or provider["name"]]


def demo_port(provider: dict[str, Any]) -> int | None:
    found = re.fullmatch(r"http://(127\.0\.0\.1|localhost|\[::1\]):(\d+)(/.*)?", str(provider.get("origin") or ""))
    return int(found[2]) if found and int(found[2]) in DEMO_PORTS else None


def authorities(configured: str) -> str:
    """The configured bundle, or this machine's where that file does not exist."""
    usual = [os.environ.get("SSL_CERT_FILE"), configured, ssl.get_default_verify_paths().cafile]
    others = ["/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
    return next((place for place in usual + others if place and Path(place).is_file()), configured)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As Helm does it: mappings by member, everything else replaced."""
    whole = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both else value
    return whole


def shown(path: Path) -> str:
    """Relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
