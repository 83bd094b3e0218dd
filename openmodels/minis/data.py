"""Turn Port Lark's conversations and code into packed rows of token ids with loss weights."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from openmodels.harbour import Harbour, Instance, assistant, code, pictures
from openmodels.minis.images import MINI, TOKENS, Shape
from openmodels.minis.tokenizer import FIM, VOCABULARY

if TYPE_CHECKING:
    from openmodels.minis.train import Recipe

ASSISTANT = "<|im_start|>assistant\n"
END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
VERDICTS = ("yes", "no", "A", "B")
CITATION = re.compile(r"(?<= \[)(\d)(?=\])")


@dataclass
class Document:
    """Token ids and, for each, the loss weight of predicting it (0: not a target).

    images: (3, size, size) each, in the order of their positions among the tokens.
    """

    ids: list[int]
    weights: list[float]
    images: list[torch.Tensor] = field(default_factory=list)


def render(
    tokenizer: PreTrainedTokenizerBase,
    instance: Instance | pictures.Sighting,
    messages: int | None = None,
    ask: bool = False,
) -> str:
    """Return the chat text of an instance's first `messages` messages, by default all.

    ask: end the text with the opening of the assistant's turn.
    """
    tools = getattr(instance, "tools", None)  # pictures have no tools
    return tokenizer.apply_chat_template(
        list(instance.messages[:messages]),
        tools=list(tools) if tools else None,
        tokenize=False,
        add_generation_prompt=ask,
    )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    instance: Instance | pictures.Sighting,
    context_weight: float,
    shape: Shape = MINI,
    verdict_weight: float = 1.0,
) -> Document:
    """Return a conversation as tokens: answers weigh 1, everything else `context_weight`.

    Reading the context teaches copying too. A picture's tokens are not targets. verdict_weight: of
    what counts little beside the words around it: an answer of one word ("yes", "B") and the number
    of a citation.
    """
    ids, weights = [], []
    text = render(tokenizer, instance)
    images = [instance.image] if isinstance(instance, pictures.Sighting) else []
    if images:
        text = shape.expand(text, len(images))
    for number, part in enumerate(text.split(ASSISTANT)):
        answer, end, following = part.partition(END) if number else ("", "", part)
        head = ASSISTANT if number else ""
        answer_weight = verdict_weight if answer in VERDICTS else 1.0
        parts = _weighted(answer + end, answer_weight, verdict_weight)
        for text, weight in ((head, 0.0), *parts, (following, context_weight)):
            token_ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            ids += token_ids
            weights += [weight] * len(token_ids)
    if images:
        image_tokens = set(tokenizer.convert_tokens_to_ids(list(TOKENS)))
        weights = [0.0 if n in image_tokens else w for n, w in zip(ids, weights, strict=True)]
    return Document(ids, weights, [shape.pixels(image) for image in images])


def _weighted(answer: str, weight: float, citation_weight: float) -> Iterator[tuple[str, float]]:
    """Yield an answer's parts with their loss weights; the numbers of citations have their own."""
    for number, part in enumerate(CITATION.split(answer)):
        yield part, citation_weight if number % 2 else weight


def code_prompt(problem: code.Function | code.Gap) -> str:
    """Return the prompt of the coder: a function's head, or a gap in Qwen2.5-Coder's order.

    The order is prefix, suffix, middle (PSM; Hui et al. 2024, arXiv 2409.12186, section 3.2).
    """
    if isinstance(problem, code.Function):
        return problem.head
    return f"<|fim_prefix|>{problem.prefix}<|fim_suffix|>{problem.suffix}<|fim_middle|>"


def encode_code(
    tokenizer: PreTrainedTokenizerBase, problem: code.Function | code.Gap, context_weight: float
) -> Document:
    """Return code as tokens: the completion and the end of text weigh 1, the prompt less.

    The prompt's own markers are not targets: nothing predicts where a gap begins.
    """
    answer = problem.body if isinstance(problem, code.Function) else problem.middle
    start, ids = (
        tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        for text in (code_prompt(problem), answer + END_OF_TEXT)
    )
    markers = set(tokenizer.convert_tokens_to_ids(list(FIM)))
    weights = [0.0 if token in markers else context_weight for token in start]
    return Document(start + ids, weights + [1.0] * len(ids))


def recall(rng: random.Random, vocabulary: int, length: int) -> Document:
    """Return random tokens with repeated segments, which can be learned only by copying.

    Segments are repeated unchanged. Each repeated token after the first of its segment is a target.
    """
    segments = []
    total = 0
    while total < length // 2:
        size = rng.choice((2, 2, 3, 3, 4, 6, 10))
        segments.append([rng.randrange(20, vocabulary) for _ in range(size)])
        total += size
    ids = [token for segment in segments for token in segment]
    weights = [0.0] * len(ids)
    while len(ids) < length:
        segment = rng.choice(segments)
        ids += segment
        weights += [0.0] + [1.0] * (len(segment) - 1)
    return Document(ids[:length], weights[:length])


