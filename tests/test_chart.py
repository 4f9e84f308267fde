"""The chart: envoy/ is its rendering, Envoy accepts what it renders, and it refuses what it should, all faults at once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/tools"))

import render  # noqa: E402

WASM = os.environ.get("ATTACHE_WASM") or str(ROOT / ".attache/attache.wasm")
ENVOY = os.environ.get("ENVOY") or str(Path(sys.executable).parent / "envoy")
TABLE = json.loads((ROOT / "helm/files/providers.json").read_text())


def test_envoy_directory_is_the_rendering_of_its_values() -> None:
    rendered = render.render(["-f", str(ROOT / "envoy/values.yaml")])
    lying = {file.name: file.read_text() for file in (ROOT / "envoy").glob("*.yaml") if file.name != "values.yaml"}
    assert lying == rendered, "run `make chart` and read the diff"


def test_no_template_is_defined_twice() -> None:
    """Helm takes the last in silence."""
    defined = [name for file in (ROOT / "helm/templates").rglob("*") if file.is_file() for name in re.findall(r'define "([^"]+)"', file.read_text())]
    assert sorted(defined) == sorted(set(defined))


def test_rendering_is_deterministic(tmp_path: Path) -> None:
    assert rendering(tmp_path, {}) == rendering(tmp_path, {})


@pytest.mark.parametrize("values", ["laptop", "defaults", "every row", "passthrough", "keys", "fleet", "fleet by address"])
def test_envoy_accepts(values: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "laptop": yaml.safe_load((ROOT / "envoy/values.yaml").read_text()),
        "defaults": {},
        "every row": gateway([{"name": name} for name in TABLE]),
        "keys": gateway([{"name": "openai", "keys": [{"name": "a"}, {"name": "1e3"}]}, {"name": "on", "provider": "openai"}]),
        "fleet": fleet({"address": "ratelimit.shared.svc:8081", "tls": True}),
        "fleet by address": fleet({"address": "[::1]:8081"}),
        "passthrough": gateway(
            [
                {"name": "by-name", "provider": "openai", "origin": "http://vllm.models.svc:8000/v1", "credentials": "passthrough"},
                {"name": "by-address", "provider": "openai", "origin": "https://[::1]:8443", "credentials": "passthrough"},
            ]
        ),
    }[values]
    validated = validate(tmp_path, given)
    assert validated.returncode == 0, validated.stderr


def fleet(address: dict[str, Any]) -> dict[str, Any]:
    budget = {"name": "b", "limit": {"tokens": 5}, "window": {"calendar": "month"}, "scope": "fleet"}
    given = gateway([{"name": "openai"}])
    return {"fleet": address, "gateway": given["gateway"] | {"fleet": {"onUnavailable": "closed"}, "budgets": [budget]}}


def test_the_fleets_service_is_a_cluster_where_its_address_says(tmp_path: Path) -> None:
    assert "fleet" not in clusters_of(rendering(tmp_path, {}))
    cluster = clusters_of(rendering(tmp_path, fleet({"address": "ratelimit.shared.svc:8081", "tls": True})))["fleet"]
    assert (cluster["type"], cluster["transport_socket"]["typed_config"]["sni"]) == ("STRICT_DNS", "ratelimit.shared.svc")
    cluster = clusters_of(rendering(tmp_path, fleet({"address": "[::1]:8081"})))["fleet"]
    assert cluster["type"] == "STATIC" and "transport_socket" not in cluster
    assert "fleet.address: `gateway.fleet` needs" in refusal(tmp_path, fleet({"address": ""}))
    assert "fleet.address: expected `host:port`, found `here`" in refusal(tmp_path, fleet({"address": "here"}))


def test_the_services_configuration_in_the_values_is_the_one_that_is_tested() -> None:
    comment = re.findall(r"^#   (.*\n)", (ROOT / "helm/values.yaml").read_text(), re.M)
    told = yaml.safe_load("".join(comment[comment.index("domain: attache\n"):]))
    source = (ROOT / "tests/ratelimit.py").read_text()
    units = re.search(r"^UNITS = (.+)$", source, re.M)[1]
    assert [one["key"] for one in told["descriptors"]] == json.loads(units)
    assert all(one["rate_limit"] == {"unit": one["key"], "requests_per_unit": 2**32 - 1} for one in told["descriptors"])


def test_filter_configuration_is_json_with_the_gateway_verbatim(tmp_path: Path) -> None:
    """A model may have any name: YAML's own ideas of `on`, `1e3` and `null` do not reach the filter."""
    odd = ["on", "1e3", "null", "y", "0x10", "007", "ünï", "a: b", "{{ x }}", "quote\"d", "<&>", "*", "\x01", "\x7f", "\x85", "\x9f", "\u2028", "\uffff"]
    given = gateway([{"name": "openai"}], models=odd)
    resource = yaml.safe_load(rendering(tmp_path, given)["gateway.yaml"])["resources"][0]
    configuration = resource["typed_config"]["config"]["configuration"]
    assert configuration["@type"].endswith("StringValue")
    limits = {"body": 64 << 20, "replay": 32 << 20, "queue": 60_000}
    assert json.loads(configuration["value"]) == {"role": "gateway", "limits": limits, **given}


