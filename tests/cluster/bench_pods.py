"""What the sidecar costs a pod: time until it is ready, memory, latency in each mode. `make bench` runs it where a cluster can be.

A pod without the sidecar calls the same scripted provider over TLS by itself.
"""

import json
import statistics
import time

from certificates import Certificates
from conftest import MODES
from kube import Namespace, Pod, pod
from provider import Provider
from sidecar import memory_of
from test_life import answer

ROUNDS, REQUESTS = 3, 300
# One connection, one request after the other; milliseconds each.
CALLS = """
import http.client, json, ssl, sys, time
host, port, plain, authority = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "plain", sys.argv[4]
context = None if plain else ssl.create_default_context(cafile=authority or None)
connection = http.client.HTTPConnection(host, port) if plain else http.client.HTTPSConnection(host, port, context=context)
body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 900}]})
took = []
for number in range(int(sys.argv[5]) + 20):
    start = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", "authorization": "Bearer x"})
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    reply.read()
    took.append((time.perf_counter() - start) * 1000)
print(json.dumps(sorted(took[20:])))
"""


def test_costs(team: Namespace, quiet: Provider, certificates: Certificates) -> None:
    quiet.rule("openai", lambda seen: {"json": answer()})
    lines = [f"{'':22}{'ready, s':>10}{'rest, MB':>10}{'load, MB':>10}{'p50, ms':>10}{'p99, ms':>10}"]
    for mode in (None, *MODES):
        times, took, rest, load = [], [], "", ""
        for number in range(ROUNDS):
            name = f"bench-{(mode or 'none').lower()}-{number}"
            labels = {"attache/inject": "true" if mode else "false"}
            start = time.monotonic()
            team.create(pod(name, annotations={"attache/mode": mode} if mode else None, labels=labels))
            made = Pod(team, name).await_ready()
            times.append(time.monotonic() - start)
            if number == ROUNDS - 1:
                rest = str(memory_of(made)) if mode else ""
                took = calls(made, mode, certificates)
                load = str(memory_of(made)) if mode else ""
            made.delete()
        p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
        lines.append(f"{mode or 'without the sidecar':22}{statistics.median(times):>10.1f}{rest:>10}{load:>10}{p50:>10.2f}{p99:>10.2f}")
    print("\n" + "\n".join(lines))


def calls(made: Pod, mode: str | None, certificates: Certificates) -> list[float]:
    authority = ""
    if mode is None:
        made.write("/tmp/authority.pem", certificates.authority.read_text())
        authority = "/tmp/authority.pem"
    where = ["127.0.0.1", "10000", "plain"] if mode == "baseUrl" else ["api.openai.com", "443", "tls"]
    done = made.exec("python", "-c", CALLS, *where, authority, str(REQUESTS))
    assert done.status == 0, done
    return json.loads(done.out)
