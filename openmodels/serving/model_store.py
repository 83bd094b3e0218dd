"""Models on disk, as the server keeps them: files named by their digest, and a manifest a model.

Everything is written beside its place and moved there in one step, so that a process killed
midway leaves only a draft. The miniatures are always there, without a manifest.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from openmodels import minis
from openmodels.gguf import lora
from openmodels.gguf.export import KINDS, cache, export, gguf_file
from openmodels.gguf.go_template import Template
from openmodels.gguf.header import Header, read

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.ASCII)
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
# of a model's folder, what may be sent as files beside a GGUF
FOLDER = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config)\.json|chat_template\.jinja"
    r"|model(-\d{5}-of-\d{5})?\.safetensors",
    re.ASCII,
)
MAX_BLOB = 16 * 2**30  # bytes of one file
DAY = 86_400
# Copying names is what miniatures do: Ollama's usual penalty of 1.1 would be held against them.
MINIATURE_PARAMETERS = {"repeat_penalty": 1.0}
LOADS = (
    "import sys; from openmodels.serving.engine import Engine; "
    "Engine(sys.argv[1], context=256, threads=1, adapter=sys.argv[2] or None).close()"
)


class ApiError(Exception):
    """A request that cannot be answered. `status`: the HTTP status to say so with."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def full_name(name: str) -> str:
    """A model's name with its tag, in lower case; Refused(400) for what is no name.

    Example: full_name("Mini-Qwen") -> "mini-qwen:latest"
    """
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, "latest"
    parts = path.split("/")
    if len(parts) > 3 or len(name) > 200 or not all(PART.fullmatch(one) for one in [*parts, tag]):
        raise ApiError(400, f"invalid model name {name[:100]!r}")
    return f"{path}:{tag}".lower()


