"""Start a miniature of another architecture from a trained Qwen2 one.

Reading from a text is what costs a miniature most of its tokens. These functions carry a trained
model over into Mistral's, Llama 4's and DeepSeek-V3's layout as well as each can say it; training
goes on from there. Making mixtures from dense models is called sparse upcycling (Komatsuzaki et al.
2022); compressing keys and values into a latent follows the idea of Meng et al. 2025 (TransMLA).
"""

from dataclasses import dataclass
from math import sqrt

import torch

from openmodels.harbour import instances
from openmodels.minis import data

READ = ("text_qa", "order", "tool", "sums", "words", "fact", "intent")  # to see what layers see


@dataclass
class Source:
    """A Qwen2 model's layers with biases folded into the weights.

    Each list has an entry per layer. attention_in, mlp_in: what attention and MLP read, (tokens,
    hidden_size). constant: (hidden_size,), see `read`. query, key, value: (rows, hidden_size).
    """

    model: torch.nn.Module
    attention_in: list[torch.Tensor]
    mlp_in: list[torch.Tensor]
    constant: list[torch.Tensor]
    query: list[torch.Tensor]
    key: list[torch.Tensor]
    value: list[torch.Tensor]


@torch.no_grad()
def read(model, tokenizer, each: int = 15) -> Source:
    """Run a Qwen2 model over training conversations and fold its biases into its weights.

    For each layer a vector is fitted whose product with every token's hidden state is nearly 1 (to
    within some 10 %): a weight times this vector then does the work of a bias.
    """
    seen: dict[str, list[list[torch.Tensor]]] = {"attention": [], "mlp": []}
    hooks = []
    for layer in model.model.layers:
        for kind, norm in (
            ("attention", layer.input_layernorm), ("mlp", layer.post_attention_layernorm)
        ):  # fmt: skip
            kept: list[torch.Tensor] = []
            seen[kind].append(kept)
            hooks.append(
                norm.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out[0]))
            )
    for task in READ:
        for instance in instances(task, each, split="train"):
            model(input_ids=torch.tensor([data.encode(tokenizer, instance, 0.0).ids]))
    for hook in hooks:
        hook.remove()
    inputs = [torch.cat(kept) for kept in seen["attention"]]
    constant = [constant_of(x) for x in inputs]
    attentions = [layer.self_attn for layer in model.model.layers]

    def folded(name: str) -> list[torch.Tensor]:
        projections = [getattr(attention, name) for attention in attentions]
        return [
            p.weight + torch.outer(p.bias, ones)
            for p, ones in zip(projections, constant, strict=True)
        ]

    return Source(
        model, inputs, [torch.cat(kept) for kept in seen["mlp"]], constant,
        folded("q_proj"), folded("k_proj"), folded("v_proj"),
    )  # fmt: skip


def constant_of(x: torch.Tensor, ridge: float = 1e-2) -> torch.Tensor:
    """The vector whose product with each row of x is nearest 1. x: (n, d); returns (d,)."""
    scale = ridge * len(x) * x.pow(2).mean()
    return torch.linalg.solve(x.T @ x + scale * torch.eye(x.shape[1]), x.sum(0))


@torch.no_grad()
def start_from(target, source: Source) -> None:
    """Write a source into a Mistral, Llama 4 or DeepSeek-V3 model of the same layers and width."""
    writers = {"mistral": mistral, "llama4_text": llama4, "deepseek_v3": deepseek}
    text = getattr(target, "language_model", target)
    kind = text.config.model_type
    if kind not in writers:
        raise ValueError(f"no way to start a {kind} from Qwen2; there are {', '.join(writers)}")
    ours, theirs = text.config, source.model.config
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"):
        mla = kind == "deepseek_v3" and name == "num_key_value_heads"  # every head has its own
        if getattr(ours, name) != getattr(theirs, name) and not mla:
            raise ValueError(
                f"{name} is {getattr(ours, name)}, the source has {getattr(theirs, name)}"
            )
    rows = source.model.config.vocab_size
    text.model.embed_tokens.weight[:rows] = source.model.model.embed_tokens.weight
    text.lm_head.weight[:rows] = source.model.lm_head.weight
    text.model.norm.weight.copy_(source.model.model.norm.weight)
    for number, (layer, old) in enumerate(
        zip(text.model.layers, source.model.model.layers, strict=True)
    ):
        layer.input_layernorm.weight.copy_(old.input_layernorm.weight)
        layer.post_attention_layernorm.weight.copy_(old.post_attention_layernorm.weight)
        layer.self_attn.o_proj.weight.copy_(old.self_attn.o_proj.weight)
        writers[kind](layer, old, source, number)


def mistral(layer, old, source: Source, number: int) -> None:
    """The same layer without biases; of the MLP, the busiest neurons, as many as there is room."""
    write_heads(layer.self_attn, source, number)
    order = by_use(old.mlp, source.mlp_in[number])
    write_mlp(layer.mlp, old.mlp, order[: layer.mlp.intermediate_size])