def test_a_peer_that_nobody_verifies_is_no_key_of_a_budget(tmp_path: Path) -> None:
    given = gateway([{"name": "openai"}])
    given["gateway"]["budgets"] = [{"name": "b", "limit": {"concurrent": 1}, "per": ["peer"]}]
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": {"common_tls_context": {"tls_certificates": []}}}
    told = refusal(tmp_path, given | {"listener": {"transportSocket": socket}})
    assert "gateway.budgets[0]: it is kept by `peer`, and no client's certificate is verified" in told, told
    socket["typed_config"]["common_tls_context"]["validation_context"] = {"trusted_ca": {"filename": "/ca.pem"}}
    rendering(tmp_path, given | {"listener": {"transportSocket": socket}})


def test_origin_decides_address_and_trust(tmp_path: Path) -> None:
    given = gateway(
        [
            {"name": "public", "provider": "openai", "origin": "https://llm.example:8443/prefix"},
            {"name": "private", "provider": "openai", "origin": "http://localhost"},
            {"name": "address", "provider": "openai", "origin": "http://[::1]:8000"},
        ]
    )
    clusters = clusters_of(rendering(tmp_path, given))
    public, private, address = (clusters[f"origin.{name}"] for name in ("public", "private", "address"))
    assert places(public) == ("LOGICAL_DNS", "llm.example", 8443)
    tls = public["transport_socket"]["typed_config"]
    assert tls["sni"] == "llm.example"
    names = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "DNS", "matcher": {"exact": "llm.example"}}]
    assert places(private) == ("LOGICAL_DNS", "localhost", 80) and "transport_socket" not in private
    assert places(address) == ("STATIC", "::1", 8000)


@pytest.mark.parametrize("origin, whole", [
    ("https://api.example.com", True), ("https://api.example.com.", True), ("https://llm.models.svc", False), ("https://llm:8443", False),
    ("https://llm.models.svc.cluster.local", True), ("http://llm.models", False),
])
def test_short_names_of_a_cluster_are_searched_for(origin: str, whole: bool, tmp_path: Path) -> None:
    cluster = clusters_of(rendering(tmp_path, gateway([{"name": "own", "provider": "openai", "origin": origin}])))["origin.own"]
    assert cluster["typed_dns_resolver_config"]["typed_config"]["dns_resolver_options"] == {"no_default_search_domain": whole}


def test_key_goes_where_its_row_says_and_nowhere_for_passthrough(tmp_path: Path) -> None:
    given = gateway([{"name": name} for name in TABLE] + [{"name": "own", "provider": "openai", "credentials": "passthrough"}])
    files = rendering(tmp_path, given)
    clusters = clusters_of(files)
    for name in [*TABLE, "own"]:
        injected = injectors(clusters[name])
        assert (f"secret-{name}.yaml" in files) == bool(injected) == (name != "own")
        for one in injected:
            assert (one["header"], one.get("header_value_prefix", "")) == tuple(TABLE[name]["credential"].values())


