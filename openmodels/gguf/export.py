"""Exports a model's folder to GGUF, the file format of llama.cpp and Ollama.

`export(folder, file, kind)` writes a file; `gguf_file("mini-qwen", "f16")` writes it on first use
and caches it. Four architectures are supported: Qwen2, Mistral (llama.cpp's "llama"), Llama 4 and
DeepSeek-V3 ("deepseek2"). Keys and tensors have llama.cpp's names.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from filelock import FileLock
from safetensors import safe_open
from tokenizers.decoders import ByteLevel
from transformers import AutoConfig, PreTrainedConfig

from openmodels import files, minis
from openmodels.gguf import qwen_audio, qwen_vl

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
    "Qwen2Model": gguf.MODEL_ARCH.QWEN2,  # returns vectors, not text
    "MistralForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "DeepseekV3ForCausalLM": gguf.MODEL_ARCH.DEEPSEEK2,
    "Llama4ForCausalLM": gguf.MODEL_ARCH.LLAMA4,
    "Llama4ForConditionalGeneration": gguf.MODEL_ARCH.LLAMA4,
    "Qwen2_5_VLForConditionalGeneration": gguf.MODEL_ARCH.QWEN2VL,
    "Qwen2AudioForConditionalGeneration": gguf.MODEL_ARCH.QWEN2,
}
# of the tensors of vision towers, sound encoders and projectors
ENCODER_PREFIXES = (
    "vision_model.", "multi_modal_projector.", *qwen_vl.PREFIXES, *qwen_audio.PREFIXES,
)  # fmt: skip
# llama.cpp omits the norm of queries and keys only for a model with this many experts.
MAVERICK_EXPERTS = 128
FIM_KEYS = {  # tokens for filling in the middle
    "<|fim_prefix|>": gguf.Keys.Tokenizer.FIM_PRE_ID,
    "<|fim_suffix|>": gguf.Keys.Tokenizer.FIM_SUF_ID,
    "<|fim_middle|>": gguf.Keys.Tokenizer.FIM_MID_ID,
}
PREFIXES = ("language_model.", "model.language_model.")
VERSION = 3  # of this module's output: part of the cache's key

Tensors = Iterator[tuple[str, np.ndarray]]


def export(home: Path, file: Path, kind: str = "f16") -> Path:
    """Write the language model in a folder as one GGUF file, completely or not at all.

    kind: a key of `KINDS`, for the matrices; norms and biases stay float32. Returns `file`.
    Raises ValueError for another kind or an unsupported architecture.
    """
    config = AutoConfig.from_pretrained(home, trust_remote_code=False)
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
        add_kind(writer, kind)
        add_shape(writer, text, architecture)
        pooling = pooling_type(Path(home))
        if pooling is not None:
            writer.add_pooling_type(pooling)
        add_tokenizer(writer, Path(home), config)
        names = gguf.get_tensor_name_map(architecture, text.num_hidden_layers)
        for name, values in language_tensors(Path(home), text, architecture):
            gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if gguf_name is None:
                raise ValueError(f"{home} has a tensor {name} that llama.cpp has no name for")
            add_tensor(writer, gguf_name, values, kind)

    return write_file(file, gguf.MODEL_ARCH_NAMES[architecture], fill)


def export_vision(home: Path, file: Path, kind: str = "f16", transposed: bool = False) -> Path:
    """Write the vision tower and projector of a Llama 4 as llama.cpp's second file, the mmproj.

    llama.cpp passes a picture's tokens to the language model column by column, transformers row by
    row. transposed: write weights for pictures whose rows and columns are swapped; for such a
    picture llama.cpp's order is the order of training. llama.cpp also omits <|image|>, the token
    before the patches, which does not change the answers. Returns `file`. Raises ValueError for a
    model without a vision tower.
    """
    config = AutoConfig.from_pretrained(home, trust_remote_code=False)
    if config.model_type == qwen_audio.MODEL_TYPE:
        return export_audio(Path(home), file, kind, config)
    vision = getattr(config, "vision_config", None)
    if vision is None:
        raise ValueError(f"{home} reads no pictures")
    if config.model_type == qwen_vl.MODEL_TYPE:
        return export_qwen_vision(Path(home), file, kind, config)
    pixels = json.loads((Path(home) / "preprocessor_config.json").read_text(encoding="utf-8"))

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(Path(home).name)
        add_kind(writer, kind)
        add_vision_shape(writer, vision, config.get_text_config().hidden_size)
        writer.add_vision_image_mean(pixels["image_mean"])
        writer.add_vision_image_std(pixels["image_std"])
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision.num_hidden_layers)
        for name, values in tensors(Path(home)):
            if not name.startswith(("vision_model.", "multi_modal_projector.")):
                continue
            if name.endswith("positional_embedding_vlm"):
                name += ".weight"
            if name == "multi_modal_projector.linear_1.weight":
                gguf_name = "mm.model.fc.weight"
            else:
                gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if transposed:
                values = transpose(name, values, vision)
            # the name map has another model's name here
            add_tensor(writer, gguf_name.replace("attn_post_norm", "ln2"), values, kind)

    return write_file(file, "clip", fill)


def export_qwen_vision(home: Path, file: Path, kind: str, config: PreTrainedConfig) -> Path:
    """Write the vision tower and merger of a Qwen2.5-VL as llama.cpp's second file, the mmproj."""

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(home.name)
        add_kind(writer, kind)
        qwen_vl.describe_vision(writer, config, home)
        for name, values in qwen_vl.vision_tensors(tensors(home), config.vision_config.depth):
            add_tensor(writer, name, values, kind)

    return write_file(file, "clip", fill)