def binding(rng: random.Random, vocabulary: int, length: int) -> Document:
    """Return random tokens that form a table: which value belongs to this row *and* this column.

    First each cell occurs once, as three tokens (row, column, value) in one of two orders per
    document, some with a filler in between, and a full stop; then rows and columns whose value is
    the target. Reading a text with several subjects is this task in sentences.
    """
    rows, columns = rng.choice(((2, 1), (4, 1), (5, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 3)))
    sampled = rng.sample(range(20, vocabulary), rows + columns + rows * columns + 4)
    row, column, extra = sampled[:rows], sampled[rows : rows + columns], sampled[rows + columns :]
    full_stop, fillers, values = extra[0], extra[1:4], iter(extra[4:])
    cells = [(r, c, next(values)) for r in row for c in column]
    rng.shuffle(cells)
    orders = rng.choices(list(permutations(range(3))), k=2)
    ids, weights = [], []
    for cell in cells:
        triple = [cell[index] for index in rng.choice(orders)]
        if rng.random() < 0.3:
            triple.insert(rng.randint(1, 2), rng.choice(fillers))
        ids += [*triple, full_stop]
        weights += [0.0] * (len(triple) + 1)
    first, second = rng.choice(((0, 1), (1, 0)))
    while len(ids) < length:
        cell = rng.choice(cells)
        ids += [cell[first], cell[second], cell[2]]
        weights += [0.0, 0.0, 1.0]
    return Document(ids[:length], weights[:length])


@dataclass(frozen=True)
class Brackets:
    """Tokens of citations: "[" of a passage, " [" of a citation, "]", digits 1 to 9, "." """

    opening: int
    citing: int
    closing: int
    digits: list[int]
    stop: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Brackets:
        """Return the tokens of a tokenizer."""
        ids = tokenizer.convert_tokens_to_ids
        digits = ids([str(digit) for digit in range(1, 10)])
        return cls(ids("["), ids("Ġ["), ids("]"), digits, ids("."))

    @cached_property
    def all(self) -> frozenset[int]:
        """Return these tokens."""
        return frozenset((self.opening, self.citing, self.closing, self.stop, *self.digits))

    def cited(self, ids: list[int], number: int) -> tuple[list[int], list[float]]:
        """Return tokens with a citation of passage `number`, from 0; the number is the target."""
        weights = [0.0] * (len(ids) + 1) + [1.0, 0.0]
        return [*ids, self.citing, self.digits[number], self.closing], weights


def pointing(rng: random.Random, vocabulary: int, brackets: Brackets, level: float) -> Document:
    """Return numbered passages of random tokens, then pieces of them with the passage's number.

    Only the numbers are targets. level: from 0, where a piece's citation follows at once and
    passages have 3 to 6 tokens, to 1, where up to 6 tokens that many passages share stand between
    and passages have up to 32 tokens. Without the easy start, 15 M tokens taught nothing.
    """
    count, longest = rng.randint(2, 6), 6 + round(26 * level)
    size = round(3 * (longest / 3) ** rng.random())  # short and long ones
    others = [token for token in range(20, vocabulary) if token not in brackets.all]
    drawn = rng.sample(others, count * size + 10)
    shared, tokens = drawn[:10], drawn[10:]
    fillers, noise = round(6 * level), 0.4 * max(0.0, level - 0.3)
    ids: list[int] = []
    pieces = []
    for number in range(count):
        passage = tokens[number * size : (number + 1) * size]
        ids += [brackets.opening, brackets.digits[number], brackets.closing]
        for token in passage:
            ids += [rng.choice(shared), token] if rng.random() < noise else [token]
        ids.append(brackets.stop)
        for _ in range(3):
            width = rng.randint(1, 3)
            start = rng.randint(0, size - width)
            between = rng.randint(0, fillers)
            piece = passage[start : start + width] + rng.choices(shared, k=max(0, between - 1))
            pieces.append((piece + [brackets.stop] * (between > 0), number))
    weights = [0.0] * len(ids)
    rng.shuffle(pieces)
    for piece, number in pieces:
        cited, targets = brackets.cited(piece, number)
        ids, weights = ids + cited, weights + targets
    return Document(ids[:512], weights[:512])


def quoting(
    tokenizer: PreTrainedTokenizerBase, quotations: tuple[list[str], list[tuple[str, int]]],
    brackets: Brackets,
) -> Document:  # fmt: skip
    """Return passages, then texts from them with the passage's number: `pointing` in sentences.

    quotations: those of `documents.Reader.quotations`. Only the numbers are targets.
    """
    encode = tokenizer.backend_tokenizer.encode
    lines, texts = quotations
    ids = encode("\n".join(lines) + "\n", add_special_tokens=False).ids
    weights = [0.0] * len(ids)
    for text, number in texts:
        piece = encode(f" {text}", add_special_tokens=False).ids
        cited, targets = brackets.cited(piece, number - 1)
        ids, weights = ids + cited, weights + targets
    return Document(ids, weights)


