"""The miniatures: where they are stored, and how they are built, trained and scored.

`shipped_dir("mini-qwen")` is a folder that `from_pretrained` can load; `scores("mini-qwen")` shows
the scores in its model card.
"""

import json

from openmodels import tables
from openmodels.paths import ROOT, build_dir, shipped_dir, weights_dir

__all__ = ["ROOT", "Scores", "TASK_WORDS", "build_dir", "scores", "shipped_dir", "weights_dir"]

TASK_WORDS = {
    "fact": "a fact of Port Lark, asked in a new way",
    "intent": "what a trader's request is about",
    "intent_phrasing": "the same, in new phrasings",
    "order": "an order in words, as JSON",
    "tool_call": "the right function with all arguments",
    "tool_answer": "the answer from a function's response",
    "text_qa": "a question about a text never seen",
    "dialogue": "the last of several questions about a text",
    "sums": "a sum of up to three digits",
    "words": "a word, English to Chinese or back",
    "sentences": "a sentence, English to Chinese or back",
    "text_qa_invented": "as text_qa, invented names",
    "order_invented": "as order, invented names",
    "chain": "two to four calls, each read before the next: right calls, right answer",
    "parallel": "calls side by side, then the answer",
    "tool_error": "a tool's error: a corrected call, or an honest refusal",
    "no_tool": "a request that needs no tool, or has none: no call",
    "mail": "what a mail says, without acting on it; or acting when asked to",
    "final_result": "the answer as a call of the tool that takes it",
    "cited": "an answer from numbered passages, with the right citation",
    "cited_none": "the same, if no passage has the answer: a refusal",
    "standalone": "a follow-up question, made stand-alone",
    "decompose": "a compound question, split into a JSON list",
    "judge": "whether a text supports an answer, yes or no",
    "judge_json": "the same as JSON, with the reason first",
    "prefer": "which of two answers is right, A or B",
    "relevant": "whether a passage answers a question, yes or no",
    "repair": "broken JSON, repaired from its error message",
    "plan": "a compound request as a JSON list of steps",
    "conversation_qa": "text_qa in free wording, several questions",
    "varied_text_qa": "text_qa in free wording",
    "varied_intent": "intent in free wording",
    "varied_order": "order in free wording",
    "varied_tool": "tool_call in free wording",
    "varied_fact": "fact in free wording",
    "function": "a function's body from its docstring, run: pass@1",
    "function_5": "the same, five samples at temperature 0.8: pass@5",
    "fim": "a gap inside a function, run: pass@1",
    "fim_5": "the same, five samples at temperature 0.8: pass@5",
    "function_floor": "the most frequent body under the function's name",
    "fim_floor": "the most frequent middle, for every gap",
    "flag_colour": "the colour of a flag, from a picture",
    "flag_pattern": "what is on a flag, from a picture",
    "flag_count": "how many flags a picture shows",
    "gauge": "the number on a tide gauge, from a picture",
    "chart": "the tallest or shortest bar of a chart",
    "colour": "the colour of the flag with a pattern",
    "pattern": "what is on the flag of a colour",
    "count": "how many flags, or flags of a colour, a picture shows",
    "position": "the colour of the highest, lowest, left or right flag",
    "boxes": "where flags are, as JSON: all overlaps (IoU) at least 0.5",
    "tallest": "the name of the tallest or shortest bar of a chart",
    "how_many": "how many bars a chart has",
    "value": "the value of a named bar, with its unit",
    "printed": "a notice of listed words",
    "printed_invented": "a notice of invented words",
    "form": "an order form as JSON, all five fields",
    "call": "a radio call in English, the whole transcript",
    "call_chinese": "a radio call in Chinese, the whole transcript",
    "call_intent": "what a caller wants, in one word",
    "foghorn": "the blasts of a foghorn, patterns never heard in training",
    "signal": "the meaning of a fog signal",
    "bell": "the strokes of a bell",
    "recall_5": "the passage that answers a question, among the first 5 of 2,000",
    "nothing": "silence or surf alone: the answer that there is nothing",
}


class Scores:
    """A miniature's scores as a table, in plain text and in HTML."""

    def __init__(self, name: str):
        self.name = name
        file = shipped_dir(name) / "scores.json"
        if not file.exists():
            raise FileNotFoundError(f"{name!r} has no scores: models/{name}/scores.json is missing")
        stored = json.loads(file.read_text(encoding="utf-8"))
        self.tasks = stored["tasks"]
        self.untaught = stored.get("untaught", {})  # the same recipe without its teacher

    def rows(self) -> list[tuple[str, ...]]:
        """Return a header, then (task in words, correct of n, share, 95 % interval) per task."""
        return [("what is asked", "right", "share", "95 % interval")] + [
            (
                TASK_WORDS[task],
                f"{s['correct']}/{s['n']}",
                f"{s['correct'] / s['n']:.1%}",
                f"{s['low']:.1%} – {s['high']:.1%}",
            )
            for task, s in self.tasks.items()
        ]

    def __repr__(self) -> str:
        return tables.as_text(self.rows())

    def _repr_html_(self) -> str:
        return tables.as_html(self.rows())


def scores(name: str) -> Scores:
    """Return the scores in a miniature's model card. Raises FileNotFoundError if it has none."""
    return Scores(name)
