"""Lab 4, workflows: the numbers, titles and hints of its exercises.

Exercise 4.3 is in the module `ex_4_3_tool_loop`, and so on.
"""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "4.1",
        "Route requests within a budget of model calls",
        hints=(
            "Collect the list of intents of each word before you decide which words are rules. "
            "Use a set of an example's words, so that a repeated word counts once.",
            "A set of the matching intents answers both questions at once: one element is clear, "
            "none or several are not.",
            "Subtract 1 from the budget before each call, and call only if it is above 0. Clean "
            'the reply with `reply.lower().strip(" .\\n")`, then ask if it is in '
            "`INTENTS`.",
        ),
    ),
    Exercise(
        "4.2",
        "Repair a reply until it is valid, or stop",
        hints=(
            "Write one loop over `range(1, attempts + 1)` and return from inside it: the counter "
            "is then the number of calls. Look at the stop rules in their order: refusal, cut, "
            "valid, repeated.",
            '`record_class.model_validate_json(content or "")` parses and validates in one step. '
            "Catch `ValidationError` only; its text names every field with its problem.",
            "Start with `messages = list(messages)`, and remember the replies so far in a list. "
            "Before the next call, append two messages: the reply with the role assistant, and "
            "the text of the error with the role user.",
        ),
    ),
    Exercise(
        "4.3",
        "Run tools that fail, and book nothing twice",
        hints=(
            "Write a function that runs one call and always returns a result: the tool's own, or "
            '`{"error": ...}`. The loop around it then has no error to handle.',
            "Choose the key once per call, before the first attempt: `uuid.uuid4().hex`. A model "
            "can repeat its ids, and equal arguments can mean two bookings, so neither is a key.",
            "`for attempt in range(1 + (retries if safe else 0))`: return the result, or catch "
            "`(TimeoutError, ConnectionError)` and go on. Any other `Exception` returns an error "
            "at once. Results are JSON texts: `json.dumps(result)`.",
        ),
    ),
    Exercise(
        "4.4",
        "Fuse keyword and vector rankings",
        hints=(
            "Remove repeated ids from each ranking first (`dict.fromkeys` keeps the "
            "order). Then the rank of an id is its place, counted from 1.",
            "Add 1 / (k + rank) for each ranking that has the id; a ranking without it "
            "adds nothing. A dict from id to score is enough.",
            "`sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))` puts the best "
            "first and resolves ties. `search` asks both parts for `depth` results, drops "
            "their scores and fuses the ids.",
        ),
    ),
    Exercise(
        "4.5",
        "Check citations that survive a paraphrase",
        hints=(
            "Match a sentence and the marks behind it by one pattern with two groups: text "
            "up to a full stop that a space, a bracket or the end follows, then any number "
            "of `\\[\\d+\\]`.",
            "`read_numbers(claim) <= read_numbers(text)` is true if every number of the claim is "
            "in the text: both are sets. Write it before `and judge(claim, text)`.",
            "Decide in this order: no citation, a passage that does not exist, a number "
            "that is missing, the judge. The pattern is "
            'r"(.+?(?:[.!?](?=\\s|\\[|$)|$))((?:\\s*\\[\\d+\\])*)".',
        ),
    ),
    Exercise(
        "4.6",
        "Defend against injection, and keep the utility",
        hints=(
            "In `allow`, write one question per rule and return at the first rule that is "
            "broken. The last line allows the call.",
            "A value is trusted if it has sources and none is outside TRUSTED: `bool(sources) and "
            'set(sources) <= TRUSTED`. `taint["arguments"].get(argument)` is None if the sources '
            "are not known.",
            "Recipients are the arguments in `RECIPIENTS.get(tool, ())`. Texts may be untrusted, "
            "because a summary of a mail is useful; numbers may be untrusted up to their limit. "
            "`type(value) in (int, float)` rejects a text.",
        ),
    ),
    Exercise(
        "4.7",
        "Build a cache key that forgets nothing",
        hints=(
            "Build the key from everything except a short list of fields that cannot change the "
            "answer. A list of fields that matter forgets the field that the API adds next.",
            "`json.dumps(value, sort_keys=True)` is the same for every order of a dictionary's "
            "keys and different for every order of a list. Hash that text with `hashlib.sha256`.",
            "In `cached`, look up only if the key is not None. After the call, store the response "
            'only if its `choices` all finished with "stop" or "tool_calls". An exception '
            "leaves the function before that line.",
        ),
    ),
    Exercise(
        "4.8",
        "Correct the bias of a judge",
        hints=(
            "Turn each pair of verdicts into a number first: 1 if both orders prefer X, 0 "
            "if both prefer Y, 0.5 for everything else. X is A in the first order and B in "
            "the second.",
            "The share is the mean of these numbers, and `mean_interval(points, confidence)` is "
            "its interval. A pair agrees if its number is not 0.5.",
            "Rogan and Gladen: (share + specificity - 1) / (sensitivity + specificity - "
            "1), cut to 0 to 1. Apply it to the share and to both ends of its Wilson "
            "interval.",
        ),
    ),
    Exercise(
        "4.9",
        "Gate a change with a paired comparison",
        hints=(
            "`gate` has three steps: `find_problems` (exit 2), pair the rows by id, then "
            "`compare_pairs` for all cases and each kind. A dict `{id: right}` of the run pairs "
            "the rows.",
            "A changed case is broken or fixed. Without a real change both are equally likely, "
            "like the sides of a coin, so p is the probability of at least `broken` heads in "
            "`broken + fixed` throws.",
            "p = sum(math.comb(n, k) for k in range(broken, n + 1)) / 2**n with n = broken + "
            "fixed. A group regresses if (broken - fixed) / cases > margin and p < alpha / (1 + "
            "number of kinds).",
        ),
    ),
)