def export_audio(home: Path, file: Path, kind: str, config: PreTrainedConfig) -> Path:
    """Write the sound encoder and projector of a Qwen2-Audio as llama.cpp's mmproj file."""

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(home.name)
        add_kind(writer, kind)
        qwen_audio.describe_audio(writer, config)
        blocks = config.audio_config.encoder_layers
        for name, values in qwen_audio.audio_tensors(tensors(home), blocks):
            add_tensor(writer, name, values, qwen_audio.tensor_kind(name, kind))

    return write_file(file, "clip", fill)


def transpose(name: str, values: np.ndarray, vision: PreTrainedConfig) -> np.ndarray:
    """Return a tensor of the vision tower for pictures whose rows and columns are swapped.

    The shape stays the same; a second call restores the tensor.
    """
    side, patch = vision.image_size // vision.patch_size, vision.patch_size
    if name.endswith("patch_embedding.linear.weight"):  # (out, channels * rows * columns)
        return values.reshape(len(values), -1, patch, patch).swapaxes(2, 3).reshape(values.shape)
    if "positional_embedding_vlm" in name:  # (rows * columns + 1 for the class, width)
        grid = values[:-1].reshape(side, side, -1).swapaxes(0, 1).reshape(side * side, -1)
        return np.concatenate([grid, values[-1:]])
    if ".q_proj." in name or ".k_proj." in name:  # half of each head rotates by column, half by row
        halves = values.reshape(vision.num_attention_heads, 2, -1)
        return halves[:, ::-1].reshape(values.shape)
    if name.endswith("vision_adapter.mlp.fc1.weight"):  # (out, rows * columns of a square * width)
        times = round(1 / vision.pixel_shuffle_ratio)
        square = values.reshape(len(values), times, times, -1)
        return square.swapaxes(1, 2).reshape(values.shape)
    return values


def write_file(file: Path, architecture: str, fill: Callable[[gguf.GGUFWriter], None]) -> Path:
    """Write a draft whose keys and tensors `fill` adds, then move it to `file` in one step."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    os.close(handle)
    try:
        writer = gguf.GGUFWriter(draft, architecture, use_temp_file=True)  # not memory
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.replace(draft, file)
    finally:
        Path(draft).unlink(missing_ok=True)
    return file


def add_kind(writer: gguf.GGUFWriter, kind: str) -> None:
    """Add the kind of most matrices and, for a kind with blocks, the version of the blocks."""
    writer.add_file_type(FILE_TYPES[kind])
    if KINDS[kind] not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_shape(
    writer: gguf.GGUFWriter, text: PreTrainedConfig, architecture: gguf.MODEL_ARCH
) -> None:
    """Add the shape of the language model under llama.cpp's keys."""
    intermediate_size = getattr(text, "intermediate_size_mlp", None) or text.intermediate_size
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(intermediate_size)
    writer.add_head_count(text.num_attention_heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(text.rope_parameters["rope_theta"])
    writer.add_vocab_size(text.vocab_size)
    if architecture == gguf.MODEL_ARCH.DEEPSEEK2:
        add_deepseek_shape(writer, text)
        return
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    if architecture == gguf.MODEL_ARCH.LLAMA4:
        writer.add_interleave_moe_layer_step(text.interleave_moe_layer_step)
        writer.add_expert_feed_forward_length(text.intermediate_size)
        writer.add_expert_count(text.num_local_experts * copies(text))
        writer.add_expert_used_count(text.num_experts_per_tok)
    if architecture == gguf.MODEL_ARCH.QWEN2VL:
        qwen_vl.describe_text(writer, text)


def add_deepseek_shape(writer: gguf.GGUFWriter, text: PreTrainedConfig) -> None:
    """Add latent attention, which llama.cpp treats as one wide key-value head, and the experts."""
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


def add_vision_shape(
    writer: gguf.GGUFWriter, vision: PreTrainedConfig, projection_dim: int
) -> None:
    """Add the shape of the vision tower. projection_dim: the language model's hidden_size."""
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.LLAMA4)
    writer.add_vision_projection_dim(projection_dim)
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.norm_eps)
    writer.add_vision_projector_scale_factor(round(1 / vision.pixel_shuffle_ratio))
    writer.add_vision_use_gelu(True)