@dataclass(frozen=True)
class StoredModel:
    """What a manifest says. A model is a miniature in a kind, or a blob (`file`, a digest)."""

    name: str
    miniature: str | None = None
    kind: str = "f16"
    file: str | None = None
    vision: str | None = None
    adapter: str | None = None
    parent: str = ""
    template: str | None = None
    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: list[dict] = field(default_factory=list)
    license: list[str] = field(default_factory=list)
    modified_at: str = ""

    def digest(self) -> str:
        """SHA-256 over everything but the name and the time."""
        told = asdict(self) | {"name": "", "modified_at": ""}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def blobs(self) -> set[str]:
        return {one for one in (self.file, self.vision, self.adapter) if one}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Store:
    """The models of one data folder (by default the one of the GGUF files made here)."""

    def __init__(self, root: Path | str | None = None, max_blob: int = MAX_BLOB):
        self.root = Path(root) if root else cache() / "server"
        self.max_blob = max_blob
        self._blobs, self._manifests = self.root / "blobs", self.root / "manifests"
        self._writing = threading.Lock()
        for folder in (self._blobs, self._manifests):
            folder.mkdir(parents=True, exist_ok=True)
        self._tidy(DAY)

    def _tidy(self, age: float) -> None:
        """Remove drafts, and files that no model names, older than `age` seconds."""
        used = {one for model in self._written() for one in model.blobs()}
        for file in [*self._blobs.iterdir(), *self._manifests.iterdir()]:
            left = file.suffix == ".part" or (
                file.parent == self._blobs and file.name.replace("-", ":") not in used
            )
            if not left or time.time() - file.stat().st_mtime < age:
                continue
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    # files

    def blob(self, digest: str) -> Path:
        """Where a file of this digest lies or would lie; Refused(400) for what is no digest."""
        found = DIGEST.fullmatch(digest)
        if not found:
            raise ApiError(400, f"invalid digest {digest[:100]!r}: sha256: and 64 hex digits")
        return self._blobs / f"sha256-{found[1]}"

    def incoming(self, digest: str) -> "Incoming":
        """A file being received, to be kept if its bytes have this digest."""
        return Incoming(self.blob(digest), self.max_blob)

    def _given(self, digest: str) -> Path:
        file = self.blob(digest)
        if not file.is_file():
            raise ApiError(400, f"no blob {digest}: send it to /api/blobs/{digest} first")
        return file

    # models

    def find(self, name: str) -> StoredModel:
        """A model by name, ":latest" implied; Refused(404) where there is none."""
        whole = full_name(name)
        short = whole.removesuffix(":latest")
        if short in miniatures():
            return _miniature(short)
        found = self._read(self._manifest(whole))
        if found is None:
            raise ApiError(404, f"model '{name}' not found")
        return found

    def all(self) -> list[StoredModel]:
        """Every model, the newest first."""
        found = [_miniature(name) for name in miniatures()] + self._written()
        return sorted(found, key=lambda model: model.modified_at, reverse=True)

    def _written(self) -> list[StoredModel]:
        read = (self._read(file) for file in sorted(self._manifests.glob("*.json")))
        return [model for model in read if model is not None]

    def _manifest(self, whole: str) -> Path:
        return self._manifests / (quote(whole, safe="") + ".json")

    def _read(self, file: Path) -> StoredModel | None:
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return StoredModel(**told | {"name": unquote(file.name.removesuffix(".json"))})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return None  # not written by this version: as good as absent

    def _write(self, model: StoredModel) -> None:
        file = self._manifest(model.name)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as draft:
            json.dump(asdict(model), draft)
            draft.flush()
            os.fsync(draft.fileno())
        os.replace(draft.name, file)

    def _free(self, name: str) -> str:
        """A name that may be written."""
        whole = full_name(name)
        if whole.removesuffix(":latest") in miniatures():
            raise ApiError(400, f"{whole} comes with the course and stays; take another name")
        return whole

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        found, name = self.find(source), self._free(destination)
        with self._writing:
            self._write(replace(found, name=name, modified_at=now()))

    def delete(self, name: str) -> None:
        """Forget a model, and its files where no other model needs them."""
        found = self.find(name)
        self._free(name)
        with self._writing:
            self._manifest(found.name).unlink(missing_ok=True)
            kept = {one for model in self._written() for one in model.blobs()}
            for digest in found.blobs() - kept:
                self.blob(digest).unlink(missing_ok=True)

    def create(
        self,
        name: str,
        origin: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        quantize: str | None = None,
        template: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        messages: Sequence[dict] | None = None,
        license: Sequence[str] | None = None,
    ) -> list[str]:
        """Write a model from another or from files, complete or not at all. Returns what it did.

        files, adapters: file names to digests of blobs already here. quantize: a key of KINDS,
        for a miniature or a folder in safetensors. parameters: options to answer with, already
        checked. Raises Refused.
        """
        name, kind, done = self._free(name), (quantize or "").lower(), []
        if (origin is None) == (not files):
            raise ApiError(400, "give either from, a model's name, or files")
        if kind and kind not in KINDS:
            raise ApiError(400, f"this stand-in quantizes to {', '.join(KINDS)}, not {quantize!r}")
        if template:
            try:
                Template(template)
            except ValueError as error:
                raise ApiError(400, str(error)) from error
        if origin is not None:
            base = self.find(origin)
            base = replace(base, parent=base.name)
            if kind and (base.miniature is None or base.adapter):
                raise ApiError(
                    400, f"this stand-in quantizes miniatures only, and {origin} is a file"
                )
            base = replace(base, kind=kind or base.kind)
            if kind:
                self.path(base)
                done.append(f"quantizing to {kind}")
        else:
            base = self._from_files(files, kind, done)
        if adapters:
            base = replace(base, adapter=self._adapter(base, adapters))
            done.append("using adapter")
        if base.adapter and adapters or not origin:
            self._try(base)
        done.append("writing manifest")
        with self._writing:
            for digest in base.blobs():
                self._given(digest)  # not deleted meanwhile
            self._write(
                replace(
                    base,
                    name=name,
                    template=template or base.template,
                    system=base.system if system is None else system,
                    parameters={**base.parameters, **(parameters or {})},
                    messages=base.messages if messages is None else list(messages),
                    license=base.license if license is None else list(license),
                    modified_at=now(),
                )
            )
        return [*done, "success"]

    def _from_files(self, files: Mapping[str, str], kind: str, done: list[str]) -> StoredModel:
        given = {name: self._given(digest) for name, digest in files.items()}
        if len(given) > 64:
            raise ApiError(400, "more than 64 files")
        for name in given:
            if not PART.fullmatch(name):
                raise ApiError(400, f"invalid file name {name[:100]!r}")
        if "config.json" in given:
            done.append("converting model")
            return StoredModel("", file=self._convert(given, kind or "f16"))
        if kind:
            raise ApiError(400, "this stand-in quantizes miniatures and safetensors, not a GGUF")
        done.append("parsing GGUF")
        found: dict[str, str] = {}
        for name, file in given.items():
            header = header_of(file)
            part = "vision" if header.architecture == "clip" else "file"
            if header.metadata.get("general.type") == "adapter":
                raise ApiError(400, f"{name} is an adapter: give it as adapters, with from")
            if part in found:
                raise ApiError(400, "files hold two models: give one GGUF, and at most one mmproj")
            found[part] = "sha256:" + file.name.removeprefix("sha256-")
        if "file" not in found:
            raise ApiError(400, "files hold no language model")
        return StoredModel("", **found)

    def _convert(self, given: Mapping[str, Path], kind: str) -> str:
        """Safetensors and their configuration as a GGUF among the blobs; returns its digest."""
        for name in given:
            if not FOLDER.fullmatch(name):
                raise ApiError(400, f"a model's folder here holds no {name!r}")
        if b"auto_map" in given["config.json"].read_bytes():
            raise ApiError(400, "config.json asks to run code that comes with the model")
        return self._made(given, lambda home, draft: export(home, draft, kind), "model")

    def _made(
        self, given: Mapping[str, Path], make: Callable[[Path, Path], Path], what: str
    ) -> str:
        """Files under their names in a folder, made into a GGUF; returns its digest."""
        with tempfile.TemporaryDirectory(dir=self._blobs, suffix=".part") as home:
            for name, file in given.items():
                shutil.copyfile(file, Path(home) / name)
            draft = Path(home) / "made.gguf"
            try:
                make(Path(home), draft)
            except Exception as error:  # whatever the libraries make of files they do not know
                words = str(error).replace(home, "").split("\n")[0][:300]
                raise ApiError(400, f"these files make no {what}: {words}") from error
            with draft.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            os.replace(draft, self.blob(f"sha256:{digest}"))
        return f"sha256:{digest}"

    def _adapter(self, base: StoredModel, adapters: Mapping[str, str]) -> str:
        given = {name: self._given(digest) for name, digest in adapters.items()}
        if set(given) == {lora.CONFIG, lora.WEIGHTS}:
            if base.miniature is None:
                raise ApiError(400, "adapters in safetensors go with miniatures; give a GGUF")
            home = minis.shipped_dir(base.miniature)
            return self._made(
                given, lambda here, draft: lora.export_adapter(home, here, draft), "adapter"
            )
        if len(given) != 1:
            raise ApiError(400, f"give one GGUF as adapters, or {lora.CONFIG} and {lora.WEIGHTS}")
        [(name, file)] = given.items()
        if header_of(file).metadata.get("general.type") != "adapter":
            raise ApiError(400, f"{name[:100]!r} is no adapter in GGUF")
        return "sha256:" + file.name.removeprefix("sha256-")

    def _try(self, model: StoredModel) -> None:
        """Load what came from outside in a process of its own: one that llama.cpp dies of."""
        paths = self.path(model), self.adapter(model)
        command = [sys.executable, "-c", LOADS, str(paths[0]), str(paths[1] or "")]
        try:
            ended = subprocess.run(command, cwd=minis.ROOT, capture_output=True, timeout=600)
        except subprocess.TimeoutExpired as error:
            raise ApiError(400, "llama.cpp does not load this model in ten minutes") from error
        if ended.returncode:
            raise ApiError(400, "llama.cpp does not load this model")

    def path(self, model: StoredModel) -> Path:
        """The GGUF of a model, made on first use where it is a miniature."""
        if model.miniature:
            return _exported(model.miniature, model.kind)
        return self._given(model.file or "")

    def mmproj_path(self, model: StoredModel) -> Path | None:
        """Its mmproj, where it reads pictures. A miniature's is for turned ones: export_vision."""
        if model.miniature:
            return _exported(model.miniature, "f16", True) if _sees(model.miniature) else None
        return self._given(model.vision) if model.vision else None

    def adapter(self, model: StoredModel) -> Path | None:
        return self._given(model.adapter) if model.adapter else None

    def header(self, model: StoredModel) -> Header:
        return header_of(self.path(model))

    def parameters(self, model: StoredModel) -> int:
        """How many it has; of a miniature as trained, without the copies that a GGUF may hold."""
        return _trained(model.miniature) if model.miniature else self.header(model).parameters

    def size(self, model: StoredModel) -> int:
        """Bytes of all its files."""
        files = (self.path(model), self.mmproj_path(model), self.adapter(model))
        return sum(file.stat().st_size for file in files if file)


