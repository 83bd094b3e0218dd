"""A LoRA as peft saves it, as the GGUF adapter that llama.cpp adds to a model."""

import json
import re
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open
from transformers import AutoConfig

from openmodels.gguf.export import ARCHITECTURES, interleaved, written

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight", re.ASCII)
# what else peft can put into an adapter, and llama.cpp cannot add
UNKNOWN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


def export_adapter(base: Path, home: Path, file: Path) -> Path:
    """Write the adapter in a folder, trained on the model in `base`, as one GGUF file.

    home: holds adapter_config.json and adapter_model.safetensors. Raises ValueError for an adapter
    that is more than a LoRA on linear layers, or not one of this base.
    """
    told = json.loads((home / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(told, dict) or told.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json tells of no LoRA")
    odd = [key for key in UNKNOWN if told.get(key)]
    if odd or told.get("bias", "none") != "none":
        raise ValueError(f"a LoRA with {', '.join(odd) or 'biases'} is not known here")
    alpha = told.get("lora_alpha")
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
                found = NAME.fullmatch(name)
                known = names.get_name(found[1]) if found else None
                if known is None:
                    raise ValueError(f"the base has no place for {name[:100]}")
                values = opened.get_tensor(name).float().numpy()
                end = found[1][-7:]
                if architecture == gguf.MODEL_ARCH.LLAMA and found[2] == "B" and end in heads:
                    values = interleaved(values, heads[end])
                part = f"{known}.weight.lora_{found[2].lower()}"
                writer.add_tensor(part, np.ascontiguousarray(values, dtype=np.float32))

    return written(file, gguf.MODEL_ARCH_NAMES[architecture], fill)