def copies(text: PreTrainedConfig) -> int:
    """Return how often the file must contain each expert of a Llama 4.

    llama.cpp recognises Maverick, which does not norm queries and keys, by its 128 experts. The
    router selects one of several equal rows, so copies do not change the result.
    """
    return 1 if text.use_qk_norm else MAVERICK_EXPERTS // text.num_local_experts


def add_tokenizer(writer: gguf.GGUFWriter, home: Path, config: PreTrainedConfig) -> None:
    """Add the tokenizer, the special tokens and the chat template."""
    tokenizer = json.loads((home / "tokenizer.json").read_text(encoding="utf-8"))
    special = json.loads((home / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens, types = vocabulary(tokenizer, config.get_text_config().vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    writer.add_eos_token_id(ids[special["eos_token"]])
    writer.add_pad_token_id(ids[special["pad_token"]])
    writer.add_add_bos_token(False)
    if ends_texts(tokenizer, special["eos_token"]):
        writer.add_add_eos_token(True)
    for token, key in FIM_KEYS.items():
        if token in ids:
            writer.add_uint32(key, ids[token])
    template = home / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def ends_texts(tokenizer: Mapping[str, Any], token: str) -> bool:
    """Return whether a tokenizer.json appends this token to each text."""
    steps = (tokenizer.get("post_processor") or {}).get("single") or [{}]
    return steps[-1].get("SpecialToken", {}).get("id") == token


def pooling_type(home: Path) -> gguf.PoolingType | None:
    """Return how a folder's model turns hidden states into a vector, None if it does not say.

    Reads the file of sentence-transformers. Raises ValueError for other poolings than the last
    token's state and the mean.
    """
    file = home / "1_Pooling" / "config.json"
    if not file.exists():
        return None
    modes = {key for key, value in json.loads(file.read_text(encoding="utf-8")).items()
             if key.startswith("pooling_mode_") and value}  # fmt: skip
    known = {"pooling_mode_lasttoken": gguf.PoolingType.LAST,
             "pooling_mode_mean_tokens": gguf.PoolingType.MEAN}  # fmt: skip
    if len(modes) != 1 or not modes <= known.keys():
        raise ValueError(f"{file} has the pooling {sorted(modes)}, not one of {sorted(known)}")
    return known[modes.pop()]


def vocabulary(
    tokenizer: Mapping[str, Any], vocab_size: int
) -> tuple[list[str], list[gguf.TokenType]]:
    """Return the tokens of a tokenizer.json in the order of their ids, and the type of each.

    llama.cpp finds an added token inside words too, such as the name Frida in Friday. It matches
    the longest token first, so a vocabulary entry that contains an added token becomes an added
    token itself.
    """
    entries = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    whole_words = [token["content"] for token in added.values() if token["single_word"]]
    tokens, types = [], []
    for number in range(vocab_size):
        if number in added:
            tokens.append(added[number]["content"])
            special = added[number]["special"]
            types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        elif number in entries and any(word in entries[number] for word in whole_words):
            tokens.append(ByteLevel().decode([entries[number]]))
            types.append(gguf.TokenType.USER_DEFINED)
        elif number in entries:
            tokens.append(entries[number])
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            types.append(gguf.TokenType.UNUSED)
    return tokens, types


def tensors(home: Path) -> Tensors:
    """Yield name and values, in float32, of every tensor in a folder's safetensors files."""
    for file in sorted(home.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():
                yield name, opened.get_tensor(name).float().numpy()


def language_tensors(home: Path, text: PreTrainedConfig, architecture: gguf.MODEL_ARCH) -> Tensors:
    """Yield the language model's tensors in llama.cpp's layouts, under transformers' names."""
    experts: dict[str, dict[int, np.ndarray]] = {}
    for name, values in tensors(home):
        if name.startswith(ENCODER_PREFIXES):
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
            layer, expert = name.split(".mlp.experts.")
            number, part = expert.split(".", 1)
            name = f"{layer}.mlp.experts.{part}"
            experts.setdefault(name, {})[int(number)] = values
            if len(experts[name]) == text.n_routed_experts:
                matrices = experts.pop(name)
                yield name, np.stack([matrices[number] for number in sorted(matrices)])
        else:
            yield name, values


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows with rotary pairs side by side, (a, b, a, b); transformers has (a, a, b, b).

    values: (heads * head_dim, in) or (heads * head_dim,).
    """
    width = values.shape[0] // heads // 2
    return values.reshape(heads, 2, width, -1).swapaxes(1, 2).reshape(values.shape)


def stacked(name: str, values: np.ndarray, times: int) -> Tensors:
    """Yield Llama 4's experts transposed, each `times` times, with gate and up separated.

    values: (experts, in, out). Each yielded tensor: (experts * times, out, in).
    """
    matrices = np.repeat(values.swapaxes(1, 2), times, axis=0)
    if name.endswith("down_proj"):
        yield name + ".weight", matrices
        return
    gate, up = np.split(matrices, 2, axis=1)
    yield name.replace("gate_up_proj", "gate_proj.weight"), gate
    yield name.replace("gate_up_proj", "up_proj.weight"), up


def split_latent(name: str, values: np.ndarray, text: PreTrainedConfig) -> Tensors:
    """Yield the projections from the latent: keys (heads, rank, head_dim), transposed, and values.

    values: (heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank).
    """
    heads, rank = text.num_attention_heads, text.kv_lora_rank
    keys, value_rows = np.split(values.reshape(heads, -1, rank), [text.qk_nope_head_dim], axis=1)
    yield name.replace("kv_b_proj", "k_b_proj"), keys.swapaxes(1, 2)
    yield name.replace("kv_b_proj", "v_b_proj"), value_rows


def add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    """Add a tensor in a kind.

    Vectors, routers and the vision tower's embeddings stay float32. A matrix whose rows do not
    divide into blocks is stored in float16.
    """
    quant = KINDS[kind]
    block = gguf.GGML_QUANT_SIZES[quant][0]
    exact = values.ndim < 2 or "ffn_gate_inp" in name or "embd" in name and name.startswith("v.")
    if kind == "f32" or exact:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    elif kind == "f16" or values.shape[-1] % block:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float16))
    else:
        flat = np.ascontiguousarray(values, dtype=np.float32)
        writer.add_tensor(name, gguf.quants.quantize(flat, quant), raw_dtype=quant)


def cache() -> Path:
    """Return the folder of exported files: `OPENMODELS_CACHE`, or one below the home folder.

    Raises OSError, with the variable's name, if the folder cannot be written to.
    """
    return files.user_folder("OPENMODELS_CACHE", ".cache", "openmodels", "gguf")


def gguf_file(
    name: str | Path, kind: str = "f16", vision: bool = False, transposed: bool = False
) -> Path:
    """Return the GGUF of a miniature or a folder, exported on first use.

    vision: its vision tower instead of the language model. transposed: as for `export_vision`.
    The cache's key is a hash of the folder's files. Of several processes, one exports and the
    others wait. Raises ValueError as `export` does.
    """
    home = minis.weights_dir(name)
    key = hashlib.sha256(f"{VERSION} {gguf.GGUF_VERSION} {kind} {vision} {transposed}".encode())
    for file in [*sorted(home.iterdir()), home / "1_Pooling" / "config.json"]:
        if _determines_export(file) and file.exists():
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
                export_vision(home, file, kind, transposed)
            else:
                export(home, file, kind)
    return file


def _determines_export(file: Path) -> bool:
    """Return whether an export depends on this file of a model's folder."""
    return (
        file.suffix in (".safetensors", ".jinja")
        or file.name.endswith("config.json")
        or file.name == "tokenizer.json"
    )
