"""What goes through the sidecar, what goes past it, and what nobody may reach."""

import json
import socketserver
import threading
from typing import Any, Iterator

import pytest

from certificates import Certificates
from cluster import Cluster
from conftest import HOSTS, MODES, SOCKET, key_of
from kube import LANE, OWN, Done, Namespace, Pod
from parts import address6, addresses
from provider import Provider
from sidecar import environment_of

TLS_MODES = [mode for mode in MODES if mode != "baseUrl"]
STREAM = """
import json, openai
chunks = openai.OpenAI(max_retries=0).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi there"}], stream=True)
print(json.dumps("".join(chunk.choices[0].delta.content or "" for chunk in chunks)))
"""


def ask(pod: Pod, url: str, *words: str) -> Done:
    return pod.exec("curl", "--silent", "--show-error", "--max-time", "20", *words, url)


def chat(pod: Pod, *words: str, **members: Any) -> Done:
    """A conversation by curl: head and body."""
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi there"}], **members})
    given = ["--include", "--header", "content-type: application/json", "--header", "authorization: Bearer own", "--data", body]
    return ask(pod, "https://api.openai.com/v1/chat/completions", *given, *words)


@pytest.mark.parametrize("mode", TLS_MODES)
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_both_versions_of_http(version: str, mode: str, pods: dict[str, Pod], quiet: Provider) -> None:
    done = chat(pods[mode], version)
    assert f"HTTP/{version[6:]} 200" in done.out and "x-attache-provider: openai" in done.out, done


@pytest.mark.parametrize("mode", TLS_MODES)
def test_what_is_no_conversation_goes_on_with_the_key(mode: str, pods: dict[str, Pod], quiet: Provider) -> None:
    quiet.rule("openai", lambda seen: {"json": {"object": "list", "data": []}})
    done = ask(pods[mode], "https://api.openai.com/v1/models?limit=1", "--header", "authorization: Bearer own")
    assert json.loads(done.out) == {"object": "list", "data": []}
    (seen,) = quiet.requests()
    assert (seen.method, seen.path, seen.header("authorization")) == ("GET", "/v1/models?limit=1", f"Bearer {key_of('openai')}")
    assert seen.header("host") == "api.openai.com"
    assert not [name for name, _ in seen.headers if name.startswith(("x-attache", "x-envoy", "x-forwarded"))], seen.headers


@pytest.mark.parametrize("mode", MODES)
def test_failover(mode: str, pods: dict[str, Pod], quiet: Provider) -> None:
    quiet.script("openai", [{"status": 500, "json": {"error": {"message": "no", "type": "server_error", "code": None}}}])
    done = pods[mode].python(STREAM)
    assert json.loads(done).startswith("Hello from the Anthropic demo provider")
    assert [seen.provider for seen in quiet.requests()] == ["openai", "anthropic"]


@pytest.mark.parametrize("mode", TLS_MODES)
def test_others_are_left_alone(mode: str, pods: dict[str, Pod], quiet: Provider, certificates: Certificates) -> None:
    """A host that is no provider shows its own certificate, not the sidecar's."""
    pods[mode].write("/tmp/authority.pem", certificates.authority.read_text())
    done = ask(pods[mode], "https://other.test/v1/chat/completions", "--cacert", "/tmp/authority.pem", "--data", "{}")
    assert done.status == 0, (done, pods[mode].log()[-2000:])
    (seen,) = quiet.requests()
    assert seen.provider == "other"
    refused = ask(pods[mode], "https://api.openai.com/v1/models", "--cacert", "/tmp/authority.pem")
    assert refused.status == 60, refused


def test_an_address_without_a_name_is_caught(pods: dict[str, Pod], quiet: Provider) -> None:
    """In `iptables` an application that knows the address, too, goes through the sidecar; in `hosts` it does not."""
    direct = ["--resolve", f"api.openai.com:443:{addresses(LANE)['api.openai.com']}"]
    assert "x-attache-provider: openai" in chat(pods["iptables"], *direct).out
    # Past the sidecar it meets the provider's own certificate, of an authority that it does not know.
    assert chat(pods["hosts"], *direct).status == 60


def test_a_wildcard(pods: dict[str, Pod], quiet: Provider) -> None:
    """In `iptables` every name that it fits is answered for; `hosts` can lead no such name, and leaves it alone."""
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi there"}]})
    for name, caught in (("any.wild.test", True), ("other.wild.test", True), ("wild.test", False)):
        words = ["--resolve", f"{name}:443:{addresses(LANE)['other.test']}", "--include", "--header", "content-type: application/json", "--data", body]
        done = ask(pods["iptables"], f"https://{name}/v1/chat/completions", *words)
        assert ("x-attache-provider: openai" in done.out) == caught, (name, done)
        # What is not caught meets a certificate of an authority that it does not know.
        assert (done.status == 60) == (not caught), (name, done)
        assert ask(pods["hosts"], f"https://{name}/v1/chat/completions", *words).status == 60


