"""Turn texts into vectors as Qwen3-Embedding does, and measure how well vectors find passages.

A text's vector is the last token's hidden state, normalised (Zhang et al. 2025, arXiv 2506.05176,
section 2). A query starts with an instruction; a passage is bare. The first 64 or 32 numbers are
vectors too (Matryoshka; Kusupati et al. 2022, arXiv 2205.13147).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

INSTRUCTION = "Given a question, find the passage that answers it."
PROMPT = f"Instruct: {INSTRUCTION}\nQuery:"
DIMENSIONS = (128, 64, 32)
END_OF_TEXT = "<|endoftext|>"


# What sentence-transformers reads: the modules in order, the pooling, and the query's prompt.
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize",
     "type": "sentence_transformers.models.Normalize"},
]  # fmt: skip
POOLING = {
    "word_embedding_dimension": DIMENSIONS[0],
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
    "pooling_mode_weightedmean_tokens": False,
    "pooling_mode_lasttoken": True,
    "include_prompt": True,
}
PROMPTS = {
    "prompts": {"query": PROMPT, "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}


def query(question: str) -> str:
    """Return a question in the form in which it is embedded."""
    return PROMPT + question


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return an embedding model in float32 and its tokenizer."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> torch.Tensor:
    """Return a text's tokens and the token whose hidden state is the vector, shape (seq,)."""
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return torch.tensor([*ids, tokenizer.convert_tokens_to_ids(END_OF_TEXT)])


def pool(
    model: PreTrainedModel, rows: Sequence[torch.Tensor], tokens: int = 1024, mean: bool = False
) -> torch.Tensor:
    """Return the last token's hidden states of rows of token ids, shape (rows, hidden size).

    Rows of similar length share a batch of at most about `tokens` tokens. mean: average over all
    tokens instead.
    """
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
    batches, longest = [[]], 0
    for index in order:
        longest = max(longest, len(rows[index]))
        if batches[-1] and longest * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            longest = len(rows[index])
        batches[-1].append(index)
    vectors = []
    for batch in batches:
        ids = pad_sequence([rows[n] for n in batch], True).to(model.device)  # (batch, seq)
        lengths = torch.tensor([len(rows[n]) for n in batch], device=model.device)
        # padded on the right, so a causal model needs no mask
        states = model(input_ids=ids, use_cache=False).last_hidden_state  # (batch, seq, hidden)
        if mean:
            inside = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
            vectors.append((states * inside[..., None]).sum(1) / lengths[:, None])
        else:
            vectors.append(states[torch.arange(len(batch)), lengths - 1])
    places = torch.tensor([n for batch in batches for n in batch]).argsort()
    return torch.cat(vectors)[places]


def cut(vectors: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Return the first `dimensions` numbers of each vector, with length 1."""
    return torch.nn.functional.normalize(vectors[..., :dimensions], dim=-1)


@torch.no_grad()
def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    dimensions: int | None = None,
) -> torch.Tensor:
    """Return the vectors of texts, shape (texts, dimensions), each of length 1.

    dimensions: by default all that the model has. Put a question through `query` first. Raises
    ValueError for dimensions that the model lacks.
    """
    size = model.config.hidden_size
    dimensions = size if dimensions is None else dimensions
    if not 1 <= dimensions <= size:
        raise ValueError(f"the model has 1 to {size} dimensions, not {dimensions}")
    if not texts:
        return torch.empty(0, dimensions)
    return cut(pool(model, [token_ids(tokenizer, text) for text in texts]), dimensions).cpu()


def save(model: PreTrainedModel, tokenizer_home: Path, folder: Path) -> None:
    """Store a model in bfloat16 in the hub's layout, with what sentence-transformers reads.

    tokenizer_home: the folder of the tokenizer; the stored tokenizer appends <|endoftext|> to each
    text, which is also its end of sequence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.eos_token_id = 0  # <|endoftext|>
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = read_json(tokenizer_home / "tokenizer.json")
    end = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    post = tokenizer["post_processor"]
    post["single"] = [*post["single"], end]
    post["pair"] = [post["pair"][0], end, post["pair"][1], end]
    post["special_tokens"] = {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [0], "tokens": [END_OF_TEXT]}}
    settings = read_json(tokenizer_home / "tokenizer_config.json") | {"eos_token": END_OF_TEXT}
    files = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": settings,
        "modules.json": MODULES,
        "1_Pooling/config.json": POOLING,
        "config_sentence_transformers.json": PROMPTS,
    }
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        text = json.dumps(content, indent=None if name == "tokenizer.json" else 2,
                          ensure_ascii=False)  # fmt: skip
        file.write_text(text + "\n", encoding="utf-8")


def read_json(file: Path) -> dict:
    """Return the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))
