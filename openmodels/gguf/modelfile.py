"""Parses Ollama's Modelfile for its `create` endpoint; the Python client has no parser.

modelfile = parse('FROM mini-qwen\\nSYSTEM You answer in one word.\\nPARAMETER temperature 0')
modelfile.create(client, "brief")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ollama

TEXTS = ("SYSTEM", "TEMPLATE", "LICENSE")
ROLES = ("system", "user", "assistant")
NUMBERS = {
    "num_ctx": int, "num_predict": int, "repeat_last_n": int, "seed": int, "top_k": int,
    "num_keep": int, "num_batch": int, "num_thread": int, "num_gpu": int,
    "temperature": float, "top_p": float, "min_p": float, "typical_p": float,
    "repeat_penalty": float, "presence_penalty": float, "frequency_penalty": float,
}  # fmt: skip
LINE = re.compile(r"(?P<word>[A-Za-z]+)[ \t]+(?P<value>.*)", re.DOTALL)
QUOTES = '"""'


class ModelfileError(ValueError):
    """A mistake in a Modelfile, with the number of its line."""


@dataclass
class Modelfile:
    """A parsed Modelfile. base: FROM. parameters: by Ollama's names; `stop` is a list of texts."""

    base: str
    parameters: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    template: str = ""
    licences: list[str] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)

    def create(
        self, client: ollama.Client, name: str, folder: Path | str = "."
    ) -> ollama.ProgressResponse:
        """Create the model on a server through the official client; return its last status.

        folder: the folder of relative FROM and ADAPTER paths. Files are uploaded as blobs first.
        Raises FileNotFoundError for a missing path, and the client's ResponseError.
        """
        body: dict[str, Any] = {}
        if is_path(self.base):
            body["files"] = blobs(client, [self.base], folder)
        else:
            body["from_"] = self.base
        if self.adapters:
            body["adapters"] = blobs(client, self.adapters, folder)
        body |= {
            "system": self.system, "template": self.template, "license": self.licences,
            "parameters": self.parameters, "messages": self.messages,
        }  # fmt: skip
        return client.create(model=name, **{key: value for key, value in body.items() if value})


def parse(text: str) -> Modelfile:
    """Return a parsed Modelfile. Raises ModelfileError with the line and what to write instead."""
    lines = list(instructions(text))
    bases = [(number, value) for number, word, value in lines if word == "FROM"]
    if not bases:
        raise ModelfileError("no FROM line; write FROM and a model's name or a path to its file")
    if len(bases) > 1:
        raise ModelfileError(f"line {bases[1][0]}: a second FROM; a model comes from one place")
    modelfile = Modelfile(bases[0][1])
    for number, word, value in lines:
        if word == "PARAMETER":
            name, _, setting = value.partition(" ")
            set_parameter(modelfile.parameters, number, name.lower(), unquoted(setting.strip()))
        elif word == "MESSAGE":
            role, _, content = value.partition(" ")
            if role not in ROLES:
                raise ModelfileError(f"line {number}: role {role!r}; there are {', '.join(ROLES)}")
            modelfile.messages.append({"role": role, "content": unquoted(content.strip())})
        elif word == "LICENSE":
            modelfile.licences.append(value)
        elif word == "ADAPTER":
            modelfile.adapters.append(value)
        elif word != "FROM":
            setattr(modelfile, word.lower(), value)
    return modelfile


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, instruction, value); a block in triple quotes may span lines.

    Raises ModelfileError.
    """
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise ModelfileError(f"line {number}: {line!r}; write an instruction and its value")
        word, value = match["word"].upper(), match["value"].strip()
        if word not in (*TEXTS, "FROM", "PARAMETER", "ADAPTER", "MESSAGE"):
            raise ModelfileError(f"line {number}: no instruction {match['word']!r} is known")
        if value.count(QUOTES) % 2:
            value = "\n".join([value, *_block(lines, number)])
        yield number, word, value if word in ("PARAMETER", "MESSAGE") else unquoted(value)


def _block(lines: Iterator[tuple[int, str]], begin: int) -> Iterator[str]:
    """Yield the lines of a block up to its closing quotes. begin: the number of its first line."""
    for _, line in lines:
        if QUOTES in line:
            yield line.rstrip()
            return
        yield line
    raise ModelfileError(f'line {begin}: a block begins with """ and never ends')


def unquoted(value: str) -> str:
    """Return a text without its single, or triple, double quotes."""
    for quotes in (QUOTES, '"'):
        if len(value) >= 2 * len(quotes) and value.startswith(quotes) and value.endswith(quotes):
            return value[len(quotes) : -len(quotes)].removeprefix("\n" if quotes == QUOTES else "")
    return value


def set_parameter(parameters: dict[str, Any], number: int, name: str, value: str) -> None:
    """Convert a PARAMETER line's value and add it. number: of the line. Raises ModelfileError."""
    if name == "stop":
        parameters.setdefault("stop", []).append(value)
    elif name not in NUMBERS:
        raise ModelfileError(
            f"line {number}: no parameter {name!r}; there are stop, {', '.join(NUMBERS)}"
        )
    else:
        try:
            parameters[name] = NUMBERS[name](value)
        except ValueError:
            kind = "whole number" if NUMBERS[name] is int else "number"
            raise ModelfileError(f"line {number}: {name} is {value!r}, expected a {kind}") from None


def is_path(base: str) -> bool:
    """Return whether FROM names a file and not a model, by Ollama's rule."""
    return base.startswith((".", "/", "~")) or base.endswith((".gguf", ".safetensors"))


def blobs(client: ollama.Client, paths: list[str], folder: Path | str) -> dict[str, str]:
    """Upload files and return their digests by file name. Raises FileNotFoundError."""
    digests = {}
    for path in paths:
        file = Path(folder) / Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no file {path} in {Path(folder)}")
        digests[file.name] = client.create_blob(file)
    return digests
