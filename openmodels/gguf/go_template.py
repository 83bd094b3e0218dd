"""Renders the part of Go's template language that a small Modelfile needs.

`Template(text)` supports {{ .System }}, {{ .Prompt }}, {{ .Response }}; {{ if }}, {{ else if }},
{{ else }} and {{ end }} with these three; comments; and the trimming {{- and -}}. It rejects
everything else.
"""

import re
from collections.abc import Mapping, Sequence

FIELDS = (".System", ".Prompt", ".Response")
ACTION = re.compile(r"\{\{(-\s)?([^{}]*?)(\s-)?\}\}")
MAX_LENGTH = 65_536  # characters
MAX_DEPTH = 32  # nested ifs
DEFAULT = "{{ .Prompt }}"  # Ollama's for a file without a template


class Template:
    """A parsed template. Raises ValueError with the first action that is not supported."""

    def __init__(self, text: str):
        self.text = text
        if len(text) > MAX_LENGTH:
            raise ValueError(f"a template of more than {MAX_LENGTH:,} characters")
        parts = _split(text)
        has_response = ("action", ".Response") in parts
        self._nodes = _parse(parts, [])
        if not has_response:
            self._nodes.append(("field", ".Response"))

    def render(self, messages: Sequence[Mapping]) -> str:
        """Return the prompt of a conversation, one round per answer.

        messages: {"role", "content"} with the roles system, user and assistant. The last round
        ends at {{ .Response }}, where the model continues.
        """
        rounds, current = [], {}
        for message in messages:
            field = {"system": ".System", "user": ".Prompt"}.get(message["role"], ".Response")
            later = FIELDS[FIELDS.index(field) :]
            begins_round = field != ".Response" and any(
                current.get(name) for name in later if name != ".System"
            )
            if begins_round:
                rounds.append(current)
                current = {}
            if field == ".System" and current.get(field):
                current[field] += "\n\n" + message["content"]
            else:
                current[field] = message["content"]
        texts = [_render(self._nodes, values, False)[0] for values in rounds]
        return "".join(texts) + _render(self._nodes, current, True)[0]


def _split(text: str) -> list[tuple[str, str]]:
    """Return ("text", text) and ("action", action) in order, trimmed where {{- and -}} ask."""
    parts, end, trim = [], 0, False
    for match in ACTION.finditer(text):
        before = text[end : match.start()]
        before = before.lstrip() if trim else before
        parts.append(("text", before.rstrip() if match[1] else before))
        action = " ".join(match[2].split())
        if not (action.startswith("/*") and action.endswith("*/")):
            parts.append(("action", action))
        end, trim = match.end(), bool(match[3])
    after = text[end:]
    if "{{" in after or "}}" in after:
        raise ValueError("a template's {{ is not closed, or its }} not opened")
    parts.append(("text", after.lstrip() if trim else after))
    return [part for part in parts if part[1] or part[0] == "action"]


def _parse(parts: list[tuple[str, str]], open_ifs: list[str]) -> list[tuple]:
    """Return nodes up to the end, or up to this block's {{ else }} or {{ end }}.

    Consumes parts, except that {{ else }} or {{ end }}.
    """
    nodes: list[tuple] = []
    while parts:
        kind, word = parts[0]
        if kind == "text":
            nodes.append(("text", word))
        elif word in FIELDS:
            nodes.append(("field", word))
        elif word.startswith("if ") and word[3:] in FIELDS:
            nodes.append(_branch(parts, word[3:], open_ifs))
        elif word == "end" or word == "else" or word.startswith("else if "):
            if not open_ifs:
                raise ValueError(f"a template has {{{{ {word} }}}} without an {{{{ if }}}}")
            return nodes
        else:
            raise ValueError(
                f"this stand-in's templates know {', '.join(FIELDS)}, if, else and end, "
                f"not {{{{ {word} }}}}"
            )
        parts.pop(0)
    if open_ifs:
        raise ValueError(f"a template's {{{{ if {open_ifs[-1]} }}}} has no {{{{ end }}}}")
    return nodes


def _branch(parts: list[tuple[str, str]], field: str, open_ifs: list[str]) -> tuple:
    """Return ("if", field, then, otherwise). Consumes parts, except its {{ end }}."""
    if len(open_ifs) >= MAX_DEPTH:
        raise ValueError(f"a template's {{{{ if }}}} are nested more than {MAX_DEPTH} deep")
    parts.pop(0)
    open_ifs.append(field)
    then, otherwise = _parse(parts, open_ifs), []
    closing = parts[0][1]
    if closing.startswith("else if "):
        if closing[8:] not in FIELDS:
            raise ValueError(f"this stand-in's templates know no {{{{ {closing} }}}}")
        otherwise = [_branch(parts, closing[8:], open_ifs)]
    elif closing == "else":
        parts.pop(0)
        otherwise = _parse(parts, open_ifs)
        if parts[0][1] != "end":
            raise ValueError(f"a template has {{{{ {parts[0][1]} }}}} after an {{{{ else }}}}")
    open_ifs.pop()
    return ("if", field, then, otherwise)


def _render(nodes: list[tuple], values: Mapping[str, str], truncate: bool) -> tuple[str, bool]:
    """Return the text, and whether it was truncated: `truncate` ends it after {{ .Response }}."""
    text = ""
    for node in nodes:
        if node[0] == "text":
            text += node[1]
        elif node[0] == "field":
            text += values.get(node[1], "")
            if truncate and node[1] == ".Response":
                return text, True
        else:
            inner, done = _render(node[2] if values.get(node[1]) else node[3], values, truncate)
            text += inner
            if done:
                return text, True
    return text, False