def test_each_key_is_a_cluster_with_a_file_of_its_own(tmp_path: Path) -> None:
    keys = [{"name": "a", "weight": 2}, {"name": "b"}]
    files = rendering(tmp_path, gateway([{"name": "openai", "keys": keys}, {"name": "gemini"}]))
    assert {file for file in files if file.startswith("secret-")} == {
        "secret-openai.a.yaml", "secret-openai.b.yaml", "secret-gemini.yaml"
    }
    secret = yaml.safe_load(files["secret-openai.b.yaml"])["resources"][0]
    assert (secret["name"], secret["generic_secret"]["secret"]["filename"]) == ("openai.b", "/etc/attache-keys/openai.b")
    clusters = clusters_of(files)
    assert "openai" not in clusters and "bare.openai" not in clusters
    for name in ("openai.a", "openai.b", "bare.openai.a", "bare.openai.b"):
        assert clusters[name]["cluster_type"]["typed_config"]["clusters"] == ["origin.openai", "nowhere"]
        (injected,) = injectors(clusters[name])
        assert injected["credential"]["name"] == name.removeprefix("bare.")
    assert set(matched(files)) == {"hop/", "openai.a/", "openai.b/", "gemini/"}


@pytest.mark.parametrize(
    "given, told",
    [
        ({"nope": 1}, ["nope"]),
        ({"listener": {"port": 70000}}, ["listener.port"]),
        ({"listener": {"prot": 1}}, ["prot"]),
        ({"bufferLimitBytes": "32Mi"}, ["bufferLimitBytes"]),
        ({"replayLimitBytes": "32Mi"}, ["replayLimitBytes"]),
        ({"gateway": {"rotes": []}}, ["gateway.rotes: unknown member; did you mean `routes`?"]),
        (
            {"gateway": {"providers": [], "routes": [{"model": "a", "firstToken": 5, "targets": []}]}},
            [
                "config: 4 faults",
                "gateway.routes[0].model: unknown member; did you mean `models`?",
                "gateway.routes[0].models: missing",
                "gateway.routes[0].firstToken: got number, want string. How long",
                "Such as 500ms",
                "gateway.routes[0].targets: ",
            ],
        ),
    ],
)
def test_schema_refuses(given: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    message = refusal(tmp_path, given)
    assert all(word in message for word in told), message


def test_faults_come_all_at_once_with_path_and_hint(tmp_path: Path) -> None:
    providers = [{"name": "anthropc"}, {"name": "openai", "origin": "http://x:y"}, {"name": "openai"}]
    given = gateway([*providers, {"name": "groq", "origin": "http://x:70000"}], provider="opnai")
    message = refusal(tmp_path, given)
    assert message.splitlines()[0] == "config: 5 faults"
    assert "gateway.providers[0].name: unknown provider `anthropc`; did you mean `anthropic`?" in message
    assert "gateway.providers[1].origin: expected `http(s)://host[:port][/prefix]`, found `http://x:y`" in message
    assert "gateway.providers[2].name: a second provider named `openai`" in message
    assert "gateway.providers[3].origin: port 70000 is not between 1 and 65535" in message
    assert "gateway.routes[0].targets[0].provider: unknown provider `opnai`; did you mean `openai`?" in message
    assert "templates/" not in message


def test_faults_of_keys_are_told(tmp_path: Path) -> None:
    two = [{"name": "a"}, {"name": "a"}]
    given = [{"name": "openai", "keys": two}, {"name": "groq", "credentials": "passthrough", "keys": two[:1]}]
    message = refusal(tmp_path, gateway(given))
    assert message.splitlines()[0] == "config: 2 faults"
    assert "gateway.providers[0].keys[1].name: a second key named `a`; names must differ" in message
    assert "gateway.providers[1].keys: no key is used with `credentials: passthrough`" in message
    assert "providers[0].keys[0].name" in refusal(tmp_path, gateway([{"name": "openai", "keys": [{"name": "a.b"}]}]))


def test_names_of_the_gateways_own_clusters_are_taken(tmp_path: Path) -> None:
    message = refusal(tmp_path, gateway([{"name": "hop", "provider": "openai"}, {"name": "origin", "provider": "openai"}]))
    assert message.splitlines()[0] == "config: 2 faults"
    assert "gateway.providers[1].name: `origin` is a name of the gateway's own; take another" in message


def test_an_attempt_can_be_made_where_no_name_resolves(tmp_path: Path) -> None:
    """Envoy answers by itself where a cluster has no host; the place that refuses connections is a host."""
    clusters = clusters_of(rendering(tmp_path, gateway([{"name": "openai"}])))
    assert clusters["openai"]["cluster_type"]["typed_config"]["clusters"] == ["origin.openai", "nowhere"]
    assert places(clusters["nowhere"]) == ("STATIC", "127.0.0.1", 0)
    assert "load_assignment" not in clusters["none"]


def test_the_hop_has_the_key_and_can_be_ended(tmp_path: Path) -> None:
    """Requests are rewritten once, in `hop`; the listener that sends on to `bare.*` is inside Envoy, and never tries again."""
    files = rendering(tmp_path, gateway([{"name": "openai"}, {"name": "own", "provider": "openai", "credentials": "passthrough"}]))
    clusters = clusters_of(files)
    assert filters(clusters["hop"]) == ["attache", "envoy.filters.http.upstream_codec"]
    assert filters(clusters["bare.openai"]) == filters(clusters["openai"])[1:]
    assert injectors(clusters["bare.openai"]) == injectors(clusters["openai"]) and not injectors(clusters["bare.own"])
    listener = yaml.safe_load(files["envoy.yaml"])["static_resources"]["listeners"][1]
    assert (listener["name"], listener["internal_listener"]) == ("hop", {}) and "address" not in listener
    wasm, connections = (one["typed_config"] for one in listener["filter_chains"][0]["filters"])
    (route,) = connections["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"] == {"cluster_header": "x-attache-cluster", "timeout": "0s"}
    # An answer with a length, or in chunks, could not be ended before its end.
    assert connections["http_protocol_options"] == {"accept_http_10": True}
    assert "content-length" in route["response_headers_to_remove"]
    # In another VM the upstream filter would not reach it.
    (upstream,) = (one["typed_config"]["config"] for one in http_filters(clusters["hop"]) if one["name"] == "attache")
    assert wasm["@type"].endswith("filters.network.wasm.v3.Wasm") and wasm["config"]["root_id"] == "hop"
    assert wasm["config"]["vm_config"] == upstream["vm_config"]


def gateway(providers: list[dict[str, Any]], models: list[str] | None = None, provider: str | None = None) -> dict[str, Any]:
    target = {"provider": provider or providers[0]["name"]}
    return {"gateway": {"providers": providers, "routes": [{"models": models or ["*"], "targets": [target]}]}}


def rendering(folder: Path, given: dict[str, Any]) -> dict[str, str]:
    file = folder / "values.yaml"
    # JSON, as YAML writers differ about words such as `y`.
    file.write_text(json.dumps(given))
    return render.render(["-f", str(file)])


def refusal(folder: Path, given: dict[str, Any]) -> str:
    with pytest.raises(render.Refused) as refused:
        rendering(folder, given)
    return str(refused.value)


def validate(folder: Path, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Envoy's opinion, with paths that exist here; the authorities are not needed to exist anywhere."""
    keys, config, bundle = folder / "keys", folder / "config", folder / "authorities.pem"
    keys.mkdir()
    bundle.write_text(authority())
    paths = {"wasm": WASM, "keys": str(keys), "config": str(config)}
    render.write(rendering(folder, {**given, "paths": paths, "tls": {"caBundle": str(bundle)}}), config)
    command = [ENVOY, "--mode", "validate", "--log-level", "warning", "-c", str(config / "envoy.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def authority() -> str:
    """Some certificate authority: the bundle that comes with the SDKs' HTTP client."""
    import certifi

    return Path(certifi.where()).read_text()


def clusters_of(files: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {cluster["name"]: cluster for cluster in yaml.safe_load(files["envoy.yaml"])["static_resources"]["clusters"]}


def matched(files: dict[str, str]) -> dict[str, str]:
    """The beginnings that the route's matcher knows, and their clusters."""
    listener = yaml.safe_load(files["envoy.yaml"])["static_resources"]["listeners"][0]
    connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = connections["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    specifier = route["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
    entries = specifier["cluster_matcher"]["matcher_tree"]["prefix_match_map"]["map"]
    return {begin: entry["action"]["typed_config"]["cluster"] for begin, entry in entries.items()}


def places(cluster: dict[str, Any]) -> tuple[str, str, int]:
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    address = endpoint["address"]["socket_address"]
    return cluster["type"], address["address"], address["port_value"]


def http_filters(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["http_filters"]


def filters(cluster: dict[str, Any]) -> list[str]:
    return [one["name"] for one in http_filters(cluster)]


def injectors(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    found = [one for one in http_filters(cluster) if one["name"].endswith("credential_injector")]
    return [one["typed_config"]["credential"]["typed_config"] for one in found]
