"""From a model's folder to GGUF, the file llama.cpp and Ollama read.

`export(folder, file, kind)` writes one; `gguf_file("mini-qwen", "f16")` makes it on first use and
keeps it in a cache. Four architectures are known: Qwen2, Mistral (llama.cpp's "llama"), Llama 4
and DeepSeek-V3 ("deepseek2"), under the names that llama.cpp gives their parts.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
from filelock import FileLock
from safetensors import safe_open
from tokenizers.decoders import ByteLevel
from transformers import AutoConfig, PreTrainedConfig

from openmodels import minis
from openmodels.gguf import qwen_audio

KINDS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
ARCHITECTURES = {
    "Qwen2ForCausalLM": gguf.MODEL_ARCH.QWEN2,
    "MistralForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "DeepseekV3ForCausalLM": gguf.MODEL_ARCH.DEEPSEEK2,
    "Llama4ForCausalLM": gguf.MODEL_ARCH.LLAMA4,
    "Llama4ForConditionalGeneration": gguf.MODEL_ARCH.LLAMA4,
    "Qwen2AudioForConditionalGeneration": gguf.MODEL_ARCH.QWEN2,
}
# llama.cpp leaves out the norm of queries and keys only where it counts as many experts.
MAVERICK_EXPERTS = 128
FILLING = {
    "<|fim_prefix|>": gguf.Keys.Tokenizer.FIM_PRE_ID,
    "<|fim_suffix|>": gguf.Keys.Tokenizer.FIM_SUF_ID,
    "<|fim_middle|>": gguf.Keys.Tokenizer.FIM_MID_ID,
}
PREFIXES = ("language_model.", "model.language_model.")
VERSION = 3  # of what this module writes: part of the key of the cache

Tensors = Iterator[tuple[str, np.ndarray]]


def export(home: Path, file: Path, kind: str = "f16") -> Path:
    """Write the language model in a folder as one GGUF file, complete or not at all.

    kind: a key of `KINDS`, for the matrices; norms and biases stay float32. Raises ValueError for
    another kind or an architecture this module does not know.
    """
    config = AutoConfig.from_pretrained(home)
    architecture = ARCHITECTURES.get((config.architectures or [""])[0])
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    if architecture is None:
        raise ValueError(
            f"{home} holds {config.architectures}, and only {', '.join(ARCHITECTURES)} are known "
            "here; llama.cpp's own converter knows more"
        )

    def fill(writer: gguf.GGUFWriter) -> None:
        text = config.get_text_config()
        writer.add_name(Path(home).name)
        tell_kind(writer, kind)
        describe(writer, text, architecture)
        tell_tokens(writer, Path(home), config)
        names = gguf.get_tensor_name_map(architecture, text.num_hidden_layers)
        for name, values in renamed(Path(home), text, architecture):
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None:
                raise ValueError(f"{home} has a tensor {name} that llama.cpp has no name for")
            add(writer, known, values, kind)

    return written(file, gguf.MODEL_ARCH_NAMES[architecture], fill)


def export_vision(home: Path, file: Path, kind: str = "f16", turned: bool = False) -> Path:
    """Write the vision tower and projector of a Llama 4 as llama.cpp's second file, the mmproj.

    llama.cpp hands the language model a picture's tokens column by column, transformers row by row.
    turned: write weights for pictures whose rows and columns are swapped; given such a picture,
    llama.cpp's order is the one the model was trained with. It also leaves out <|image|>, the token
    before the patches; answers stay. ValueError where there are no pictures.
    """
    config = AutoConfig.from_pretrained(home)
    if config.model_type == qwen_audio.MODEL_TYPE:
        return export_audio(Path(home), file, kind, config)
    vision = getattr(config, "vision_config", None)
    if vision is None:
        raise ValueError(f"{home} reads no pictures")
    seen = json.loads((Path(home) / "preprocessor_config.json").read_text(encoding="utf-8"))

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(Path(home).name)
        tell_kind(writer, kind)
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type(gguf.VisionProjectorType.LLAMA4)
        writer.add_vision_projection_dim(config.get_text_config().hidden_size)
        writer.add_vision_image_size(vision.image_size)
        writer.add_vision_patch_size(vision.patch_size)
        writer.add_vision_embedding_length(vision.hidden_size)
        writer.add_vision_feed_forward_length(vision.intermediate_size)
        writer.add_vision_block_count(vision.num_hidden_layers)
        writer.add_vision_head_count(vision.num_attention_heads)
        writer.add_vision_attention_layernorm_eps(vision.norm_eps)
        writer.add_vision_projector_scale_factor(round(1 / vision.pixel_shuffle_ratio))
        writer.add_vision_image_mean(seen["image_mean"])
        writer.add_vision_image_std(seen["image_std"])
        writer.add_vision_use_gelu(True)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision.num_hidden_layers)
        for name, values in tensors(Path(home)):
            if not name.startswith(("vision_model.", "multi_modal_projector.")):
                continue
            if name.endswith("positional_embedding_vlm"):
                name += ".weight"
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            known = {"multi_modal_projector.linear_1.weight": "mm.model.fc.weight"}.get(name, known)
            if turned:
                values = turn(name, values, vision)
            # the name map thinks of another model here
            add(writer, known.replace("attn_post_norm", "ln2"), values, kind)

    return written(file, "clip", fill)


def export_audio(home: Path, file: Path, kind: str, config: PreTrainedConfig) -> Path:
    """Write the sound encoder and projector of a Qwen2-Audio as llama.cpp's mmproj file."""

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(home.name)
        tell_kind(writer, kind)
        qwen_audio.describe_audio(writer, config)
        blocks = config.audio_config.encoder_layers
        for name, values in qwen_audio.audio_tensors(tensors(home), blocks):
            add(writer, name, values, qwen_audio.tensor_kind(name, kind))

    return written(file, "clip", fill)


