"""What the notebook on adapting needs beside peft: batches, the price of training, adapters.

The training itself is peft's and torch's, and stands in the notebook.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, BatchEncoding, PreTrainedConfig

from openmodels.gguf.lora import WEIGHTS as ADAPTER
from openmodels.harbour import Instance
from openmodels.minis import data

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
IGNORE_INDEX = -100  # the label of a token that is not learned, as transformers reads it


def batch(tokenizer, instances: Iterable[Instance]) -> BatchEncoding:
    """Conversations as one padded batch, whose labels are the answers alone.

    input_ids, attention_mask, labels: (conversations, tokens of the longest), padded on the right.
    """
    documents = [data.encode(tokenizer, one, context_weight=0.0) for one in instances]
    shape = (len(documents), max(len(one.ids) for one in documents))
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE_INDEX)
    for row, one in enumerate(documents):
        size = len(one.ids)
        ids[row, :size] = torch.tensor(one.ids)
        mask[row, :size] = 1
        learned = torch.tensor(one.weights) > 0
        labels[row, :size] = torch.where(learned, ids[row, :size], IGNORE_INDEX)
    return BatchEncoding({"input_ids": ids, "attention_mask": mask, "labels": labels})


def batches(tokenizer, instances: Iterable[Instance], each: int) -> Iterator[BatchEncoding]:
    """`batch` of `each` instances after the other; the last may be smaller."""
    source = iter(instances)
    while some := list(itertools.islice(source, each)):
        yield batch(tokenizer, some)


def mixed(new: Iterable[Instance], old: Iterable[Instance], every: int) -> Iterator[Instance]:
    """The new in their order, and after each `every` of them one of the old."""
    old = iter(old)
    for number, one in enumerate(new, 1):
        yield one
        if number % every == 0:
            yield next(old)


@dataclass(frozen=True)
class TrainingCost:
    """What one training step holds, in bytes, and what it computes.

    parameters, trained: how many. weights: of the model, adapter included. training: gradients and
    Adam's two means of what is trained. activations: what the forward pass keeps for the backward
    one. flops: operations of both passes.
    """

    parameters: int
    trained: int
    weights: int
    training: int
    activations: int
    flops: int

    @property
    def memory(self) -> int:
        return self.weights + self.training + self.activations


def needs(config: PreTrainedConfig, adapter: LoraConfig | None, rows: int, tokens: int,
          dtype: torch.dtype = torch.float32) -> TrainingCost:  # fmt: skip
    """Count a step of training on the meta device, `rows` texts of `tokens` tokens: no weights.

    adapter: peft's settings, or None to train all parameters. dtype: of the frozen weights; peft
    keeps an adapter in float32. Attention is counted as plain matrix products. Left out: what a
    step holds for a moment, and the libraries.
    """
    config = copy.deepcopy(config)  # building a model writes into it
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
        if adapter is not None:
            model = get_peft_model(model, adapter)
        return measured(model, torch.zeros((rows, tokens), dtype=torch.long))


def measured(model: torch.nn.Module, ids: torch.Tensor) -> TrainingCost:
    """Take one step of a model on ids (rows, tokens), wherever it lies, and count."""
    weights = {one.untyped_storage()._cdata: one for one in model.parameters()}
    trained = [one for one in weights.values() if one.requires_grad]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    model.train()
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            read = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
            loss = model(**read, use_cache=False).loss
        loss.backward()
    model.zero_grad()
    return TrainingCost(
        parameters=sum(one.numel() for one in weights.values()),
        trained=sum(one.numel() for one in trained),
        weights=sum(one.nbytes for one in weights.values()),
        training=3 * sum(one.nbytes for one in trained),
        activations=sum(one.nbytes() for one in kept.values()),
        flops=counter.get_total_flops(),
    )


def attach(model, folder: Path | str) -> PeftModel:
    """A model with the adapter in a folder, for answering.

    Raises ValueError for a folder without safetensors or with a pickle in it, which can run code
    while it is read: peft would open one where the other is missing.
    """
    folder = Path(folder)
    pickles = sorted(one.name for one in folder.iterdir() if one.suffix in PICKLES)
    if pickles or not (folder / ADAPTER).is_file():
        raise ValueError(
            f"{folder.name}: wanted {ADAPTER} and no pickle, found {pickles or 'none'}"
        )
    return PeftModel.from_pretrained(model, folder).eval()
