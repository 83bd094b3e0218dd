"""Plans how many machines serve a given load: utilisation, waiting, memory and cost.

A plan needs the requests per second, their tokens, and the speed of one machine. `measure` times a
server here; `computed_speed` estimates a GPU from its bandwidth. Waiting follows the M/M/c queue
(Erlang C), which tests compare with a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from openmodels import catalog, sizing
from openmodels.serving import load_generator

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from openmodels.serving.engine import Engine

HOURS_PER_MONTH = sizing.HOURS_PER_YEAR / 12
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
MEMORY_SHARE = 0.9  # of a GPU's memory that the server may use
MAX_MACHINES = 10_000
FILLER = "The Heron lies at berth 7. "  # the text of a prompt that is only timed


@dataclass(frozen=True)
class Demand:
    """The load to serve. Tokens are means per request.

    requests_per_second: in the busiest hour. busy_share: the mean rate of the month divided by the
    busiest hour's, 0 to 1; the cost of an API follows the mean, the machines follow the peak.
    """

    requests_per_second: float
    prompt_tokens: float
    answer_tokens: float
    busy_share: float = 0.2

    def __post_init__(self) -> None:
        if not (self.requests_per_second > 0 and self.prompt_tokens > 0 and self.answer_tokens > 0):
            raise ValueError("requests and tokens must be above 0")
        if not 0 < self.busy_share <= 1:
            raise ValueError(f"busy_share is a share, above 0 and at most 1: {self.busy_share}")

    @property
    def requests_per_month(self) -> float:
        """Return the requests of a month."""
        return self.requests_per_second * self.busy_share * SECONDS_PER_MONTH


def office(
    people: int, requests_per_hour: float, prompt_tokens: float, answer_tokens: float
) -> Demand:
    """Return the demand of people who each send `requests_per_hour` in the busiest hour."""
    return Demand(people * requests_per_hour / 3600, prompt_tokens, answer_tokens)


# --- The speed of one machine ---------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """What one machine does when all its slots are busy.

    prefill: prompt tokens per second. decode: answer tokens per second, of all slots together.
    slots: requests at the same time. source: "measured ..." or "computed ...".
    """

    prefill: float
    decode: float
    slots: int
    source: str

    def __post_init__(self) -> None:
        if not (self.prefill > 0 and self.decode > 0 and self.slots >= 1):
            raise ValueError("speeds must be above 0, and there must be a slot")

    def seconds(self, demand: Demand) -> float:
        """Return the machine's time for one request, in seconds: prefill, then a share of decode.

        The two alternate on one machine, so their times add up. The inverse is the highest rate.
        """
        return demand.prompt_tokens / self.prefill + demand.answer_tokens / self.decode

    def latency(self, demand: Demand) -> float:
        """Return the seconds for which a request occupies its slot when all slots are busy."""
        return self.slots * self.seconds(demand)


async def measure(server: Engine | str, slots: int, requests: int = 32, **body: Any) -> Speed:
    """Measure a server of this machine with all slots busy; return its speed.

    Two runs with the same prompts, with answers of 1 and of 33 tokens: the first gives the prefill,
    the difference the decode. requests: of each run. body: fields of every request, such as
    `model`. Raises LoadError if the server fails, ValueError if it is on another machine.
    """

    async def seconds(tokens: int) -> float:
        # numbered first, so that no prompt is the beginning of another in the server's cache
        prompts = [f"{number}. {FILLER * 16}" for number in range(requests)]
        fixed = {"max_tokens": tokens, "temperature": 0, "cache_prompt": False, "ignore_eos": True}
        bodies = [body | fixed | {"prompt": prompt} for prompt in prompts]
        timings = await load_generator.crowd(server, bodies, readers=2 * slots)
        return max(timing.chunk_times[-1] for timing in timings)

    await seconds(1)  # to warm up
    short, long = await seconds(1), await seconds(33)
    prompt_tokens = requests * count_tokens(f"0. {FILLER * 16}")
    decode = requests * 32 / max(long - short, 1e-9)
    return Speed(prompt_tokens / short, decode, slots, f"measured here, {requests} requests")


def count_tokens(text: str) -> int:
    """Return the tokens of a text for mini-qwen."""
    from transformers import AutoTokenizer

    from openmodels import minis

    tokenizer = AutoTokenizer.from_pretrained(
        minis.weights_dir("mini-qwen"), trust_remote_code=False
    )
    return len(tokenizer(text).input_ids)


def free_slots(
    config: PreTrainedConfig, context: int, memory_GB: float, kind: str = "bfloat16"
) -> int:
    """Return how many texts of `context` tokens fit beside the weights; 0 if the weights do not.

    memory_GB: of all GPUs of a machine, in 10^9 bytes; the server uses 90 % of it.
    """
    weights = sizing.weight_bytes(sizing.parameters(config), kind)
    free = memory_GB * sizing.GB * MEMORY_SHARE - sizing.needed_bytes(weights)
    return max(0, int(free // sizing.kv_cache_bytes(config, context)))


def computed_speed(
    model: str,
    gpu: str,
    demand: Demand,
    *,
    teraflops: float,
    gpus: int = 1,
    max_slots: int = 64,
    bandwidth_share: float = 0.6,
    flops_share: float = 0.4,
) -> Speed:
    """Return the speed of a catalogue GPU for a catalogue model in bfloat16, by formula.

    Decode reads the weights and each slot's cache once per step (`sizing.step_bytes`) at a share of
    the catalogue's bandwidth; prefill computes (`sizing.prefill_flops`) at a share of `teraflops`,
    the GPU's peak in bfloat16 from its data sheet. Both shares are assumptions: measure your GPU
    before you buy. Several GPUs count as one with their memory, bandwidth and operations added,
    which ignores what they send each other.

    Raises ValueError if the weights and one text do not fit, LookupError for an unknown name.
    """
    config, row = catalog.config(model), catalog.get_hardware(gpu)
    context = round(demand.prompt_tokens + demand.answer_tokens)
    if row.memory_GB is None:
        raise ValueError(f"the catalogue has no memory for {gpu}")
    slots = min(max_slots, free_slots(config, context, gpus * row.memory_GB))
    if slots < 1:
        raise ValueError(f"{model} and one text of {context:,} tokens do not fit on {gpus} x {gpu}")
    bandwidth = gpus * row.bandwidth_GBps * sizing.GB * bandwidth_share
    step = sizing.step_bytes(config, slots, context) / bandwidth  # seconds
    prompt = round(demand.prompt_tokens)
    work = sizing.prefill_flops(config, prompt)
    prefill = prompt / (work / (gpus * teraflops * 1e12 * flops_share))
    source = (
        f"computed for {gpus} x {gpu}, {bandwidth_share:.0%} and {flops_share:.0%} of its peaks"
    )
    return Speed(prefill, slots / step, slots, source)


# --- Waiting --------------------------------------------------------------------------------------


def waiting_probability(rate: float, service_seconds: float, servers: int) -> float:
    """Return the probability that a request has to wait, in an M/M/c queue (Erlang C); 1 if full.

    rate: requests per second, at random moments. service_seconds: the mean time in service, with
    exponential times. servers: that serve at the same time. Source: Erlang 1917; computed by the
    recursion of Erlang B, which does not overflow.
    """
    load = rate * service_seconds  # in servers
    if load >= servers:
        return 1.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    busy = load / servers
    return blocked / (1 - busy * (1 - blocked))


def mean_wait(rate: float, service_seconds: float, servers: int) -> float:
    """Return the mean seconds that a request waits in an M/M/c queue; inf if it is full."""
    spare = servers / service_seconds - rate  # requests per second
    if spare <= 0:
        return math.inf
    return waiting_probability(rate, service_seconds, servers) / spare


def wait_within(rate: float, service_seconds: float, servers: int, share: float = 0.95) -> float:
    """Return the seconds that `share` of the requests wait at most in an M/M/c queue; inf if full.

    P(wait > t) = C * exp(-(c/s - rate) * t), with C from `waiting_probability`. Raises ValueError
    for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    spare = servers / service_seconds - rate
    if spare <= 0:
        return math.inf
    probability = waiting_probability(rate, service_seconds, servers)
    return max(0.0, math.log(probability / (1 - share)) / spare) if probability else 0.0