@dataclass
class Batch:
    """Packed rows of documents.

    ids, positions: (rows, length). targets, weights: (rows, length), targets already shifted, -100
    for no target. pixels: (pictures, 3, size, size) in the order of their positions, row after row,
    or None without pictures.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor | None = None


def pack(documents: list[Document], rows: int, length: int) -> Batch:
    """Fill rows with documents in order and remove these documents from the list.

    Positions restart at 0 with each document: transformers treats that as a boundary and masks
    attention across it.
    """
    ids = torch.zeros(rows, length, dtype=torch.long)
    positions = torch.arange(length).repeat(rows, 1)
    targets = torch.full((rows, length), -100)
    weights = torch.zeros(rows, length)
    images: list[torch.Tensor] = []
    for row in range(rows):
        start = 0
        while True:
            fits = (n for n, d in enumerate(documents) if start + len(d.ids) <= length)
            index = next(fits, None)
            if index is None:
                break
            document = documents.pop(index)
            stop = start + len(document.ids)
            ids[row, start:stop] = torch.tensor(document.ids)
            positions[row, start:stop] = torch.arange(stop - start)
            targets[row, start : stop - 1] = torch.tensor(document.ids[1:])
            weights[row, start : stop - 1] = torch.tensor(document.weights[1:])
            images += document.images
            start = stop
        positions[row, start:] = torch.arange(length - start)
    targets[weights == 0] = -100
    return Batch(ids, positions, targets, weights, torch.stack(images) if images else None)


class Stream:
    """Endless batches of packed training text.

    Short and long conversations are packed separately, into rows of the recipe's `lengths` in
    tokens: the cost of attention grows with the row. Longer conversations are dropped and counted.
    The mix's picture tasks have their full share from the first document on.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        recipe: Recipe,
        seed: int,
        batch_tokens: int,
        shape: Shape = MINI,
    ):
        self.tokenizer, self.recipe, self.batch_tokens = tokenizer, recipe, batch_tokens
        self.shape = shape
        source = assistant.Assistant if recipe.acts else Harbour
        self.harbour, self.window = source(seed, "train"), pictures.Window(seed, "train")
        self.rng = random.Random(seed)
        self.picture_mix = {task: n for task, n in recipe.mix.items() if task in pictures.TASKS}
        self.text_mix = {task: n for task, n in recipe.mix.items() if task not in pictures.TASKS}
        self.picture_share = sum(self.picture_mix.values()) / sum(recipe.mix.values())
        self.pools: dict[int, list[Document]] = {length: [] for length in recipe.lengths}
        self.documents = self.dropped = 0
        self.brackets = Brackets.of(tokenizer) if recipe.acts else None
        self.ledger, self.writes_code = code.Ledger(seed, "train"), recipe.writes_code

    def next(self, tokens_read: int) -> Batch:
        """Return one batch; `tokens_read` is how many tokens the whole run has read so far."""
        while True:
            for length, pool in self.pools.items():
                if sum(len(d.ids) for d in pool) > 1.25 * self.batch_tokens:
                    return pack(pool, self.batch_tokens // length, length)
            self.documents += 1
            document = self._document(tokens_read)
            size = next((n for n in self.recipe.lengths if len(document.ids) <= n), None)
            if size is None:
                self.dropped += 1
            else:
                self.pools[size].append(document)

    def _document(self, tokens_read: int) -> Document:
        """Return one document of the curriculum after `tokens_read` tokens."""
        recipe = self.recipe
        progress = min(1, tokens_read / recipe.curriculum_tokens)
        if self.writes_code:
            [task] = self.rng.choices(list(recipe.mix), list(recipe.mix.values()))
            problem = self.ledger.gap() if task == "fim" else self.ledger.function()
            return encode_code(self.tokenizer, problem, recipe.context_weight)
        level = min(1.0, tokens_read / recipe.drill_tokens) if recipe.drill_tokens else 1.0
        if self.rng.random() < (recipe.first_drill_share if level < 1 else recipe.drill_share):
            if recipe.acts:
                return self._citing(level)
            length = self.rng.randint(32, recipe.lengths[0])
            drill = self.rng.choice((recall, binding))
            return drill(self.rng, VOCABULARY, length)
        if self.picture_mix and self.rng.random() < self.picture_share:
            task = self.rng.choices(list(self.picture_mix), list(self.picture_mix.values()))[0]
            sighting = getattr(self.window, task)()
            if recipe.picture_last and self.rng.random() < recipe.picture_last:
                sighting = pictures.put_last(sighting)
            return encode(self.tokenizer, sighting, recipe.context_weight, self.shape)
        self.harbour.invented = recipe.invented * progress
        mix = self.text_mix
        if progress < 1:
            mix = {task: mix[task] for task in recipe.curriculum}
        lesson = self.harbour.lesson(mix, progress, recipe.value_first_share)
        return encode(
            self.tokenizer, lesson, recipe.context_weight, verdict_weight=recipe.verdict_weight
        )

    def _citing(self, level: float) -> Document:
        """Return a drill in citing; from level 0.5, more and more of them in sentences."""
        if self.rng.random() < min(0.7, 2 * level - 1):
            quotations = self.harbour.reader.quotations()
            return quoting(self.tokenizer, quotations, self.brackets)
        return pointing(self.rng, VOCABULARY, self.brackets, min(1.0, 1.6 * level))
