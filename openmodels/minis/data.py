"""From Port Lark's conversations and code to packed rows of token ids, a weight per token."""

import random
from dataclasses import dataclass, field
from itertools import permutations

import torch

from openmodels.harbour import Harbour, Instance, code, pictures
from openmodels.minis.images import MINI, TOKENS, Shape
from openmodels.minis.tokenizer import FIM, VOCABULARY

ASSISTANT = "<|im_start|>assistant\n"
END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"


@dataclass
class Document:
    """Token ids and, for each, the weight of predicting it (0: not a target).

    images: (3, size, size) each, in the order of their places among the tokens.
    """

    ids: list[int]
    weights: list[float]
    images: list[torch.Tensor] = field(default_factory=list)


def render(tokenizer, instance: Instance | pictures.Sighting, messages: int | None = None,
           ask: bool = False) -> str:  # fmt: skip
    """The chat text of an instance's first `messages` messages; ask=True opens the answer."""
    tools = getattr(instance, "tools", None)  # what is seen comes without any
    return tokenizer.apply_chat_template(
        list(instance.messages[:messages]),
        tools=list(tools) if tools else None,
        tokenize=False,
        add_generation_prompt=ask,
    )


def encode(tokenizer, instance: Instance | pictures.Sighting, context_weight: float,
           shape: Shape = MINI) -> Document:  # fmt: skip
    """Answers weigh 1, everything else `context_weight`: reading teaches copying too.

    A picture's tokens are read, not predicted.
    """
    ids, weights = [], []
    text = render(tokenizer, instance)
    shown = [instance.image] if isinstance(instance, pictures.Sighting) else []
    if shown:
        text = shape.expand(text, len(shown))
    for number, part in enumerate(text.split(ASSISTANT)):
        answer, end, rest = part.partition(END) if number else ("", "", part)
        head = ASSISTANT if number else ""
        for text, weight in ((head, 0.0), (answer + end, 1.0), (rest, context_weight)):
            piece = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            ids += piece
            weights += [weight] * len(piece)
    if shown:
        places = set(tokenizer.convert_tokens_to_ids(list(TOKENS)))
        weights = [0.0 if n in places else w for n, w in zip(ids, weights, strict=True)]
    return Document(ids, weights, [shape.pixels(image) for image in shown])


def code_prompt(asked: code.Function | code.Gap) -> str:
    """What the coder completes: a function's head, or a gap in Qwen2.5-Coder's order.

    The order is prefix, suffix, middle (PSM; Hui et al. 2024, arXiv 2409.12186, section 3.2).
    """
    if isinstance(asked, code.Function):
        return asked.head
    return f"<|fim_prefix|>{asked.prefix}<|fim_suffix|>{asked.suffix}<|fim_middle|>"


def encode_code(tokenizer, asked: code.Function | code.Gap, context_weight: float) -> Document:
    """The body or the middle, with the end of the text, weighs 1, what it follows from less.

    The prompt's own markers are no targets: nothing says where a gap begins.
    """
    answer = asked.body if isinstance(asked, code.Function) else asked.middle
    start, ids = (
        tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        for text in (code_prompt(asked), answer + END_OF_TEXT)
    )
    markers = set(tokenizer.convert_tokens_to_ids(list(FIM)))
    weights = [0.0 if token in markers else context_weight for token in start]
    return Document(start + ids, weights + [1.0] * len(ids))


