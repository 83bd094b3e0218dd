"""Helpers for fine-tuning with peft: padded batches, the cost of a training step, safe adapters.

The training itself uses peft and torch directly and is shown in the notebook.
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
from transformers import (
    AutoModelForCausalLM,
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from openmodels.gguf.lora import WEIGHTS as ADAPTER
from openmodels.harbour import Instance
from openmodels.minis import data

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
IGNORE_INDEX = -100  # the label of a token without loss, as in transformers


def batch(tokenizer: PreTrainedTokenizerBase, instances: Iterable[Instance]) -> BatchEncoding:
    """Return conversations as one padded batch whose labels are only the answers.

    input_ids, attention_mask, labels: (conversations, longest length), padded on the right.
    """
    documents = [data.encode(tokenizer, instance, context_weight=0.0) for instance in instances]
    shape = (len(documents), max(len(document.ids) for document in documents))
    ids = torch.full(shape, tokenizer.pad_token_id)
    attention_mask, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE_INDEX)
    for row, document in enumerate(documents):
        length = len(document.ids)
        ids[row, :length] = torch.tensor(document.ids)
        attention_mask[row, :length] = 1
        is_target = torch.tensor(document.weights) > 0
        labels[row, :length] = torch.where(is_target, ids[row, :length], IGNORE_INDEX)
    return BatchEncoding({"input_ids": ids, "attention_mask": attention_mask, "labels": labels})


def batches(
    tokenizer: PreTrainedTokenizerBase, instances: Iterable[Instance], each: int
) -> Iterator[BatchEncoding]:
    """Yield `batch` of `each` instances at a time; the last one may be smaller."""
    source = iter(instances)
    while group := list(itertools.islice(source, each)):
        yield batch(tokenizer, group)


def mixed(new: Iterable[Instance], old: Iterable[Instance], every: int) -> Iterator[Instance]:
    """Yield the new instances in order, with one old instance after each `every` of them."""
    old_instances = iter(old)
    for number, instance in enumerate(new, 1):
        yield instance
        if number % every == 0:
            yield next(old_instances)


@dataclass(frozen=True)
class TrainingCost:
    """What one training step stores, in bytes, and computes.

    parameters, trained: counts. weights: of the model with its adapter. training: gradients and
    Adam's two moments of the trained weights. activations: stored by the forward pass for the
    backward pass. flops: operations of both passes.
    """

    parameters: int
    trained: int
    weights: int
    training: int
    activations: int
    flops: int

    @property
    def memory(self) -> int:
        """Return the bytes of weights, training state and activations together."""
        return self.weights + self.training + self.activations


def needs(
    config: PreTrainedConfig,
    adapter: LoraConfig | None,
    rows: int,
    tokens: int,
    dtype: torch.dtype = torch.float32,
) -> TrainingCost:
    """Return the cost of a training step, counted on the meta device without weights.

    rows, tokens: the shape of the batch. adapter: peft's settings, or None to train all parameters.
    dtype: of the frozen weights; peft stores an adapter in float32. Attention is counted as plain
    matrix products. Ignored: temporary tensors within a step, and the libraries.
    """
    config = copy.deepcopy(config)  # building a model changes it
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="eager", trust_remote_code=False
        )
        if adapter is not None:
            model = get_peft_model(model, adapter)
        return measured(model, torch.zeros((rows, tokens), dtype=torch.long))


def measured(model: torch.nn.Module, ids: torch.Tensor) -> TrainingCost:
    """Run one training step of a model on ids (rows, tokens) on its device, and count its cost."""
    weights = {weight.untyped_storage()._cdata: weight for weight in model.parameters()}
    trained = [weight for weight in weights.values() if weight.requires_grad]
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    model.train()
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(save, lambda tensor: tensor):
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
    model.zero_grad()
    return TrainingCost(
        parameters=sum(weight.numel() for weight in weights.values()),
        trained=sum(weight.numel() for weight in trained),
        weights=sum(weight.nbytes for weight in weights.values()),
        training=3 * sum(weight.nbytes for weight in trained),
        activations=sum(storage.nbytes() for storage in saved.values()),
        flops=counter.get_total_flops(),
    )


def attach(model: PreTrainedModel, folder: Path | str) -> PeftModel:
    """Return a model with the adapter in a folder, in evaluation mode.

    Raises ValueError if the folder has no safetensors file or has a pickle, which can run code
    while it is loaded: peft would load a pickle if the safetensors file is missing.
    """
    folder = Path(folder)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles or not (folder / ADAPTER).is_file():
        raise ValueError(
            f"{folder.name} must contain {ADAPTER} and no pickle; pickles here: {pickles or 'none'}"
        )
    return PeftModel.from_pretrained(model, folder).eval()
