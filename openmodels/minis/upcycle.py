"""Initialise a miniature of another architecture from a trained Qwen2 miniature.

Learning to read from a text takes most of a miniature's tokens. These functions convert a trained
model to the layout of Mistral, Llama 4 and DeepSeek-V3 as closely as each allows; training then
continues. Making mixtures from dense models is called sparse upcycling (Komatsuzaki et al. 2022);
compressing keys and values into a latent follows the idea of Meng et al. 2025 (TransMLA).
"""

from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour import instances
from openmodels.minis import data

# whose conversations show which inputs the layers have
CALIBRATION_TASKS = ("text_qa", "order", "tool", "sums", "words", "fact", "intent")


@dataclass
class Source:
    """A Qwen2 model's layers with biases folded into the weights.

    Each list has an entry per layer. attention_in, mlp_in: inputs of attention and MLP, (tokens,
    hidden_size). constant: (hidden_size,), see `fold_biases`. query, key, value: (rows,
    hidden_size).
    """

    model: torch.nn.Module
    attention_in: list[torch.Tensor]
    mlp_in: list[torch.Tensor]
    constant: list[torch.Tensor]
    query: list[torch.Tensor]
    key: list[torch.Tensor]
    value: list[torch.Tensor]


@torch.no_grad()
def fold_biases(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, each: int = 15
) -> Source:
    """Run a Qwen2 model over training conversations and fold its biases into its weights.

    For each layer a vector is fitted whose product with every token's hidden state is nearly 1
    (within some 10 %): a weight times this vector then replaces a bias.
    """
    outputs: dict[str, dict[int, list[torch.Tensor]]] = {"attention": {}, "mlp": {}}
    hooks = []
    for number, layer in enumerate(model.model.layers):
        for kind, norm in (
            ("attention", layer.input_layernorm), ("mlp", layer.post_attention_layernorm)
        ):  # fmt: skip
            hook = partial(_record, outputs[kind].setdefault(number, []))
            hooks.append(norm.register_forward_hook(hook))
    for task in CALIBRATION_TASKS:
        for instance in instances(task, each, split="train"):
            model(input_ids=torch.tensor([data.encode(tokenizer, instance, 0.0).ids]))
    for hook in hooks:
        hook.remove()
    inputs = [torch.cat(tensors) for tensors in outputs["attention"].values()]
    constant = [constant_of(x) for x in inputs]
    attentions = [layer.self_attn for layer in model.model.layers]

    def folded(name: str) -> list[torch.Tensor]:
        projections = [getattr(attention, name) for attention in attentions]
        return [
            p.weight + torch.outer(p.bias, ones)
            for p, ones in zip(projections, constant, strict=True)
        ]

    return Source(
        model, inputs, [torch.cat(tensors) for tensors in outputs["mlp"].values()], constant,
        folded("q_proj"), folded("k_proj"), folded("v_proj"),
    )  # fmt: skip


def _record(
    outputs: list[torch.Tensor], _module: torch.nn.Module, _inputs: tuple, output: torch.Tensor
) -> None:
    outputs.append(output[0])


def constant_of(x: torch.Tensor, ridge: float = 1e-2) -> torch.Tensor:
    """Return the vector (d,) whose product with each row of x (n, d) is nearest to 1."""
    scale = ridge * len(x) * x.pow(2).mean()
    return torch.linalg.solve(x.T @ x + scale * torch.eye(x.shape[1]), x.sum(0))


@torch.no_grad()
def start_from(target: PreTrainedModel, source: Source) -> None:
    """Write a source into a Mistral, Llama 4 or DeepSeek-V3 model, in place.

    Raises ValueError for another architecture, and if the numbers of layers or heads or the hidden
    sizes differ.
    """
    writers = {"mistral": mistral, "llama4_text": llama4, "deepseek_v3": deepseek}
    text = getattr(target, "language_model", target)
    kind = text.config.model_type
    if kind not in writers:
        raise ValueError(f"cannot initialise a {kind} from Qwen2; supported: {', '.join(writers)}")
    target_config, source_config = text.config, source.model.config
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"):
        differs = (
            kind == "deepseek_v3" and name == "num_key_value_heads"
        )  # MLA has a KV head per head
        size, source_size = getattr(target_config, name), getattr(source_config, name)
        if size != source_size and not differs:
            raise ValueError(f"{name} is {size}, the source has {source_size}")
    rows = source.model.config.vocab_size
    text.model.embed_tokens.weight[:rows] = source.model.model.embed_tokens.weight
    text.lm_head.weight[:rows] = source.model.lm_head.weight
    text.model.norm.weight.copy_(source.model.model.norm.weight)
    for number, (layer, source_layer) in enumerate(
        zip(text.model.layers, source.model.model.layers, strict=True)
    ):
        layer.input_layernorm.weight.copy_(source_layer.input_layernorm.weight)
        layer.post_attention_layernorm.weight.copy_(source_layer.post_attention_layernorm.weight)
        layer.self_attn.o_proj.weight.copy_(source_layer.self_attn.o_proj.weight)
        writers[kind](layer, source_layer, source, number)


