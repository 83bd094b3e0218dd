"""Stores the server's models on disk: files named by their digest, and a manifest per model.

Everything is written to a draft and moved into place in one step, so a killed process leaves
only a draft. The miniatures are always present and have no manifest.
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
from openmodels.gguf.export import KINDS, cache, export, export_vision, gguf_file
from openmodels.gguf.go_template import Template
from openmodels.gguf.header import Header, read

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.ASCII)
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
# files of a model's folder that a client may send instead of a GGUF
FOLDER = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|preprocessor_config)\.json"
    r"|chat_template\.jinja"
    r"|model(-\d{5}-of-\d{5})?\.safetensors",
    re.ASCII,
)
MAX_BLOB = 16 * 2**30  # bytes of one file
MAX_FILES = 64  # of one model
DAY = 86_400  # seconds
LOAD_SECONDS = 600  # limit for the trial load of a new file
# A penalty on repetition would punish copying names, which is the miniatures' task.
MINIATURE_PARAMETERS = {"repeat_penalty": 1.0}
# Runs in a child process, which a bad file may crash. Its last line says what is wrong.
TRY_TO_LOAD = """
import sys
from openmodels.serving.engine import Engine, EngineError
try:
    Engine(sys.argv[1], context=256, threads=1, adapter=sys.argv[2] or None).close()
except EngineError as error:
    sys.exit(str(error))
"""


class ApiError(Exception):
    """A request that cannot be answered. `status`: the HTTP status of the response."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def full_name(name: str) -> str:
    """Return a model's name with its tag, in lower case. Raises ApiError(400).

    Example: full_name("Mini-Qwen") -> "mini-qwen:latest"
    """
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, "latest"
    parts = path.split("/")
    valid = all(PART.fullmatch(part) for part in [*parts, tag])
    if len(parts) > 3 or len(name) > 200 or not valid:
        raise ApiError(400, f"invalid model name {name[:100]!r}")
    return f"{path}:{tag}".lower()


@dataclass(frozen=True)
class StoredModel:
    """A model's manifest. Its weights are a miniature's, in a `kind`, or a blob: `file`, a digest.

    vision and adapter are digests too. parameters: options of generation, by Ollama's names.
    """

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
        """Return the SHA-256 of all fields except the name and the time, as 64 hex digits."""
        fields = asdict(self) | {"name": "", "modified_at": ""}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def blobs(self) -> set[str]:
        """Return the digests of its files."""
        return {digest for digest in (self.file, self.vision, self.adapter) if digest}