# --- The plan -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What a plan promises.

    utilisation: the largest share of the machines' time that is used in the busiest hour. wait_p95:
    seconds that 95 % of requests wait at most for a slot. spare: machines that may fail while the
    others still serve the load (at any utilisation below 1).
    """

    utilisation: float = 0.7
    wait_p95: float = 1.0
    spare: int = 0


DEFAULT_TARGET = Target()


@dataclass(frozen=True)
class Plan:
    """A number of machines for a demand, and what to expect of them."""

    demand: Demand
    speed: Speed
    machines: int

    @property
    def utilisation(self) -> float:
        """Return the share of the machines' time that is used in the busiest hour."""
        return self.demand.requests_per_second * self.speed.seconds(self.demand) / self.machines

    @property
    def wait_p95(self) -> float:
        """Return the seconds that 95 % of requests wait at most for a slot; inf if overloaded."""
        servers = self.machines * self.speed.slots
        rate, service = self.demand.requests_per_second, self.speed.latency(self.demand)
        return wait_within(rate, service, servers)

    def meets(self, target: Target) -> bool:
        """Return whether the plan keeps the target."""
        survivors = self.machines - target.spare
        return (
            survivors >= 1
            and self.utilisation <= target.utilisation
            and self.wait_p95 <= target.wait_p95
            and replace(self, machines=survivors).utilisation < 1
        )

    def __str__(self) -> str:
        noun = "machine" if self.machines == 1 else "machines"
        return (
            f"{self.machines:,} {noun}: {self.utilisation:.0%} used in the busiest hour, "
            f"95 % wait at most {self.wait_p95:.2g} s for a slot"
        )