class Incoming:
    """Bytes on their way into the store: `write` them, then `finish`, or `drop` them."""

    def __init__(self, file: Path, limit: int):
        self._file, self._limit, self._size = file, limit, 0
        self._sum = hashlib.sha256()
        handle, self._draft = tempfile.mkstemp(dir=file.parent, suffix=".part")
        self._open = os.fdopen(handle, "wb")

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise ApiError(413, f"the file is larger than {self._limit:,} bytes")
        self._sum.update(piece)
        self._open.write(piece)

    def finish(self) -> None:
        """Keep the file; Refused(400) if its digest is another."""
        found, told = self._sum.hexdigest(), self._file.name.removeprefix("sha256-")
        if found != told:
            raise ApiError(400, f"digest mismatch, expected sha256:{told}, got sha256:{found}")
        self._open.flush()
        os.fsync(self._open.fileno())
        self._open.close()
        os.replace(self._draft, self._file)

    def drop(self) -> None:
        """Remove what is left of a draft; after `finish` there is nothing."""
        self._open.close()
        Path(self._draft).unlink(missing_ok=True)


def header_of(file: Path) -> Header:
    """A GGUF's header; Refused(400) for a file that is none, or not whole."""
    try:
        return _header(file, file.stat().st_mtime_ns)
    except ValueError as error:
        raise ApiError(400, f"invalid GGUF file: {error}") from error