@pytest.fixture
def over_ipv6(cluster: Cluster, certificates: Certificates) -> Iterator[Provider]:
    """A host that is no provider, at an address of IPv6."""
    if not OWN:
        pytest.skip("whether the cluster that was given has IPv6 is not known")
    tls = {"other": certificates.server(True, "h2", "http/1.1")}
    with Provider(["other"], {"other": 443}, tls, addresses={"other": address6(addresses(LANE)["other.test"])}) as other:
        other.rule("other", lambda seen: {"json": {"over": "IPv6"}})
        yield other


def test_ipv6_is_redirected(pods: dict[str, Pod], quiet: Provider, over_ipv6: Provider, certificates: Certificates) -> None:
    """With `interception.ipv6`: a provider's name at an address of IPv6 is caught, what is no provider's passes."""
    direct = ["--resolve", f"api.openai.com:443:[{address6(addresses(LANE)['api.openai.com'])}]"]
    assert "x-attache-provider: openai" in chat(pods["iptables"], "--ipv6", *direct).out
    pods["iptables"].write("/tmp/authority.pem", certificates.authority.read_text())
    done = ask(pods["iptables"], "https://other.test/v1/x", "--ipv6", "--resolve", f"other.test:443:[{address6(addresses(LANE)['other.test'])}]",
               "--cacert", "/tmp/authority.pem")
    assert json.loads(done.out) == {"over": "IPv6"}, done
    (seen,) = over_ipv6.requests()
    assert seen.header("host") == "other.test" and not quiet.requests("other")


def test_a_conversation_is_told_by_its_path_alone(pods: dict[str, Pod], quiet: Provider) -> None:
    """As the filter recognises it, and the route that leads to it."""
    for path in ("/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions?x=1", "/v1/messages", "/v1/messages/"):
        done = ask(pods["hosts"], f"https://api.openai.com{path}", "--include", "--request", "POST")
        assert "empty_body" in done.out or "body is empty" in done.out, (path, done.out)
    for path in ("/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models/x:streamGenerateContent?alt=sse"):
        done = ask(pods["hosts"], f"https://api.openai.com{path}", "--request", "POST")
        assert "body is empty" in done.out, (path, done.out)
    assert not quiet.requests()
    for path in ("/v1/messages/count_tokens", "/v1/chat/completions/abc", "/v1beta/models/x:countTokens", "/v1/embeddings"):
        ask(pods["hosts"], f"https://api.openai.com{path}", "--request", "POST")
    assert [seen.path for seen in quiet.requests()] == ["/v1/messages/count_tokens", "/v1/chat/completions/abc", "/v1beta/models/x:countTokens", "/v1/embeddings"]


class Echo(socketserver.StreamRequestHandler):
    """A WebSocket's opening (RFC 6455), and then every byte back."""

    def handle(self) -> None:
        context, seen = self.server.told  # type: ignore[attr-defined]
        with context.wrap_socket(self.request, server_side=True) as secure:
            head = b""
            while b"\r\n\r\n" not in head and (more := secure.recv(4096)):
                head += more
            seen.append((secure.selected_alpn_protocol(), head.decode()))
            secure.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n")
            while data := secure.recv(4096):
                secure.sendall(data.upper())


@pytest.fixture
def sockets(certificates: Certificates) -> Iterator[list[Any]]:
    seen: list[Any] = []
    server = socketserver.ThreadingTCPServer((addresses(LANE)[SOCKET], 443), Echo, bind_and_activate=False)
    server.allow_reuse_address, server.daemon_threads = True, True
    server.told = (certificates.server(True, "h2", "http/1.1"), seen)  # type: ignore[attr-defined]
    server.server_bind()
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield seen
    server.shutdown()
    server.server_close()


WEBSOCKET = f"""
import socket, ssl
raw = ssl.create_default_context().wrap_socket(socket.create_connection(("{SOCKET}", 443)), server_hostname="{SOCKET}")
raw.sendall(b"GET /v1/realtime?model=x HTTP/1.1\\r\\nhost: {SOCKET}\\r\\nconnection: Upgrade\\r\\nupgrade: websocket\\r\\nauthorization: Bearer own\\r\\n"
            b"sec-websocket-key: eA==\\r\\nsec-websocket-version: 13\\r\\n\\r\\n")
head = b""
while b"\\r\\n\\r\\n" not in head:
    head += raw.recv(4096)
print(head.split(b"\\r\\n")[0].decode())
for word in (b"hello", b"again"):
    raw.sendall(word)
    print(raw.recv(4096).decode())
"""


@pytest.mark.parametrize("mode", TLS_MODES)
def test_a_websocket_passes_through(mode: str, pods: dict[str, Pod], sockets: list[Any]) -> None:
    assert pods[mode].python(WEBSOCKET).split("\n")[:3] == ["HTTP/1.1 101 Switching Protocols", "HELLO", "AGAIN"]
    ((protocol, head),) = sockets
    assert protocol == "http/1.1" and f"Bearer {key_of('socket')}" in head and "attache" not in head