def mistral(
    layer: torch.nn.Module, source_layer: torch.nn.Module, source: Source, number: int
) -> None:
    """Write a layer without biases; of the MLP, the most active neurons that fit."""
    write_heads(layer.self_attn, source, number)
    order = by_use(source_layer.mlp, source.mlp_in[number])
    write_mlp(layer.mlp, source_layer.mlp, order[: layer.mlp.intermediate_size])


def llama4(
    layer: torch.nn.Module, source_layer: torch.nn.Module, source: Source, number: int
) -> None:
    """Write a layer with adjacent rotary pairs; the MLP's more active half is shared.

    The other half becomes every expert.
    """
    attention = layer.self_attn
    write_heads(attention, source, number)
    if attention.use_rope:
        width = attention.head_dim
        interleaved = torch.arange(width).view(2, width // 2).T.flatten()  # 0, half, 1, half + 1, …
        for projection in (attention.q_proj, attention.k_proj):
            weight = projection.weight.view(-1, width, projection.in_features)
            projection.weight.copy_(weight[:, interleaved].flatten(0, 1))
    order = by_use(source_layer.mlp, source.mlp_in[number])
    if not layer.is_moe_layer:
        size = layer.feed_forward.gate_proj.out_features
        return write_mlp(layer.feed_forward, source_layer.mlp, order[:size])
    shared, moe = layer.feed_forward.shared_expert, layer.feed_forward
    size = moe.experts.expert_dim
    write_mlp(shared, source_layer.mlp, order[:size])
    routed = order[size : 2 * size]
    gate_up = torch.cat(
        [source_layer.mlp.gate_proj.weight[routed], source_layer.mlp.up_proj.weight[routed]]
    ).T
    # an expert's input is scaled by its router's sigmoid: near 0.6 at first
    moe.experts.gate_up_proj.copy_(noisy(gate_up.expand_as(moe.experts.gate_up_proj)) / 0.6)
    moe.experts.down_proj.copy_(
        source_layer.mlp.down_proj.weight[:, routed].T.expand_as(moe.experts.down_proj)
    )


def deepseek(
    layer: torch.nn.Module, source_layer: torch.nn.Module, source: Source, number: int
) -> None:
    """Write a layer with one latent for keys and values; both key heads share the rotary key.

    The slow half of Qwen2's rotary pairs hardly rotates within a conversation and becomes the part
    without position; the fast half of both key heads becomes the one rotary key. With the square
    root of Qwen2's rotary base, its even pairs rotate exactly as before. Each latent reserves one
    component for a constant, so that its norm, and with it the effect of the layer norm, hardly
    varies.
    """
    attention, config = layer.self_attn, layer.self_attn.config
    heads, groups = config.num_attention_heads, source_layer.self_attn.num_key_value_groups
    width = source_layer.self_attn.head_dim
    half, n_slow_pairs = width // 2, config.qk_nope_head_dim // 2
    fast = half - n_slow_pairs  # rotary pairs per key head
    slow_rows = torch.cat([torch.arange(fast, half), torch.arange(half + fast, width)])
    kv_heads = heads // groups
    query = source.query[number].view(heads, width, -1) * sqrt(attention.qk_head_dim / width)
    key = source.key[number].view(kv_heads, width, -1)
    value = source.value[number].view(kv_heads, width, -1)

    def rotary(rows: torch.Tensor, group: int) -> torch.Tensor:
        """Map (width, hidden) of one head to (qk_rope_head_dim, hidden), at its group's rows."""
        out = torch.zeros(config.qk_rope_head_dim, rows.shape[1])
        pairs = torch.arange(fast) * kv_heads + group
        out[2 * pairs], out[2 * pairs + 1] = rows[:fast], rows[half : half + fast]
        return out

    queries = torch.cat(
        [torch.cat([q[slow_rows], rotary(q, h // groups)]) for h, q in enumerate(query)]
    )
    low_rank(attention.q_a_proj, attention.q_a_layernorm, attention.q_b_proj, queries,
             source.attention_in[number], source.constant[number])  # fmt: skip
    keys_values = torch.cat(
        [torch.cat([key[h // groups][slow_rows], value[h // groups]]) for h in range(heads)]
    )
    low_rank(attention.kv_a_proj_with_mqa, attention.kv_a_layernorm, attention.kv_b_proj,
             keys_values, source.attention_in[number], source.constant[number])  # fmt: skip
    attention.kv_a_proj_with_mqa.weight[config.kv_lora_rank :] = sum(
        rotary(k, group) for group, k in enumerate(key)
    )
    order = by_use(source_layer.mlp, source.mlp_in[number])
    if not hasattr(layer.mlp, "experts"):
        return write_mlp(layer.mlp, source_layer.mlp, order)
    moe, size = layer.mlp, config.moe_intermediate_size
    write_mlp(moe.shared_experts, source_layer.mlp, order[: size * config.n_shared_experts])
    routed = order[size * config.n_shared_experts :]
    scale = config.routed_scaling_factor / config.num_experts_per_tok
    for expert in range(
        config.n_routed_experts
    ):  # each expert gets a different part of the unshared neurons
        neurons = routed[torch.randperm(len(routed))[:size]]
        gate_up = torch.cat(
            [source_layer.mlp.gate_proj.weight[neurons], source_layer.mlp.up_proj.weight[neurons]]
        )
        moe.experts.gate_up_proj[expert] = gate_up
        moe.experts.down_proj[expert] = source_layer.mlp.down_proj.weight[:, neurons] / scale


def low_rank(
    down: torch.nn.Module,
    norm: torch.nn.Module,
    up: torch.nn.Module,
    weight: torch.Tensor,
    x: torch.Tensor,
    ones: torch.Tensor,
) -> None:
    """Write `up(norm(down(x))) ≈ weight @ x` for the inputs that a layer really has.

    weight: (rows, hidden), x: (tokens, hidden), ones: (hidden,) with x @ ones ≈ 1.
    """
    rank = norm.weight.numel()
    outputs = x @ weight.T
    main = torch.linalg.svd(outputs, full_matrices=False).Vh[: rank - 1]  # (rank - 1, rows)
    latent = main @ weight
    size = 3 * (x @ latent.T).pow(2).sum(1).mean().sqrt()
    down.weight[: rank - 1], down.weight[rank - 1] = latent, size * ones
    scale = (x @ down.weight[:rank].T).pow(2).mean(1).sqrt().mean()
    norm.weight.fill_(1.0)
    up.weight.zero_()
    up.weight[:, : rank - 1] = scale * main.T


def write_heads(attention: torch.nn.Module, source: Source, number: int) -> None:
    """Copy the folded query, key and value weights of a layer."""
    attention.q_proj.weight.copy_(source.query[number])
    attention.k_proj.weight.copy_(source.key[number])
    attention.v_proj.weight.copy_(source.value[number])


def write_mlp(mlp: torch.nn.Module, source_mlp: torch.nn.Module, neurons: torch.Tensor) -> None:
    """Copy the selected neurons of a dense MLP."""
    mlp.gate_proj.weight.copy_(source_mlp.gate_proj.weight[neurons])
    mlp.up_proj.weight.copy_(source_mlp.up_proj.weight[neurons])
    mlp.down_proj.weight.copy_(source_mlp.down_proj.weight[:, neurons])


def by_use(mlp: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return an MLP's neurons (neurons,), most active first. x: (tokens, hidden)."""
    active = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
    return (active.pow(2).mean(0) * mlp.down_proj.weight.pow(2).sum(0)).argsort(descending=True)


def noisy(weight: torch.Tensor, share: float = 0.05) -> torch.Tensor:
    """Return the weight with noise added, because identical experts would never diverge."""
    return weight + share * weight.std() * torch.randn(weight.shape)
