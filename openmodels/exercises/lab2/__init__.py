"""Lab 2, local deployment: the numbers, titles and hints of its exercises.

Exercise 2.4 is in the module `ex_2_4_four_bits`, and so on.
"""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "2.1",
        "Draw the next token",
        hints=(
            "Four steps, in this order: the case of temperature 0; the temperature; the nucleus; "
            "the draw. Only the temperature works on logits.",
            "Sort the probabilities from high to low and keep the ids that `sort` returns with "
            "them. A token is in the nucleus if the tokens *before* it sum to less than top_p.",
            "`torch.multinomial` takes weights that need not sum to 1, and the generator. It "
            "returns a place in what you gave it, not a token.",
        ),
    ),
    Exercise(
        "2.2",
        "Count the bytes of a KV cache",
        hints=(
            "Print `cache.layers[0].keys.shape` again. Which of its four numbers come from the "
            "config?",
            "One token in one layer leaves a key and a value, each `num_key_value_heads` times "
            "`head_dim` numbers. Then count layers, tokens and bytes.",
            '`getattr(config, "head_dim", None)` is None where a config names no head_dim.',
        ),
    ),
    Exercise(
        "2.3",
        "Answer eight traders at once",
        hints=(
            "`apply_chat_template` takes the whole list of conversations. With `padding=True` the "
            "shorter rows are filled up, on the side that `tokenizer.padding_side` names.",
            "What the template returns holds `input_ids` and `attention_mask`; "
            "`model.generate(**inputs, ...)` hands both on.",
            "All prompts end in the same column, so one slice cuts them all. `batch_decode` can "
            "leave out special tokens.",
        ),
    ),
    Exercise(
        "2.4",
        "Keep weights in four bits",
        hints=(
            "`matrix.reshape(rows, -1, 32)` lays 32 neighbours of a row side by side; everything "
            "then happens along the last dimension.",
            "`blocks.abs().argmax(-1, keepdim=True)` says where the farthest entry stands, and "
            "`blocks.gather(-1, place)` fetches it with its sign.",
            "For the way back, `scales.repeat_interleave(32, dim=1)` gives every weight its "
            "scale. A block of zeros has scale 0: divide by 1 there.",
        ),
    ),
    Exercise(
        "2.5",
        "Read the head of a GGUF file",
        hints=(
            '`struct.unpack("<IQQ", data[4:24])` gives all three numbers: I has four bytes, Q '
            "eight.",
            "Keep a place in the bytes, `at`, and move it past everything you read. A small "
            "function `text(at)` that returns a text and the place behind it serves for keys and "
            "values.",
            "Write `skip(kind, at)`: a plain type moves on by `WIDTHS[kind]`, a string by its "
            "length, an array reads type and number and calls `skip` for each value.",
        ),
    ),
    Exercise(
        "2.6",
        "Write a Modelfile for the sorting desk",
        hints=(
            "Four lines are enough: FROM, SYSTEM, and PARAMETER twice.",
            "`PARAMETER temperature 0` takes the likeliest token. `PARAMETER num_predict` with a "
            "number ends an answer after so many tokens.",
            "A miniature follows the system texts it was trained with. The surest is that of the "
            "practice request, word for word. Quotes around it do no harm.",
        ),
    ),
    Exercise(
        "2.7",
        "Measure a streamed answer",
        hints=(
            "Look at the clock three times: before the question, at the first piece with text, at "
            "the latest piece with text. `clock()` gives seconds.",
            "After the loop, the loop's variable still holds the last line, with `eval_count`, "
            "`eval_duration`, `prompt_eval_count` and `prompt_eval_duration`.",
            "The engine's rates are count / duration * 1e9. What you saw yourself is (eval_count "
            "- 1) / (latest - first).",
        ),
    ),
    Exercise(
        "2.8",
        "Find the client that calls home",
        hints=(
            "One watch for each client: `with network.watch(block=True) as seen:` around the "
            "call, then `seen.outside`.",
            "With `block=True` nothing leaves while you look. A blocked client may stop with "
            "`network.ConnectionBlocked`, an OSError: catch it, within the watch or around it.",
            "An attempt has an `address`, host and port in one text. A client without attempts to "
            "the outside does not get into the dict.",
        ),
    ),
    Exercise(
        "2.9",
        "Size a server for a workshop",
        hints=(
            "First a number of tokens: what `sizing.needed_bytes(weights)` leaves of the budget, "
            "by what a token costs, `kv_cache_bytes(config, 1)`.",
            "Slots: how often `least` goes into these tokens, but no more than people. 0 is an "
            "error.",
            "Context: the tokens by the slots, no more than `config.max_position_embeddings`, "
            "then `// 256 * 256`. `sizing.needed_bytes` takes the caches' bytes as well, and says "
            "all.",
        ),
    ),
)