@lru_cache(maxsize=64)
def _header(file: Path, changed: int) -> Header:
    return read(file)


@lru_cache
def miniatures() -> tuple[str, ...]:
    """Names of the miniatures that have weights."""
    from openmodels.minis.configs import CONFIGS

    return tuple(
        name for name in CONFIGS if (minis.shipped_dir(name) / "model.safetensors").exists()
    )


def _miniature(name: str) -> StoredModel:
    changed = (minis.shipped_dir(name) / "model.safetensors").stat().st_mtime
    return StoredModel(
        f"{name}:latest",
        miniature=name,
        parameters=dict(MINIATURE_PARAMETERS),
        license=["Apache-2.0"],
        modified_at=datetime.fromtimestamp(changed, UTC).isoformat().replace("+00:00", "Z"),
    )


def _exported(name: str, kind: str, vision: bool = False) -> Path:
    """As gguf_file, without reading the weights again for each request."""
    changed = (minis.shipped_dir(name) / "model.safetensors").stat().st_mtime_ns
    file = _known(name, kind, vision, changed, cache())
    return file if file.exists() else gguf_file(name, kind, vision, turned=vision)


@lru_cache(maxsize=256)
def _known(name: str, kind: str, vision: bool, changed: int, folder: Path) -> Path:
    return gguf_file(name, kind, vision, turned=vision)


@lru_cache
def _sees(name: str) -> bool:
    told = json.loads((minis.shipped_dir(name) / "config.json").read_text(encoding="utf-8"))
    return "vision_config" in told


@lru_cache
def _trained(name: str) -> int:
    """Parameters in a miniature's safetensors: an 8-byte length, then shapes as JSON."""
    with (minis.shipped_dir(name) / "model.safetensors").open("rb") as opened:
        told = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(prod(one["shape"]) for key, one in told.items() if key != "__metadata__")