def plan(demand: Demand, speed: Speed, target: Target = DEFAULT_TARGET) -> Plan:
    """Return the plan with the fewest machines that keeps the target.

    Raises ValueError if it would need more than 10,000.
    """
    work = demand.requests_per_second * speed.seconds(demand)
    fewest = max(1, math.ceil(work / target.utilisation))
    for machines in range(fewest, MAX_MACHINES + 1):
        result = Plan(demand, speed, machines)
        if result.meets(target):
            return result
    raise ValueError(f"more than {MAX_MACHINES:,} machines")


def highest_rate(demand: Demand, speed: Speed, target: Target = DEFAULT_TARGET) -> float:
    """Return the requests per second up to which one machine keeps the target, by bisection.

    The tokens per request are those of `demand`. Below this rate, do not scale out.
    """
    low, high = 0.0, 1 / speed.seconds(demand)
    for _ in range(50):
        middle = (low + high) / 2
        is_enough = Plan(replace(demand, requests_per_second=middle), speed, 1).meets(target)
        low, high = (middle, high) if is_enough else (low, middle)
    return low


def break_even_documents(speeds: Sequence[float], start_seconds: Sequence[float]) -> float:
    """Return from how many documents on the second way of running a job ends first; inf if never.

    speeds: documents per second of the first and the second way. start_seconds: until each begins.
    Example: one process against two workers that take 10 s longer to start.
    """
    (slow, fast), (early, late) = speeds, start_seconds
    if fast <= slow:
        return math.inf
    return max(0.0, (late - early) / (1 / slow - 1 / fast))


# --- Cost -----------------------------------------------------------------------------------------


def monthly_cost(
    machines: int, gpu: str, gpus: int = 1, *, years: float = 4, price_per_kWh: float = 0.3
) -> float:
    """Return the cost of a month of your own GPUs, in the currency of the catalogue's list price.

    The price is spread over the years; power is paid as if the GPUs worked at their limit all day.
    Ignored: the computer around the GPU, the network, staff, interest. Raises ValueError if the
    catalogue has no price or no power for the GPU.
    """
    row = catalog.get_hardware(gpu)
    if row.list_price is None or row.power_W is None:
        raise ValueError(f"the catalogue has no list price or no power for {gpu}")
    energy = row.power_W / 1000 * HOURS_PER_MONTH * price_per_kWh
    return machines * gpus * (row.list_price / (years * 12) + energy)


def api_monthly_cost(demand: Demand, price: catalog.Price) -> float:
    """Return the cost of the month's requests behind an API, in the currency of `price`."""
    tokens = demand.prompt_tokens * price.input_per_M + demand.answer_tokens * price.output_per_M
    return demand.requests_per_month * tokens / 1e6