def turn(name: str, values: np.ndarray, vision: PreTrainedConfig) -> np.ndarray:
    """A tensor of the vision tower, for pictures whose rows and columns are swapped."""
    side, patch = vision.image_size // vision.patch_size, vision.patch_size
    if name.endswith("patch_embedding.linear.weight"):  # (out, channels * rows * columns)
        return values.reshape(len(values), -1, patch, patch).swapaxes(2, 3).reshape(values.shape)
    if "positional_embedding_vlm" in name:  # (rows * columns and one for the class, width)
        grid = values[:-1].reshape(side, side, -1).swapaxes(0, 1).reshape(side * side, -1)
        return np.concatenate([grid, values[-1:]])
    if ".q_proj." in name or ".k_proj." in name:  # half of each head turns by column, half by row
        halves = values.reshape(vision.num_attention_heads, 2, -1)
        return halves[:, ::-1].reshape(values.shape)
    if name.endswith("vision_adapter.mlp.fc1.weight"):  # (out, rows * columns of a square * width)
        times = round(1 / vision.pixel_shuffle_ratio)
        square = values.reshape(len(values), times, times, -1)
        return square.swapaxes(1, 2).reshape(values.shape)
    return values


def written(file: Path, architecture: str, fill: Callable[[gguf.GGUFWriter], None]) -> Path:
    """Let `fill` write into a neighbour of `file`, then put it in its place in one step."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    os.close(handle)
    try:
        writer = gguf.GGUFWriter(draft, architecture, use_temp_file=True)  # not in memory
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(draft, file)
    finally:
        Path(draft).unlink(missing_ok=True)
    return file


def tell_kind(writer: gguf.GGUFWriter, kind: str) -> None:
    """The kind of most matrices; where they are in blocks, also the version of the blocks."""
    writer.add_file_type(FILE_TYPES[kind])
    if KINDS[kind] not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def describe(writer: gguf.GGUFWriter, text: PreTrainedConfig, architecture) -> None:
    """The shape of the language model, under the keys that llama.cpp reads."""
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    wide = getattr(text, "intermediate_size_mlp", None) or text.intermediate_size
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(text.rope_parameters["rope_theta"])
    writer.add_vocab_size(text.vocab_size)
    if architecture == gguf.MODEL_ARCH.DEEPSEEK2:
        # llama.cpp sees latent attention as one wide key-value head
        writer.add_head_count_kv(1)
        writer.add_key_length(text.kv_lora_rank + text.qk_rope_head_dim)
        writer.add_value_length(text.kv_lora_rank)
        writer.add_key_length_mla(text.qk_nope_head_dim + text.qk_rope_head_dim)
        writer.add_value_length_mla(text.v_head_dim)
        writer.add_q_lora_rank(text.q_lora_rank)
        writer.add_kv_lora_rank(text.kv_lora_rank)
        writer.add_rope_dimension_count(text.qk_rope_head_dim)
        writer.add_leading_dense_block_count(text.first_k_dense_replace)
        writer.add_expert_feed_forward_length(text.moe_intermediate_size)
        writer.add_expert_count(text.n_routed_experts)
        writer.add_expert_used_count(text.num_experts_per_tok)
        writer.add_expert_shared_count(text.n_shared_experts)
        writer.add_expert_group_count(text.n_group)
        writer.add_expert_group_used_count(text.topk_group)
        writer.add_expert_weights_scale(text.routed_scaling_factor)
        writer.add_expert_weights_norm(text.norm_topk_prob)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        return
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    if architecture == gguf.MODEL_ARCH.LLAMA4:
        writer.add_interleave_moe_layer_step(text.interleave_moe_layer_step)
        writer.add_expert_feed_forward_length(text.intermediate_size)
        writer.add_expert_count(text.num_local_experts * copies(text))
        writer.add_expert_used_count(text.num_experts_per_tok)


def copies(text: PreTrainedConfig) -> int:
    """How often each expert of a Llama 4 must stand in the file.

    llama.cpp tells Maverick, which does not norm queries and keys, from Scout by its 128 experts.
    Of a router's equal rows one is chosen, whichever, so copies change no result.
    """
    return 1 if text.use_qk_norm else MAVERICK_EXPERTS // text.num_local_experts


def tell_tokens(writer: gguf.GGUFWriter, home: Path, config: PreTrainedConfig) -> None:
    """Tokenizer, special tokens and chat template."""
    told = json.loads((home / "tokenizer.json").read_text(encoding="utf-8"))
    names = json.loads((home / "tokenizer_config.json").read_text(encoding="utf-8"))
    words = {number: token for token, number in told["model"]["vocab"].items()}
    added = {token["id"]: token for token in told["added_tokens"]}
    # llama.cpp finds an added token within words too, the name Frida in Friday; the longest is
    # found first, so a word of the vocabulary that holds one is given as an added token itself
    alone = [token["content"] for token in added.values() if token["single_word"]]
    tokens, types = [], []
    for number in range(config.get_text_config().vocab_size):
        if number in added:
            tokens.append(added[number]["content"])
            special = added[number]["special"]
            types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        elif number in words and any(token in words[number] for token in alone):
            tokens.append(ByteLevel().decode([words[number]]))
            types.append(gguf.TokenType.USER_DEFINED)
        elif number in words:
            tokens.append(words[number])
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            types.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = told["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    number_of = {token["content"]: number for number, token in added.items()}
    writer.add_eos_token_id(number_of[names["eos_token"]])
    writer.add_pad_token_id(number_of[names["pad_token"]])
    writer.add_add_bos_token(False)
    for token, key in FILLING.items():
        if token in number_of:
            writer.add_uint32(key, number_of[token])
    template = home / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def tensors(home: Path) -> Tensors:
    """Every tensor of a folder in float32, from all its safetensors files."""
    for file in sorted(home.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():
                yield name, opened.get_tensor(name).float().numpy()


def renamed(home: Path, text: PreTrainedConfig, architecture) -> Tensors:
    """The language model's tensors, in the layouts llama.cpp computes with."""
    apart: dict[str, dict[int, np.ndarray]] = {}
    for name, values in tensors(home):
        if name.startswith(("vision_model.", "multi_modal_projector.", *qwen_audio.PREFIXES)):
            continue
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if architecture == gguf.MODEL_ARCH.LLAMA and ".q_proj." in name:
            yield name, interleaved(values, text.num_attention_heads)
        elif architecture == gguf.MODEL_ARCH.LLAMA and ".k_proj." in name:
            yield name, interleaved(values, text.num_key_value_heads)
        elif architecture == gguf.MODEL_ARCH.LLAMA4 and ".experts." in name:
            yield from stacked(name, values, copies(text))
        elif architecture == gguf.MODEL_ARCH.LLAMA4 and ".router." in name:
            yield name, np.repeat(values, copies(text), axis=0)
        elif name.endswith("e_score_correction_bias"):
            yield name.replace("_bias", ".bias"), values
        elif name.endswith("kv_b_proj.weight"):
            yield from split_latent(name, values, text)
        elif ".mlp.experts." in name:
            layer, rest = name.split(".mlp.experts.")
            number, part = rest.split(".", 1)
            whole = f"{layer}.mlp.experts.{part}"
            apart.setdefault(whole, {})[int(number)] = values
            if len(apart[whole]) == text.n_routed_experts:
                yield whole, np.stack([one for _, one in sorted(apart.pop(whole).items())])
        else:
            yield name, values


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of rotary pairs side by side, (a, b, a, b), where transformers has (a, a, b, b)."""
    width = values.shape[0] // heads // 2
    return values.reshape(heads, 2, width, -1).swapaxes(1, 2).reshape(values.shape)


def stacked(name: str, values: np.ndarray, times: int) -> Tensors:
    """Llama 4's experts, (experts, in, out): turned, and gate apart from up."""
    turned = np.repeat(values.swapaxes(1, 2), times, axis=0)
    if name.endswith("down_proj"):
        yield name + ".weight", turned
        return
    gate, up = np.split(turned, 2, axis=1)
    yield name.replace("gate_up_proj", "gate_proj.weight"), gate
    yield name.replace("gate_up_proj", "up_proj.weight"), up