def recall(rng: random.Random, vocabulary: int, length: int) -> Document:
    """Random tokens in which pieces come back: nothing to know, only copying to learn.

    Segments return either as they were, or one at a time after their first token. Each
    repeated token past the first of its segment is a target.
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
    """Random tokens as a table in words: which value belongs to this row *and* this column.

    First each cell once, as three tokens (row, column, value) in one of two orders that the
    document keeps to, some with a token between, and a full stop; then rows and columns whose
    value is the target. Reading from a text with several subjects is this task in sentences.
    """
    rows, columns = rng.choice(((2, 1), (4, 1), (5, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 3)))
    drawn = rng.sample(range(20, vocabulary), rows + columns + rows * columns + 4)
    row, column, rest = drawn[:rows], drawn[rows : rows + columns], drawn[rows + columns :]
    stop, between, values = rest[0], rest[1:4], iter(rest[4:])
    cells = [(r, c, next(values)) for r in row for c in column]
    rng.shuffle(cells)
    orders = rng.choices(list(permutations(range(3))), k=2)
    ids, weights = [], []
    for cell in cells:
        words = [cell[place] for place in rng.choice(orders)]
        if rng.random() < 0.3:
            words.insert(rng.randint(1, 2), rng.choice(between))
        ids += [*words, stop]
        weights += [0.0] * (len(words) + 1)
    first, second = rng.choice(((0, 1), (1, 0)))
    while len(ids) < length:
        cell = rng.choice(cells)
        ids += [cell[first], cell[second], cell[2]]
        weights += [0.0, 0.0, 1.0]
    return Document(ids[:length], weights[:length])


@dataclass
class Batch:
    """Packed rows. ids, positions: (rows, length); targets, weights: (rows, length), targets
    already shifted, -100 where there is nothing to predict. pixels: (pictures, 3, size, size) in
    the order of their places, row after row, or None without pictures."""

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor | None = None


def pack(documents: list[Document], rows: int, length: int) -> Batch:
    """Fill rows with documents in turn; takes used documents out of the list.

    Positions restart at 0 with each document: transformers reads that as a boundary and lets no
    token attend across it.
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

    Short and long conversations are packed apart, into rows of `lengths[0]` and `lengths[1]`
    tokens: attention's cost grows with the row. Longer conversations are dropped and counted.
    The mix's picture tasks keep their share of it from the first document on.
    """

    def __init__(self, tokenizer, recipe, seed: int, batch_tokens: int, shape: Shape = MINI):
        self.tokenizer, self.recipe, self.batch_tokens = tokenizer, recipe, batch_tokens
        self.shape = shape
        self.harbour, self.window = Harbour(seed, "train"), pictures.Window(seed, "train")
        self.rng = random.Random(seed)
        self.seen = {task: n for task, n in recipe.mix.items() if task in pictures.TASKS}
        self.told = {task: n for task, n in recipe.mix.items() if task not in pictures.TASKS}
        self.pictures = sum(self.seen.values()) / sum(recipe.mix.values())  # their share
        self.pools: dict[int, list[Document]] = {length: [] for length in recipe.lengths}
        self.documents = self.dropped = 0
        self.ledger, self.writes_code = code.Ledger(seed, "train"), recipe.writes_code

    def next(self, seen_tokens: int) -> Batch:
        """One batch, given how many tokens the whole run has read so far."""
        recipe = self.recipe
        while True:
            for length, pool in self.pools.items():
                if sum(len(d.ids) for d in pool) > 1.25 * self.batch_tokens:
                    return pack(pool, self.batch_tokens // length, length)
            self.documents += 1
            begun = min(1, seen_tokens / recipe.curriculum_tokens)
            if self.writes_code:
                [task] = self.rng.choices(list(recipe.mix), list(recipe.mix.values()))
                asked = self.ledger.gap() if task == "fim" else self.ledger.function()
                document = encode_code(self.tokenizer, asked, recipe.context_weight)
            elif self.rng.random() < recipe.drill_share:
                length = self.rng.randint(32, recipe.lengths[0])
                drill = self.rng.choice((recall, binding))
                document = drill(self.rng, VOCABULARY, length)
            elif self.seen and self.rng.random() < self.pictures:
                task = self.rng.choices(list(self.seen), list(self.seen.values()))[0]
                sighting = getattr(self.window, task)()
                document = encode(self.tokenizer, sighting, recipe.context_weight, self.shape)
            else:
                self.harbour.invented = recipe.invented * begun
                mix = self.told
                if begun < 1:
                    mix = {task: mix[task] for task in recipe.curriculum}
                lesson = self.harbour.lesson(mix, begun, recipe.value_first_share)
                document = encode(self.tokenizer, lesson, recipe.context_weight)
            size = next((n for n in recipe.lengths if len(document.ids) <= n), None)
            if size is None:
                self.dropped += 1
            else:
                self.pools[size].append(document)