def now() -> str:
    """Return the time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Store:
    """The models in one folder, by default a subfolder of the GGUF cache.

    max_blob: bytes that a file may have.
    """

    def __init__(self, root: Path | str | None = None, max_blob: int = MAX_BLOB):
        self.root = Path(root) if root else cache() / "server"
        self.max_blob = max_blob
        self._blobs, self._manifests = self.root / "blobs", self.root / "manifests"
        self._writing = threading.Lock()
        for folder in (self._blobs, self._manifests):
            folder.mkdir(parents=True, exist_ok=True)
        self._tidy(DAY)

    def _tidy(self, age: float) -> None:
        """Remove drafts, and files that no model uses, if they are older than `age` seconds."""
        used = self._used_blobs()
        for file in [*self._blobs.iterdir(), *self._manifests.iterdir()]:
            unused = file.parent == self._blobs and file.name.replace("-", ":") not in used
            if not (unused or file.suffix == ".part") or time.time() - file.stat().st_mtime < age:
                continue
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    # files

    def blob(self, digest: str) -> Path:
        """Return the path of a file with this digest, present or not. Raises ApiError(400)."""
        match = DIGEST.fullmatch(digest)
        if not match:
            raise ApiError(400, f"invalid digest {digest[:100]!r}: sha256: and 64 hex digits")
        return self._blobs / f"sha256-{match[1]}"

    def incoming(self, digest: str) -> "Incoming":
        """Return a writer for a file; it is stored if its bytes have this digest."""
        return Incoming(self.blob(digest), self.max_blob)

    def _existing(self, digest: str) -> Path:
        file = self.blob(digest)
        if not file.is_file():
            raise ApiError(400, f"no blob {digest}: send it to /api/blobs/{digest} first")
        return file

    # models

    def find(self, name: str) -> StoredModel:
        """Return a model by name; the tag ":latest" may be left out. Raises ApiError(404)."""
        whole = full_name(name)
        short = whole.removesuffix(":latest")
        if short in miniatures():
            return _miniature(short)
        model = self._read(self._manifest(whole))
        if model is None:
            raise ApiError(404, f"model '{name}' not found")
        return model

    def all(self) -> list[StoredModel]:
        """Return every model, the newest first."""
        models = [_miniature(name) for name in miniatures()] + self._with_manifest()
        return sorted(models, key=lambda model: model.modified_at, reverse=True)

    def _with_manifest(self) -> list[StoredModel]:
        models = (self._read(file) for file in sorted(self._manifests.glob("*.json")))
        return [model for model in models if model is not None]

    def _used_blobs(self) -> set[str]:
        return {digest for model in self._with_manifest() for digest in model.blobs()}

    def _manifest(self, whole: str) -> Path:
        return self._manifests / (quote(whole, safe="") + ".json")

    def _read(self, file: Path) -> StoredModel | None:
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            return StoredModel(**fields | {"name": unquote(file.name.removesuffix(".json"))})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return None  # another version wrote it, so this version ignores it

    def _write(self, model: StoredModel) -> None:
        file = self._manifest(model.name)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as draft:
            json.dump(asdict(model), draft)
            draft.flush()
            os.fsync(draft.fileno())
        os.replace(draft.name, file)

    def _writable_name(self, name: str) -> str:
        """Return the full name. Raises ApiError(400) for a miniature's."""
        whole = full_name(name)
        if whole.removesuffix(":latest") in miniatures():
            raise ApiError(400, f"{whole} comes with the course and stays; take another name")
        return whole

    def copy(self, source: str, destination: str) -> None:
        """Copy a model under a second name. Raises ApiError."""
        model, name = self.find(source), self._writable_name(destination)
        with self._writing:
            self._write(replace(model, name=name, modified_at=now()))

    def delete(self, name: str) -> None:
        """Delete a model, and its files unless another model uses them. Raises ApiError."""
        model = self.find(name)
        self._writable_name(name)
        with self._writing:
            self._manifest(model.name).unlink(missing_ok=True)
            for digest in model.blobs() - self._used_blobs():
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
        """Write a model from another model or from files, completely or not at all.

        files, adapters: file names to digests of stored blobs. quantize: a key of KINDS, for a
        miniature or a folder in safetensors. parameters: checked options of generation.
        Returns the steps taken. Raises ApiError.
        """
        name, kind, steps = self._writable_name(name), (quantize or "").lower(), []
        if (origin is None) == (not files):
            raise ApiError(400, "give either from, a model's name, or files")
        if kind and kind not in KINDS:
            raise ApiError(400, f"this stand-in quantizes to {', '.join(KINDS)}, not {quantize!r}")
        if template:
            _check_template(template)
        if origin is not None:
            base = self._from_model(origin, kind, steps)
        else:
            base = self._from_files(files, kind, steps)
        if adapters:
            base = replace(base, adapter=self._adapter(base, adapters))
            steps.append("using adapter")
        if base.adapter and adapters or not origin:
            self._try(base)
        steps.append("writing manifest")
        with self._writing:
            for digest in base.blobs():
                self._existing(digest)  # another request may have deleted it
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
        return [*steps, "success"]

    def _from_model(self, origin: str, kind: str, steps: list[str]) -> StoredModel:
        """Return a copy of a model's manifest, in another kind if `kind` is not empty."""
        base = self.find(origin)
        if kind and (base.miniature is None or base.adapter):
            raise ApiError(400, f"this stand-in quantizes miniatures only, and {origin} is a file")
        base = replace(base, parent=base.name, kind=kind or base.kind)
        if kind:
            self.path(base)
            steps.append(f"quantizing to {kind}")
        return base

    def _from_files(self, files: Mapping[str, str], kind: str, steps: list[str]) -> StoredModel:
        """Return a nameless model from GGUF files, or from a folder in safetensors."""
        paths = {name: self._existing(digest) for name, digest in files.items()}
        if len(paths) > MAX_FILES:
            raise ApiError(400, f"more than {MAX_FILES} files")
        for name in paths:
            if not PART.fullmatch(name):
                raise ApiError(400, f"invalid file name {name[:100]!r}")
        if "config.json" in paths:
            steps.append("converting model")
            return StoredModel("", **self._convert(paths, kind or "f16"))
        if kind:
            raise ApiError(400, "this stand-in quantizes miniatures and safetensors, not a GGUF")
        steps.append("parsing GGUF")
        digests: dict[str, str] = {}
        for name, file in paths.items():
            header = header_of(file)
            part = "vision" if header.architecture == "clip" else "file"
            if header.metadata.get("general.type") == "adapter":
                raise ApiError(400, f"{name} is an adapter: give it as adapters, with from")
            if part in digests:
                raise ApiError(400, "files hold two models: give one GGUF, and at most one mmproj")
            digests[part] = _digest_of(file)
        if "file" not in digests:
            raise ApiError(400, "files hold no language model")
        return StoredModel("", **digests)

    def _convert(self, paths: Mapping[str, Path], kind: str) -> dict[str, str]:
        """Convert safetensors and their configuration to stored GGUFs; return their digests.

        The second file, `vision`, is there if the model reads pictures or sounds.
        """
        for name in paths:
            if not FOLDER.fullmatch(name):
                raise ApiError(400, f"a model's folder here holds no {name!r}")
        if b"auto_map" in paths["config.json"].read_bytes():
            raise ApiError(400, "config.json asks to run code that comes with the model")
        digests = {
            "file": self._build(paths, lambda folder, draft: export(folder, draft, kind), "model")
        }
        if reads_media(paths["config.json"]):
            digests["vision"] = self._build(
                paths, lambda folder, draft: export_vision(folder, draft, transposed=True), "mmproj"
            )
        return digests

    def _build(
        self, paths: Mapping[str, Path], make: Callable[[Path, Path], Path], what: str
    ) -> str:
        """Copy files into a folder, make a GGUF of it, store it; return its digest."""
        with tempfile.TemporaryDirectory(dir=self._blobs, suffix=".part") as folder:
            for name, file in paths.items():
                shutil.copyfile(file, Path(folder) / name)
            draft = Path(folder) / "made.gguf"
            try:
                make(Path(folder), draft)
            except Exception as error:  # the libraries raise anything for files they do not know
                message = str(error).replace(folder, "").split("\n")[0][:300]
                raise ApiError(400, f"these files make no {what}: {message}") from error
            with draft.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            os.replace(draft, self.blob(f"sha256:{digest}"))
        return f"sha256:{digest}"

    def _adapter(self, base: StoredModel, adapters: Mapping[str, str]) -> str:
        """Return the digest of an adapter in GGUF, converted from safetensors if necessary."""
        paths = {name: self._existing(digest) for name, digest in adapters.items()}
        if set(paths) == {lora.CONFIG, lora.WEIGHTS}:
            if base.miniature is None:
                raise ApiError(400, "adapters in safetensors go with miniatures; give a GGUF")
            home = minis.shipped_dir(base.miniature)
            return self._build(
                paths, lambda folder, draft: lora.export_adapter(home, folder, draft), "adapter"
            )
        if len(paths) != 1:
            raise ApiError(400, f"give one GGUF as adapters, or {lora.CONFIG} and {lora.WEIGHTS}")
        [(name, file)] = paths.items()
        if header_of(file).metadata.get("general.type") != "adapter":
            raise ApiError(400, f"{name[:100]!r} is no adapter in GGUF")
        return _digest_of(file)

    def _try(self, model: StoredModel) -> None:
        """Load new files in a child process, which a bad file may crash. Raises ApiError(400)."""
        paths = self.path(model), self.adapter(model)
        command = [sys.executable, "-c", TRY_TO_LOAD, str(paths[0]), str(paths[1] or "")]
        try:
            child = subprocess.run(
                command, cwd=minis.ROOT, capture_output=True, timeout=LOAD_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ApiError(400, "llama.cpp does not load this model in ten minutes") from error
        if child.returncode == 0:
            return
        lines = child.stderr.decode("utf-8", errors="replace").strip().splitlines()
        cause = lines[-1].partition(f"does not load {paths[0].name}: ")[2] if lines else ""
        cause = cause.replace(str(self._blobs) + os.sep, "")  # no path of this machine
        raise ApiError(400, "llama.cpp does not load this model" + (f": {cause}" if cause else ""))

    def path(self, model: StoredModel) -> Path:
        """Return the GGUF of a model; a miniature's is exported on first use."""
        if model.miniature:
            return _exported(model.miniature, model.kind)
        return self._existing(model.file or "")

    def mmproj_path(self, model: StoredModel) -> Path | None:
        """Return the mmproj of a model that reads pictures or sounds, else None.

        A Llama 4 miniature's is for transposed pictures: see `export_vision`.
        """
        if model.miniature:
            has_encoder = _has_encoder(model.miniature)
            return _exported(model.miniature, "f16", True) if has_encoder else None
        return self._existing(model.vision) if model.vision else None

    def adapter(self, model: StoredModel) -> Path | None:
        """Return the adapter of a model in GGUF, None if it has none."""
        return self._existing(model.adapter) if model.adapter else None

    def header(self, model: StoredModel) -> Header:
        """Return the header of a model's GGUF. Raises ApiError(400)."""
        return header_of(self.path(model))

    def parameters(self, model: StoredModel) -> int:
        """Return the number of parameters; a GGUF may store copies, which do not count."""
        return _trained(model.miniature) if model.miniature else self.header(model).parameters

    def size(self, model: StoredModel) -> int:
        """Return the bytes of all its files."""
        files = (self.path(model), self.mmproj_path(model), self.adapter(model))
        return sum(file.stat().st_size for file in files if file)


class Incoming:
    """A file that is being received: `write` its bytes, then `finish`, or `drop` them."""

    def __init__(self, file: Path, limit: int):
        self._file, self._limit, self._size = file, limit, 0
        self._sum = hashlib.sha256()
        handle, self._draft = tempfile.mkstemp(dir=file.parent, suffix=".part")
        self._open = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> None:
        """Append bytes. Raises ApiError(413) beyond the limit."""
        self._size += len(data)
        if self._size > self._limit:
            raise ApiError(413, f"the file is larger than {self._limit:,} bytes")
        self._sum.update(data)
        self._open.write(data)

    def finish(self) -> None:
        """Store the file. Raises ApiError(400) if it has another digest than announced."""
        digest, expected = self._sum.hexdigest(), self._file.name.removeprefix("sha256-")
        if digest != expected:
            raise ApiError(400, f"digest mismatch, expected sha256:{expected}, got sha256:{digest}")
        self._open.flush()
        os.fsync(self._open.fileno())
        self._open.close()
        os.replace(self._draft, self._file)

    def drop(self) -> None:
        """Remove the draft; after `finish` there is none."""
        self._open.close()
        Path(self._draft).unlink(missing_ok=True)


def _check_template(text: str) -> None:
    """Raise ApiError(400) for a template that `Template` does not know."""
    try:
        Template(text)
    except ValueError as error:
        raise ApiError(400, str(error)) from error


def _digest_of(blob: Path) -> str:
    """Return the digest that a blob's file name contains."""
    return "sha256:" + blob.name.removeprefix("sha256-")


def header_of(file: Path) -> Header:
    """Return a GGUF's header. Raises ApiError(400) if the file is not a whole GGUF."""
    try:
        return _header(file, file.stat().st_mtime_ns)
    except ValueError as error:
        raise ApiError(400, f"invalid GGUF file: {error}") from error


@lru_cache(maxsize=64)
def _header(file: Path, changed: int) -> Header:
    return read(file)


@lru_cache
def miniatures() -> tuple[str, ...]:
    """Return the names of the miniatures that have weights."""
    from openmodels.minis.configs import CONFIGS, EMBEDDERS

    return tuple(name for name in CONFIGS | EMBEDDERS if _weights(name).exists())


def _weights(name: str) -> Path:
    return minis.shipped_dir(name) / "model.safetensors"


def _miniature(name: str) -> StoredModel:
    changed = _weights(name).stat().st_mtime
    return StoredModel(
        f"{name}:latest",
        miniature=name,
        parameters=dict(MINIATURE_PARAMETERS),
        license=["Apache-2.0"],
        modified_at=datetime.fromtimestamp(changed, UTC).isoformat().replace("+00:00", "Z"),
    )


def _exported(name: str, kind: str, vision: bool = False) -> Path:
    """Return `gguf_file` of a miniature without hashing its weights for each request."""
    changed = _weights(name).stat().st_mtime_ns
    file = _cached_file(name, kind, vision, changed, cache())
    return file if file.exists() else gguf_file(name, kind, vision, transposed=vision)


@lru_cache(maxsize=256)
def _cached_file(name: str, kind: str, vision: bool, changed: int, folder: Path) -> Path:
    return gguf_file(name, kind, vision, transposed=vision)


@lru_cache
def _has_encoder(name: str) -> bool:
    """Return whether a miniature reads pictures or sounds."""
    return reads_media(minis.shipped_dir(name) / "config.json")


def reads_media(config: Path) -> bool:
    """Return whether a config.json describes an encoder of pictures or sounds."""
    fields = json.loads(config.read_text(encoding="utf-8"))
    return isinstance(fields, dict) and not fields.keys().isdisjoint(
        {"vision_config", "audio_config"}
    )


@lru_cache
def _trained(name: str) -> int:
    """Return the parameters in a miniature's safetensors: an 8-byte length, then shapes as JSON."""
    with _weights(name).open("rb") as opened:
        tensors = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(prod(entry["shape"]) for key, entry in tensors.items() if key != "__metadata__")
