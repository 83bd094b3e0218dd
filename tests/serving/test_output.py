"""Parsing of the engine's output: thinking, tool calls and log-probabilities."""

from hypothesis import given
from hypothesis import strategies as st
from server_helpers import examples

from openmodels.serving.output import (
    PieceParser,
    ThinkTagParser,
    ToolCallCollector,
    format_logprobs,
)

TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
    {"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b", "logprob": -1.5, "bytes": [98]},
]}  # fmt: skip


@examples(200)
@given(st.lists(st.integers(1, 9), min_size=40, max_size=40))
def test_thinking_is_split_off_wherever_the_text_is_cut(sizes):
    for text, thinking, content in (
        (" \n<think>\n a < b </thi x\n</think>\n\nans <think>", "a < b </thi x", "ans <think>"),
        ("<think>abc", "abc", ""),
        ("<thin", "", "<thin"),
        ("no <think>x</think>", "", "no <think>x</think>"),
        ("<think></think>", "", ""),
    ):
        parser, start, parts = ThinkTagParser(), 0, []
        for size in sizes:
            parts.append(parser.feed(text[start : start + size]))
            start += size
        parts.append(parser.feed(text[start:], last=True))
        assert tuple("".join(column) for column in zip(*parts, strict=True)) == (thinking, content)


def test_tool_calls_are_joined_from_their_deltas():
    collector = ToolCallCollector()
    assert collector.feed([{"index": 0, "id": "x", "function": {"name": "tide"}}]) == []
    assert collector.feed([{"index": 0, "function": {"arguments": '{"day": '}}]) == []
    assert collector.feed([{"index": 0, "function": {"arguments": '"Monday"}'}}]) == []
    tide = {"id": "x", "function": {"name": "tide", "arguments": {"day": "Monday"}}}
    assert collector.feed([{"index": 1, "id": "y", "function": {"name": "berth"}}]) == [tide]
    collector.feed([{"index": 1, "function": {"arguments": '{"ship": "Lar'}}])
    assert collector.finish() == []  # its arguments were cut off
    assert collector.finish() == []


def test_log_probabilities_without_alternatives():
    assert format_logprobs([TOKEN], 0) == [{"token": "a", "logprob": -0.5, "bytes": [97]}]
    [entry] = format_logprobs([TOKEN], 1)
    assert entry["top_logprobs"] == [{"token": "a", "logprob": -0.5, "bytes": [97]}]


def test_log_probabilities_of_text_that_is_held_back_come_with_the_next_piece():
    parser = PieceParser(think=False, top_logprobs=0)
    parser.add_logprobs([TOKEN])
    assert parser.feed("<think>x</think>") is None
    parser.add_logprobs([TOKEN])
    assert len(parser.feed("a")["logprobs"]) == 2
    assert "logprobs" not in parser.final_piece("stop")
    silent = PieceParser(think=False, top_logprobs=None)
    silent.add_logprobs([TOKEN])
    assert silent.feed("a") == {"text": "a"}
