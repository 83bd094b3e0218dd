"""The part of Go's templates that a small Modelfile needs, and a clear refusal of all else.

`Template(text)` knows {{ .System }}, {{ .Prompt }}, {{ .Response }}, {{ if }}, {{ else if }},
{{ else }} and {{ end }} on these three, comments, and the trimming {{- and -}}.
"""

import re
from collections.abc import Mapping, Sequence

FIELDS = (".System", ".Prompt", ".Response")
ACTION = re.compile(r"\{\{(-\s)?([^{}]*?)(\s-)?\}\}")
LONGEST = 65_536
DEFAULT = "{{ .Prompt }}"  # what Ollama takes for a file without a template


class Template:
    """A template, read once. Raises ValueError, naming what is not known here."""

    def __init__(self, text: str):
        self.text = text
        if len(text) > LONGEST:
            raise ValueError(f"a template of more than {LONGEST:,} characters")
        words = _split(text)
        self._nodes = _parse(words, [])
        if not any(kind == "do" and word == ".Response" for kind, word in _split(text)):
            self._nodes.append(("field", ".Response"))

    def render(self, messages: Sequence[Mapping]) -> str:
        """The prompt of a conversation: a round for each answer, the last cut at {{ .Response }}.

        messages: {"role", "content"} with the roles system, user and assistant.
        """
        rounds, now = [], {}
        for message in messages:
            field = {"system": ".System", "user": ".Prompt"}.get(message["role"], ".Response")
            later = FIELDS[FIELDS.index(field) :]
            if any(now.get(one) for one in later if field != ".Response" and one != ".System"):
                rounds.append(now)
                now = {}
            if field == ".System" and now.get(field):
                now[field] += "\n\n" + message["content"]
            else:
                now[field] = message["content"]
        whole = [_write(self._nodes, one, False)[0] for one in rounds]
        return "".join(whole) + _write(self._nodes, now, True)[0]


def _split(text: str) -> list[tuple[str, str]]:
    """("text", words) and ("do", action) in turn, trimmed as the marks say."""
    parts, at, trim = [], 0, False
    for found in ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trim else before
        parts.append(("text", before.rstrip() if found[1] else before))
        action = " ".join(found[2].split())
        if not (action.startswith("/*") and action.endswith("*/")):
            parts.append(("do", action))
        at, trim = found.end(), bool(found[3])
    rest = text[at:]
    if "{{" in rest or "}}" in rest:
        raise ValueError("a template's {{ is not closed, or its }} not opened")
    parts.append(("text", rest.lstrip() if trim else rest))
    return [part for part in parts if part[1] or part[0] == "do"]


def _parse(words: list[tuple[str, str]], open_ifs: list[str]) -> list[tuple]:
    """Nodes up to the end, or up to this block's {{ else }} or {{ end }}, which stay in words."""
    nodes: list[tuple] = []
    while words:
        kind, word = words[0]
        if kind == "text":
            nodes.append(("text", word))
        elif word in FIELDS:
            nodes.append(("field", word))
        elif word.startswith("if ") and word[3:] in FIELDS:
            nodes.append(_branch(words, word[3:], open_ifs))
        elif word == "end" or word == "else" or word.startswith("else if "):
            if not open_ifs:
                raise ValueError(f"a template has {{{{ {word} }}}} without an {{{{ if }}}}")
            return nodes
        else:
            raise ValueError(
                f"this stand-in's templates know {', '.join(FIELDS)}, if, else and end, "
                f"not {{{{ {word} }}}}"
            )
        words.pop(0)
    if open_ifs:
        raise ValueError(f"a template's {{{{ if {open_ifs[-1]} }}}} has no {{{{ end }}}}")
    return nodes


def _branch(words: list[tuple[str, str]], field: str, open_ifs: list[str]) -> tuple:
    """("if", field, then, otherwise); leaves its {{ end }} as the first of words."""
    if len(open_ifs) >= 32:
        raise ValueError("a template's {{ if }} are nested more than 32 deep")
    words.pop(0)
    open_ifs.append(field)
    then, otherwise = _parse(words, open_ifs), []
    closing = words[0][1]
    if closing.startswith("else if "):
        if closing[8:] not in FIELDS:
            raise ValueError(f"this stand-in's templates know no {{{{ {closing} }}}}")
        otherwise = [_branch(words, closing[8:], open_ifs)]
    elif closing == "else":
        words.pop(0)
        otherwise = _parse(words, open_ifs)
        if words[0][1] != "end":
            raise ValueError(f"a template has {{{{ {words[0][1]} }}}} after an {{{{ else }}}}")
    open_ifs.pop()
    return ("if", field, then, otherwise)


def _write(nodes: list[tuple], values: Mapping[str, str], cut: bool) -> tuple[str, bool]:
    """(text, whether it was cut): with `cut`, writing ends behind {{ .Response }}."""
    text = ""
    for node in nodes:
        if node[0] == "text":
            text += node[1]
        elif node[0] == "field":
            text += values.get(node[1], "")
            if cut and node[1] == ".Response":
                return text, True
        else:
            inner, done = _write(node[2] if values.get(node[1]) else node[3], values, cut)
            text += inner
            if done:
                return text, True
    return text, False
