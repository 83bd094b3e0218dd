"""The miniatures' tokenizer: byte-level BPE in Qwen2's form, trained on Port Lark.

Digits are single tokens, so a number is copied digit by digit. Every name of the closed list is
one token: a small model could not copy names of several sub-words.

The coder has its own tokenizer, trained on the ledger's functions. The shared one, trained on
conversations, splits a function into 77 tokens on average; the coder's needs 39 with a third of
the entries, because every word of the ledger is a token.
"""

import keyword
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from openmodels.harbour import TASKS, Harbour, code
from openmodels.harbour.world import NAMES
from openmodels.minis import images, qwen_vl

VOCABULARY = 1536
CODE_VOCABULARY = 512
CODERS = ("mini-qwen-coder",)
AGENTS = ("mini-qwen-agent",)
SEERS = ("mini-scout",)
QWEN_SEERS = ("mini-qwen-vl",)
HEARERS = ("mini-qwen-audio",)
# Qwen2.5's control tokens, in its order; <think> as in Qwen3, where reasoning is a mode.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
           "<tools>", "</tools>", "<think>", "</think>")  # fmt: skip
# Qwen2.5-Coder's, for filling in the middle (Hui et al. 2024, arXiv 2409.12186, section 3.2)
FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
# Qwen2's own split: contractions, words with a leading space, single digits, punctuation, space.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHIPPED = Path(__file__).parents[1] / "data" / "tokenizer"
SHIPPED_CODER = SHIPPED.with_name("tokenizer-coder")
TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


def corpus(seed: int, each: int) -> Iterator[str]:
    """Yield the text of `each` training instances per task, without the chat template."""
    source = Harbour(seed, "train", invented=0.3)
    for _ in range(each):
        # Chinese three times: a character needs two merges to become one token.
        for task in TASKS + 3 * ("words", "sentences"):
            if task == "intent_phrasing":
                continue  # all of it is held out
            instance = getattr(source, task)()
            for message in instance.messages:
                yield message.get("content", "")
                for call in message.get("tool_calls", ()):
                    yield str(call["function"]).replace("'", '"')
            yield from (str(tool).replace("'", '"') for tool in instance.tools or ())


def load(name: str = "mini-qwen") -> Qwen2Tokenizer:
    """Return the tokenizer a miniature is trained with: the coder's, or the shared one.

    Models with vision get the shared one with image tokens, models that hear with audio tokens.
    """
    if name in SEERS:
        return load_with_images()
    if name in QWEN_SEERS:
        return load_with_images(qwen_vl.TOKENS, qwen_vl.MARK)
    if name in HEARERS:
        from openmodels.minis import audio  # which needs this module

        return audio.load_tokenizer()
    tokenizer = Qwen2Tokenizer.from_pretrained(SHIPPED_CODER if name in CODERS else SHIPPED)
    if name in AGENTS:
        tokenizer.model_max_length = 2048
    return tokenizer


# A message with several parts, as in Llama 4's template: a picture is one <|image|>, which the
# processor expands.
PARTS = """\
{%- macro words(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content or [] %}
            {{- "<|image|>" if part.type == "image" else part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
"""


def load_with_images(
    tokens: tuple[str, ...] = images.TOKENS, mark: str = images.PLACE
) -> Qwen2Tokenizer:
    """Return the shared tokenizer with a family's picture tokens after its own entries.

    tokens: by default Llama 4's. mark: what the template writes for a picture.
    """
    tokenizer = load()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in tokens])
    shared = tokenizer.chat_template
    parts = PARTS.replace(images.PLACE, mark)
    tokenizer.chat_template = parts + re.sub(r"message(s\[0\])?\.content", r"words(\g<0>)", shared)
    return tokenizer


def bpe_of(texts: Iterable[str], size: int) -> Tokenizer:
    """Train byte-level BPE of `size` entries: special tokens (ids 0, 1, 2), 256 bytes, merges."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],  # ids 0, 1, 2
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def build(seed: int = 1, each: int = 3000) -> Qwen2Tokenizer:
    """Train a tokenizer: 256 bytes, merges, then names and markers; VOCABULARY entries.

    Merges of equal count are ordered differently in each process, so two builds number their tokens
    differently. Train models with `load()`.
    """
    names = re.compile(r"\b(" + "|".join(NAMES) + r")\b")  # not merged: they are tokens already
    frame = re.sub(r"{[%{#].*?[%}#]}", "", TEMPLATE, flags=re.S)
    texts = (names.sub("", text) for text in corpus(seed, each))
    literal = " ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', TEMPLATE)).replace("\\n", "\n")
    texts = [*texts, *[literal.replace('\\"', '"')] * 500, frame]
    bpe = bpe_of(texts, VOCABULARY - len(MARKERS) - len(NAMES))
    bpe.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    bpe.add_tokens([AddedToken(name, normalized=False, single_word=True) for name in NAMES])
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=1024,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_coder(seed: int = 1, count: int = 8000) -> Qwen2Tokenizer:
    """Train the coder's tokenizer: 256 bytes, merges, then FIM markers; CODE_VOCABULARY entries.

    `count` functions of the train split leave no word to merge after some 470 entries; Python's
    keywords fill the remaining ones. It has no chat template: like Qwen2.5-Coder's base models, the
    coder completes text and ends it with <|endoftext|>.
    """
    ledger = code.Ledger(seed, "train")
    texts = [*(ledger.function().source for _ in range(count)), " ".join(keyword.kwlist)]
    bpe = bpe_of(texts, CODE_VOCABULARY - len(FIM))
    bpe.add_tokens([AddedToken(token, normalized=False) for token in FIM])
    return Qwen2Tokenizer(
        tokenizer_object=bpe,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=1024,
    )
