"""Images as archives, made without an engine or a registry: an OCI layout with Docker's manifest beside it.

`docker load`, `podman load`, `ctr images import` and `skopeo copy oci-archive:` all take it. The same input gives the same
bytes: entries are sorted, owned by root and dated 1970.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

# Compressing Envoy takes seconds, finding it a moment.
WORTH_KEEPING = 8 << 20
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class Image:
    # With its tag.
    name: str
    # One layer of each; a later one lies over an earlier one.
    folders: list[Path]
    entrypoint: list[str]
    command: list[str] = field(default_factory=list)
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    # What is sent over networks is compressed; what a test loads at once is not.
    compress: bool = False
    # Where large compressed layers are kept for the next image that has them.
    kept: Path | None = None


@dataclass
class Blob:
    """A member of the archive, known by its content."""

    media_type: str
    data: BinaryIO
    digest: str
    size: int

    @staticmethod
    def of(media_type: str, value: object) -> "Blob":
        data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        return Blob(media_type, io.BytesIO(data), hashlib.sha256(data).hexdigest(), len(data))

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest}"


def write_archive(target: Path, image: Image) -> str:
    """Writes the archive by rename; returns the digest by which a registry would know the image."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".image-") as scratch:
        packed = [layer(folder, image, Path(scratch)) for folder in image.folders]
        layers = [blob for blob, _ in packed]
        configuration = Blob.of("application/vnd.oci.image.config.v1+json", configuration_of(image, [diff for _, diff in packed]))
        manifest = Blob.of("application/vnd.oci.image.manifest.v1+json", {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configuration.descriptor, "layers": [blob.descriptor for blob in layers],
        })
        # containerd takes the whole name from its own annotation, others read the tag in the other.
        names = {"io.containerd.image.name": qualified(image.name), "org.opencontainers.image.ref.name": image.name.rpartition(":")[2]}
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                 "manifests": [{**manifest.descriptor, "annotations": names}]}
        docker = [{"Config": configuration.path, "RepoTags": [image.name], "Layers": [blob.path for blob in layers]}]
        draft = Path(scratch) / "archive"
        with tarfile.open(draft, "w") as archive:
            add(archive, "oci-layout", Blob.of("", {"imageLayoutVersion": "1.0.0"}))
            for blob in {blob.digest: blob for blob in [*layers, configuration, manifest]}.values():
                add(archive, blob.path, blob)
            add(archive, "index.json", Blob.of("", index))
            add(archive, "manifest.json", Blob.of("", docker))
        draft.replace(target)
    return f"sha256:{manifest.digest}"


def configuration_of(image: Image, diffs: list[str]) -> dict[str, object]:
    run = {"Entrypoint": image.entrypoint, "Cmd": image.command, "User": image.user, "Labels": image.labels,
           "Env": [f"{name}={value}" for name, value in image.environment.items()], "WorkingDir": "/"}
    architecture = ARCHITECTURES.get(os.uname().machine, os.uname().machine)
    return {"architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {name: value for name, value in run.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]}}


def qualified(name: str) -> str:
    """As Docker's tools understand a short name."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def layer(folder: Path, image: Image, scratch: Path) -> tuple[Blob, str]:
    """The folder as a layer, and the digest of its uncompressed form."""
    file = tempfile.TemporaryFile(dir=scratch)
    plain = Hashing(file)
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[arg-type]
        for path in sorted(folder.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=anonymous)
    diff, kind = plain.sum.hexdigest(), "application/vnd.oci.image.layer.v1.tar"
    if not image.compress:
        return Blob(kind, file, diff, file.tell()), diff
    packed = compressed(file, image.kept / f"layer-{diff}.gz" if image.kept and file.tell() > WORTH_KEEPING else None, scratch)
    digest = hashlib.sha256()
    while piece := packed.read(1 << 20):
        digest.update(piece)
    return Blob(f"{kind}+gzip", packed, digest.hexdigest(), packed.tell()), diff


def compressed(plain: BinaryIO, kept: Path | None, scratch: Path) -> BinaryIO:
    if kept and kept.exists():
        return open(kept, "rb")
    packed = tempfile.TemporaryFile(dir=scratch)
    plain.seek(0)
    # Its header would hold the time.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0, filename="") as file:
        shutil.copyfileobj(plain, file, 1 << 20)
    packed.seek(0)
    if kept:
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".layer-", delete=False) as draft:
            shutil.copyfileobj(packed, draft, 1 << 20)
        os.replace(draft.name, kept)
        packed.seek(0)
    return packed


class Hashing:
    """A file for writing that knows the digest of what was written."""

    def __init__(self, to: BinaryIO):
        self.to, self.sum, self._at = to, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        self._at += len(data)
        self.to.write(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self.to.flush()


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def add(archive: tarfile.TarFile, name: str, blob: Blob) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = blob.size, 0o644
    blob.data.seek(0)
    archive.addfile(entry, blob.data)
