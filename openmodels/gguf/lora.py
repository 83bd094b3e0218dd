"""Exports a LoRA saved by peft to the GGUF adapter that llama.cpp adds to a model."""

import json
import re
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open
from transformers import AutoConfig

from openmodels.gguf.export import ARCHITECTURES, interleaved, write_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight", re.ASCII)
# options of peft that llama.cpp cannot apply
UNKNOWN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


def export_adapter(base: Path, home: Path, file: Path) -> Path:
    """Write the adapter in a folder, trained on the model in `base`, as one GGUF file.

    home: contains adapter_config.json and adapter_model.safetensors. Returns `file`. Raises
    ValueError for an adapter that is more than a LoRA on linear layers, or for another base.
    """
    adapter_config = json.loads((home / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(adapter_config, dict) or adapter_config.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json describes no LoRA")
    unknown = [key for key in UNKNOWN if adapter_config.get(key)]
    if unknown or adapter_config.get("bias", "none") != "none":
        raise ValueError(f"a LoRA with {', '.join(unknown) or 'biases'} is not known here")
    alpha = adapter_config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ValueError("adapter_config.json has no number as lora_alpha")
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    text, architecture = config.get_text_config(), ARCHITECTURES[config.architectures[0]]
    heads = {".q_proj": text.num_attention_heads, ".k_proj": text.num_key_value_heads}

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(alpha))
        names = gguf.get_tensor_name_map(architecture, text.num_hidden_layers)
        with safe_open(home / WEIGHTS, "pt") as opened:
            for name in opened.keys():
                match = NAME.fullmatch(name)
                gguf_name = names.get_name(match[1]) if match else None
                if gguf_name is None:
                    raise ValueError(f"the base has no place for {name[:100]}")
                layer, matrix = match.groups()
                values = opened.get_tensor(name).float().numpy()
                projection = layer[layer.rfind(".") :]
                is_rotary = architecture == gguf.MODEL_ARCH.LLAMA and projection in heads
                if is_rotary and matrix == "B":
                    values = interleaved(values, heads[projection])
                part = f"{gguf_name}.weight.lora_{matrix.lower()}"
                writer.add_tensor(part, np.ascontiguousarray(values, dtype=np.float32))

    return write_file(file, gguf.MODEL_ARCH_NAMES[architecture], fill)