def llama4(layer, old, source: Source, number: int) -> None:
    """Rotary pairs side by side; the MLP's busier half shared, the other half in every expert."""
    attention = layer.self_attn
    write_heads(attention, source, number)
    if attention.use_rope:
        width = attention.head_dim
        apart = torch.arange(width).view(2, width // 2).T.flatten()  # 0, half, 1, half + 1, …
        for projection in (attention.q_proj, attention.k_proj):
            weight = projection.weight.view(-1, width, projection.in_features)
            projection.weight.copy_(weight[:, apart].flatten(0, 1))
    order = by_use(old.mlp, source.mlp_in[number])
    if not layer.is_moe_layer:
        size = layer.feed_forward.gate_proj.out_features
        return write_mlp(layer.feed_forward, old.mlp, order[:size])
    shared, moe = layer.feed_forward.shared_expert, layer.feed_forward
    size = moe.experts.expert_dim
    write_mlp(shared, old.mlp, order[:size])
    rest = order[size : 2 * size]
    gate_up = torch.cat([old.mlp.gate_proj.weight[rest], old.mlp.up_proj.weight[rest]]).T
    # an expert's input is scaled by its router's sigmoid: near 0.6 to begin with
    moe.experts.gate_up_proj.copy_(noisy(gate_up.expand_as(moe.experts.gate_up_proj)) / 0.6)
    moe.experts.down_proj.copy_(
        old.mlp.down_proj.weight[:, rest].T.expand_as(moe.experts.down_proj)
    )


def deepseek(layer, old, source: Source, number: int) -> None:
    """Keys and values through one latent; rotary pairs of both key heads side by side.

    Of Qwen2's rotary pairs the slow half hardly turns over a conversation and becomes the part
    without position, the fast half of both key heads becomes the one rotary key: with the square
    root of Qwen2's rotary base, its even pairs turn exactly as they did. Each latent keeps one
    place for a constant, so that its norm, and with it what the layer norm does, hardly varies.
    """
    attention, config = layer.self_attn, layer.self_attn.config
    heads, groups = config.num_attention_heads, old.self_attn.num_key_value_groups
    width = old.self_attn.head_dim
    half, still = width // 2, config.qk_nope_head_dim // 2
    fast = half - still  # rotary pairs per key head
    slow_rows = torch.cat([torch.arange(fast, half), torch.arange(half + fast, width)])
    kv_heads = heads // groups
    query = source.query[number].view(heads, width, -1) * sqrt(attention.qk_head_dim / width)
    key = source.key[number].view(kv_heads, width, -1)
    value = source.value[number].view(kv_heads, width, -1)

    def rotary(rows: torch.Tensor, group: int) -> torch.Tensor:
        """(width, hidden) of one head → (qk_rope_head_dim, hidden), in the places of its group."""
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
    order = by_use(old.mlp, source.mlp_in[number])
    if not hasattr(layer.mlp, "experts"):
        return write_mlp(layer.mlp, old.mlp, order)
    moe, size = layer.mlp, config.moe_intermediate_size
    write_mlp(moe.shared_experts, old.mlp, order[: size * config.n_shared_experts])
    rest = order[size * config.n_shared_experts :]
    scale = config.routed_scaling_factor / config.num_experts_per_tok
    for expert in range(config.n_routed_experts):  # each a different part of what is not shared
        mine = rest[torch.randperm(len(rest))[:size]]
        gate_up = torch.cat([old.mlp.gate_proj.weight[mine], old.mlp.up_proj.weight[mine]])
        moe.experts.gate_up_proj[expert] = gate_up
        moe.experts.down_proj[expert] = old.mlp.down_proj.weight[:, mine] / scale


def low_rank(down, norm, up, weight: torch.Tensor, x: torch.Tensor, ones: torch.Tensor) -> None:
    """Write `up(norm(down(x))) ≈ weight @ x` for what a layer really reads.

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


def write_heads(attention, source: Source, number: int) -> None:
    attention.q_proj.weight.copy_(source.query[number])
    attention.k_proj.weight.copy_(source.key[number])
    attention.v_proj.weight.copy_(source.value[number])


def write_mlp(mlp, old, neurons: torch.Tensor) -> None:
    """The chosen neurons of a dense MLP."""
    mlp.gate_proj.weight.copy_(old.gate_proj.weight[neurons])
    mlp.up_proj.weight.copy_(old.up_proj.weight[neurons])
    mlp.down_proj.weight.copy_(old.down_proj.weight[:, neurons])


def by_use(mlp, x: torch.Tensor) -> torch.Tensor:
    """An MLP's neurons, those that write most first. x: (tokens, hidden); returns (neurons,)."""
    active = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
    return (active.pow(2).mean(0) * mlp.down_proj.weight.pow(2).sum(0)).argsort(descending=True)


def noisy(weight: torch.Tensor, share: float = 0.05) -> torch.Tensor:
    """Copies that are no longer alike, or experts would never differ."""
    return weight + share * weight.std() * torch.randn(weight.shape)