def test_only_two_pages_are_shown(pods: dict[str, Pod]) -> None:
    """The rest of the admin interface is nowhere: not on loopback, where the application is, and not outside."""
    pod = pods["hosts"]
    status = f"http://{pod.address}:9902"
    assert ask(pod, f"{status}/ready").out == "LIVE\n"
    assert "envoy_server_live" in ask(pod, f"{status}/stats/prometheus").out
    for path in ("/", "/stats", "/config_dump", "/help", "/ready/x", "/stats/prometheus/x"):
        assert ask(pod, status + path, "--include").out.startswith("HTTP/1.1 404"), path
    for path in ("/quitquitquit", "/ready", "/healthcheck/fail"):
        assert ask(pod, status + path, "--include", "--request", "POST").out.startswith("HTTP/1.1 404"), path
    assert ask(pod, "http://127.0.0.1:9901/ready").status == 7
    listening = pod.exec("cat", "/proc/net/tcp").out
    ports = {int(line.split()[1].split(":")[1], 16) for line in listening.splitlines()[1:] if line.split()[3] == "0A"}
    assert ports == {443, 9902, 10000}


def test_nothing_of_the_sidecars_is_in_the_application(pods: dict[str, Pod]) -> None:
    pod = pods["hosts"]
    assert sorted(pod.exec("ls", "/etc").out.split()) == ["attache-trust", "hostname", "hosts", "passwd", "resolv.conf"]
    assert sorted(pod.exec("ls", "/etc/attache-trust").out.split()) == ["authorities.jks", "authority.pem", "bundle.pem"]
    assert "PRIVATE" not in pod.exec("cat", "/etc/attache-trust/authority.pem", "/etc/attache-trust/bundle.pem").out
    assert pod.exec("ls", "/run/attache").status != 0


@pytest.mark.parametrize("user, reads", [(0, False), (1000, False), (1337, True)])
def test_who_reads_the_keys_where_processes_are_shared(user: int, reads: bool, team: Namespace, quiet: Provider) -> None:
    """As README says of it: the sidecar's own user does; another does not, nor root without SYS_PTRACE."""
    made = team.start(f"shared-{user}", spec={"shareProcessNamespace": True}, container={"securityContext": {"runAsUser": user, "runAsGroup": user}})
    try:
        done = made.exec("sh", "-c", "cat /proc/[0-9]*/root/etc/attache-keys/openai")
        assert (key_of("openai") in done.out) is reads, done
    finally:
        made.delete()


@pytest.mark.parametrize("mode", MODES)
def test_the_sidecar_knows_whose_it_is(mode: str, team: Namespace, pods: dict[str, Pod]) -> None:
    told = environment_of(pods[mode])
    assert told["ATTACHE_NAMESPACE"] == team.name and told["ATTACHE_SERVICE_ACCOUNT"] == "default"
    assert told["ATTACHE_LABELS"] == f"team=team-{mode.lower()}"


@pytest.fixture(scope="module")
def special(team: Namespace) -> Pod:
    """With a label that a budget is for, and streams that are delivered whole."""
    return team.start("special", labels={"team": "poor"}, annotations={"attache/delivery": "whole"})


def test_a_budget_for_one_teams_pods(special: Pod, pods: dict[str, Pod], quiet: Provider) -> None:
    """By a label that the pod has and its application cannot claim for itself."""
    answers = [chat(special, "--header", "x-team: rich", model="budgeted").out for _ in range(3)]
    assert [answer.split()[1] for answer in answers] == ["200", "200", "429"] and "budget_exceeded" in answers[2], answers
    assert [chat(pods["hosts"], model="budgeted").out.split()[1] for _ in range(3)] == ["200", "200", "200"]


def test_delivery_by_annotation(special: Pod, quiet: Provider) -> None:
    """A stream that breaks off after its beginning is asked of the next target, as the pod's streams are delivered whole."""
    begun = 'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
    quiet.script("openai", [{"chunks": [begun, {"delay": 0.1}, {"reset": True}]}])
    assert json.loads(special.python(STREAM)).startswith("Hello from the Anthropic demo provider")
    # What the client itself says goes before.
    quiet.script("openai", [{"chunks": [begun, {"delay": 0.1}, {"reset": True}]}])
    live = chat(special, "--header", "x-attache-delivery: live", "--no-buffer", stream=True)
    assert "x-attache-provider: openai" in live.out and "Hel" in live.out


def test_metrics_have_names_for_everything(pods: dict[str, Pod], quiet: Provider) -> None:
    pod = pods["hosts"]
    chat(pod)
    page = ask(pod, f"http://{pod.address}:9902/stats/prometheus").out
    counted = [line for line in page.splitlines() if line.startswith("attache_attempts{")]
    assert any('provider="openai"' in line and 'class="ok"' in line for line in counted), [l for l in page.splitlines() if "attache" in l][:50]