def split_latent(name: str, values: np.ndarray, text: PreTrainedConfig) -> Tensors:
    """What widens the latent, for keys (turned) and for values, one matrix a head."""
    heads, rank = text.num_attention_heads, text.kv_lora_rank
    keys, rest = np.split(values.reshape(heads, -1, rank), [text.qk_nope_head_dim], axis=1)
    yield name.replace("kv_b_proj", "k_b_proj"), keys.swapaxes(1, 2)
    yield name.replace("kv_b_proj", "v_b_proj"), rest


def add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    """A tensor in the kind asked for: vectors, routers and what does not divide stay float32."""
    quant = KINDS[kind]
    block = gguf.GGML_QUANT_SIZES[quant][0]
    whole = values.ndim < 2 or "ffn_gate_inp" in name or "embd" in name and name.startswith("v.")
    if kind == "f32" or whole:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    elif kind == "f16" or values.shape[-1] % block:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float16))
    else:
        flat = np.ascontiguousarray(values, dtype=np.float32)
        writer.add_tensor(name, gguf.quants.quantize(flat, quant), raw_dtype=quant)


def cache() -> Path:
    """Folder of the files made here: `OPENMODELS_CACHE`, or the user's cache directory."""
    base = os.environ.get("OPENMODELS_CACHE")
    return Path(base) if base else Path.home() / ".cache" / "openmodels" / "gguf"


def gguf_file(name: str | Path, kind: str = "f16", vision: bool = False,
              turned: bool = False) -> Path:  # fmt: skip
    """The GGUF of a miniature or a folder, made on first use and kept by what is in the folder.

    vision: its vision tower instead of the language model; turned: as for `export_vision`.
    Processes that ask at once wait for the first of them.
    """
    home = minis.weights_dir(name)
    key = hashlib.sha256(f"{VERSION} {gguf.GGUF_VERSION} {kind} {vision} {turned}".encode())
    for file in sorted(home.iterdir()):
        if file.suffix in (".safetensors", ".jinja") or file.name.endswith("config.json") or (
            file.name == "tokenizer.json"
        ):  # fmt: skip
            key.update(file.name.encode())
            key.update(file.read_bytes())
    part = "mmproj-" if vision else ""
    file = cache() / f"{part}{home.name}-{kind}-{key.hexdigest()[:16]}.gguf"
    if file.exists():
        return file
    cache().mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            if vision:
                export_vision(home, file, kind, turned)
            else:
                export(home, file, kind)
    return file
