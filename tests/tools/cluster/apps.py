"""The image of the applications in the tests: this Python with the official SDKs, Node with OpenAI's, curl, a shell; Java and Go, where
this machine has them.

It is made of what lies on this machine, once, into the cache; no registry is asked for images.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fetch
from archive import Image, write_archive
from image import libraries

NAME = "local/apps:1"
NODE_PACKAGES = {"openai": "7.57.0"}
# Of the standard library and the installed packages, what no application needs.
LEFT_OUT = {
    "test", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo", "site-packages", "envoy", "pip", "setuptools", "_pytest",
    "pygments", "tests",
}
PROGRAMS = ["curl", "node"]
# What is needed to make it.
TOOLS = [*PROGRAMS, "npm"]
# Language: what it takes, its program here, and how that is run in the image.
COMPILED = {
    "java": (["java", "javac", "jlink"], "Chat.java", ["/java/bin/java", "-cp", "/java/classes", "Chat"]),
    "go": (["go"], "chat.go", ["/usr/bin/chat-go"]),
}


def key() -> str:
    """Of everything that decides what is in the image."""
    constraints = (fetch.ROOT / "tests/constraints.txt").read_bytes()
    node = subprocess.run(["node", "--version"], capture_output=True, check=True).stdout
    sources = [Path(__file__).with_name(COMPILED[language][1]).read_bytes() for language in languages()]
    what = [*sources, constraints, node, sys.version.encode(), repr(NODE_PACKAGES).encode(), Path(__file__).read_bytes()]
    return hashlib.sha256(b"|".join(what)).hexdigest()[:12]


def languages() -> list[str]:
    return [language for language, (tools, _, _) in COMPILED.items() if all(map(shutil.which, tools))]


def archive() -> Path:
    place = fetch.CACHE / f"apps-{key()}.tar"
    with fetch.locked(place):
        if not place.exists():
            fetch.say("the image of the tests' applications")
            with tempfile.TemporaryDirectory(dir=fetch.CACHE, prefix=".apps-") as scratch:
                root = Path(scratch) / "root"
                lay_out(root)
                write_archive(place, Image(NAME, [root], ["/bin/sleep"], ["2147483647"], environment={"PATH": "/usr/bin:/bin"}))
    return place


def lay_out(root: Path) -> None:
    for name in ("tmp", "proc", "sys", "dev", "etc", "run", "usr/bin", "bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n")
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "sleep", "ls", "kill", "ps", "wget", "id", "true", "nslookup"):
        (root / f"bin/{name}").symlink_to("busybox")
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    # Where it was built to be: it finds its library by that path.
    place = root / prefix.relative_to("/")
    copy(prefix / "lib" / version, place / "lib" / version)
    site = Path(sys.prefix) / "lib" / version / "site-packages"
    copy(site, place / "lib" / version / "site-packages")
    python = prefix / "bin" / version
    files = [python, *(Path(shutil.which(name) or "").resolve() for name in PROGRAMS)]
    for program in files:
        put(program, root)
        for library in libraries(program):
            put(library, root)
    for extension in place.rglob("*.so"):
        for library in libraries(Path("/") / extension.relative_to(root)) if (Path("/") / extension.relative_to(root)).exists() else ():
            put(library, root)
    for program in files:
        name = "python" if program == python else program.name
        if not (root / "usr/bin" / name).exists():
            (root / "usr/bin" / name).symlink_to(program)
    for language in languages():
        compile_program(language, root)
    packages = [f"{name}@{version}" for name, version in NODE_PACKAGES.items()]
    fetch.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(root / "node"), *packages])


def compile_program(language: str, root: Path) -> None:
    source = str(Path(__file__).with_name(COMPILED[language][1]))
    if language == "go":
        fetch.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(root / "usr/bin/chat-go"), source], CGO_ENABLED="0")
        return
    # Of Java only what the program takes: a twentieth of it.
    modules = "java.base,java.net.http,jdk.crypto.ec"
    fetch.run(["jlink", "--add-modules", modules, "--strip-java-debug-attributes", "--no-man-pages", "--no-header-files", "--output", str(root / "java")])
    fetch.run(["javac", "-d", str(root / "java/classes"), source])
    for program in (root / "java/bin/java", *(root / "java/lib").rglob("*.so")):
        for library in libraries(program):
            if not library.is_relative_to(root):
                put(library, root)


def copy(source: Path, target: Path) -> None:
    def unneeded(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name in LEFT_OUT or re.match(r"config-\d|.*\.dist-info$|.*\.a$", name)
                and not name.endswith(".dist-info")]

    shutil.copytree(source, target, ignore=unneeded, dirs_exist_ok=True, symlinks=True)


def put(file: Path, root: Path) -> None:
    """At the same path as here, with what it is a link to."""
    target = root / file.relative_to("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.resolve(), target)


if __name__ == "__main__":
    print(os.fspath(archive()))
