"""Ollama's Modelfile, read into what its `create` takes: the Python client has no parser.

made = parse('FROM mini-qwen\\nSYSTEM You answer in one word.\\nPARAMETER temperature 0')
made.create(client, "brief")
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXTS = ("SYSTEM", "TEMPLATE", "LICENSE")
ROLES = ("system", "user", "assistant")
NUMBERS = {
    "num_ctx": int, "num_predict": int, "repeat_last_n": int, "seed": int, "top_k": int,
    "num_keep": int, "num_batch": int, "num_thread": int, "num_gpu": int,
    "temperature": float, "top_p": float, "min_p": float, "typical_p": float,
    "repeat_penalty": float, "presence_penalty": float, "frequency_penalty": float,
}  # fmt: skip
LINE = re.compile(r"(?P<word>[A-Za-z]+)[ \t]+(?P<rest>.*)", re.DOTALL)
QUOTES = '"""'


class ModelfileError(ValueError):
    """What is wrong in a Modelfile, with the number of its line."""


@dataclass
class Modelfile:
    """What a Modelfile says. parameters: by Ollama's names; `stop` is a list of texts."""

    base: str
    parameters: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    template: str = ""
    licences: list[str] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)

    def create(self, client, name: str, folder: Path | str = ".") -> Any:
        """Make the model on a server, through the official client; what the server says last.

        folder: where FROM and ADAPTER paths are looked for. Files are uploaded as blobs first.
        Raises FileNotFoundError for a path that is not there.
        """
        told: dict[str, Any] = {}
        if is_path(self.base):
            told["files"] = blobs(client, [self.base], folder)
        else:
            told["from_"] = self.base
        if self.adapters:
            told["adapters"] = blobs(client, self.adapters, folder)
        told |= {
            "system": self.system, "template": self.template, "license": self.licences,
            "parameters": self.parameters, "messages": self.messages,
        }  # fmt: skip
        return client.create(model=name, **{key: value for key, value in told.items() if value})


def parse(text: str) -> Modelfile:
    """Read a Modelfile. Raises ModelfileError with the line and what to write instead."""
    found: Modelfile | None = None
    later: list[tuple[int, str, str]] = []
    for number, word, value in instructions(text):
        if word != "FROM":
            later.append((number, word, value))
        elif found:
            raise ModelfileError(f"line {number}: a second FROM; a model comes from one place")
        else:
            found = Modelfile(value)
    if found is None:
        raise ModelfileError("no FROM line; write FROM and a model's name or a path to its file")
    for number, word, value in later:
        if word == "PARAMETER":
            name, _, given = value.partition(" ")
            set_parameter(found.parameters, number, name.lower(), unquoted(given.strip()))
        elif word == "MESSAGE":
            role, _, content = value.partition(" ")
            if role not in ROLES:
                raise ModelfileError(f"line {number}: role {role!r}; there are {', '.join(ROLES)}")
            found.messages.append({"role": role, "content": unquoted(content.strip())})
        elif word == "LICENSE":
            found.licences.append(value)
        elif word == "ADAPTER":
            found.adapters.append(value)
        else:
            setattr(found, word.lower(), value)
    return found


def instructions(text: str):
    """(line number, instruction, value) for each; blocks in triple quotes may span lines."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        told = LINE.fullmatch(line)
        if told is None:
            raise ModelfileError(f"line {number}: {line!r}; write an instruction and its value")
        word, value = told["word"].upper(), told["rest"].strip()
        if word not in (*TEXTS, "FROM", "PARAMETER", "ADAPTER", "MESSAGE"):
            raise ModelfileError(f"line {number}: no instruction {told['word']!r} is known")
        if QUOTES in value and value.count(QUOTES) % 2:
            block = [value]
            while at < len(lines) and QUOTES not in lines[at]:
                block.append(lines[at])
                at += 1
            if at == len(lines):
                raise ModelfileError(f'line {number}: a block begins with """ and never ends')
            block.append(lines[at].rstrip())
            at += 1
            value = "\n".join(block)
        yield number, word, value if word in ("PARAMETER", "MESSAGE") else unquoted(value)


def unquoted(value: str) -> str:
    """The text without its single, or triple, double quotes."""
    for quotes in (QUOTES, '"'):
        if len(value) >= 2 * len(quotes) and value.startswith(quotes) and value.endswith(quotes):
            return value[len(quotes) : -len(quotes)].removeprefix("\n" if quotes == QUOTES else "")
    return value


def set_parameter(parameters: dict[str, Any], number: int, name: str, value: str) -> None:
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
    """Whether FROM names a file rather than a model, as Ollama tells them apart."""
    return base.startswith((".", "/", "~")) or base.endswith((".gguf", ".safetensors"))


def blobs(client, paths: list[str], folder: Path | str) -> dict[str, str]:
    """Upload files; their digests by file name."""
    found = {}
    for path in paths:
        file = Path(folder) / Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no file {path} in {Path(folder)}")
        found[file.name] = client.create_blob(file)
    return found
