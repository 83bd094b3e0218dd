"""Capacity plans: the queue against a simulation, and sizes and costs by hand."""

import asyncio
import math
import random
from dataclasses import replace

import pytest

from openmodels import catalog, sizing
from openmodels.gguf import export
from openmodels.serving import load_generator
from openmodels.serving.engine import Engine
from openmodels.workflows import capacity
from openmodels.workflows.capacity import Demand, Plan, Speed, Target

DEMAND = Demand(2.0, 400, 100)
SPEED = Speed(prefill=4000, decode=1000, slots=4, source="for the test")  # 0.2 s per request


# --- The queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", [1, 4, 16])
@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_the_formula_agrees_with_a_simulation(servers, busy):
    count, rng = 60_000, random.Random(5)
    rate = busy * servers  # with a mean service of one second
    moments = load_generator.arrivals(count, rate, seed=4)
    waits = load_generator.queued(moments, [rng.expovariate(1) for _ in range(count)], servers)
    mean = sum(waits) / count
    waited = sum(wait > 0 for wait in waits) / count
    assert capacity.waiting_probability(rate, 1, servers) == pytest.approx(waited, abs=0.02)
    assert capacity.mean_wait(rate, 1, servers) == pytest.approx(mean, rel=0.12, abs=0.003)
    p95 = load_generator.percentile(waits, 0.95)
    assert capacity.wait_within(rate, 1, servers) == pytest.approx(p95, rel=0.12, abs=0.02)


def test_one_server_has_the_textbook_wait():
    # M/M/1: waiting with probability u, on average u / (1 - u) services
    assert capacity.waiting_probability(0.8, 1, 1) == pytest.approx(0.8)
    assert capacity.mean_wait(0.8, 1, 1) == pytest.approx(4.0)
    assert capacity.wait_within(0.8, 1, 1) == pytest.approx(math.log(0.8 / 0.05) / 0.2)


def test_a_full_queue_has_no_limit_and_an_empty_one_no_wait():
    assert capacity.waiting_probability(2, 1, 2) == 1
    assert capacity.mean_wait(2, 1, 2) == capacity.wait_within(2, 1, 2) == math.inf
    assert capacity.wait_within(0.01, 1, 8) == 0
    assert 0 < capacity.waiting_probability(900, 1, 1000) < 1e-3  # no overflow
    with pytest.raises(ValueError, match="between 0 and 1"):
        capacity.wait_within(1, 1, 2, share=1)


# --- The plan -------------------------------------------------------------------------------------


def test_a_request_takes_prefill_and_a_share_of_decode():
    assert SPEED.seconds(DEMAND) == pytest.approx(400 / 4000 + 100 / 1000)
    assert SPEED.latency(DEMAND) == pytest.approx(4 * 0.2)


def test_the_plan_has_the_fewest_machines_that_keep_the_target():
    target = Target(utilisation=0.7, wait_p95=1.0)
    for rate in (0.5, 3.0, 3.6, 40.0):
        demand = replace(DEMAND, requests_per_second=rate)
        plan = capacity.plan(demand, SPEED, target)
        assert plan.meets(target)
        assert plan.machines == 1 or not Plan(demand, SPEED, plan.machines - 1).meets(target)
    assert capacity.plan(replace(DEMAND, requests_per_second=40), SPEED, target).machines == 12
    with pytest.raises(ValueError, match="10,000"):
        capacity.plan(replace(DEMAND, requests_per_second=1e6), SPEED, target)


def test_a_short_wait_or_a_spare_machine_needs_more_machines():
    demand = replace(DEMAND, requests_per_second=3.4)  # 68 % of one machine
    assert capacity.plan(demand, SPEED, Target(0.7, 10)).machines == 1
    assert capacity.plan(demand, SPEED, Target(0.7, 0.01)).machines == 2
    assert capacity.plan(demand, SPEED, Target(0.7, 10, spare=1)).machines == 2
    two = replace(DEMAND, requests_per_second=6.8)
    assert capacity.plan(two, SPEED, Target(0.7, 10, spare=1)).machines == 3


def test_the_highest_rate_of_one_machine_is_where_two_are_needed():
    target = Target(0.7, 0.5)
    rate = capacity.highest_rate(DEMAND, SPEED, target)
    assert 0 < rate <= 0.7 / SPEED.seconds(DEMAND)
    below, above = (replace(DEMAND, requests_per_second=rate * f) for f in (0.999, 1.001))
    assert capacity.plan(below, SPEED, target).machines == 1
    assert capacity.plan(above, SPEED, target).machines == 2


def test_a_plan_says_what_to_expect():
    assert str(Plan(DEMAND, SPEED, 1)).startswith("1 machine: 40% used in the busiest hour, 95 %")
    assert Plan(replace(DEMAND, requests_per_second=6), SPEED, 1).wait_p95 == math.inf


def test_more_workers_pay_from_a_number_of_documents():
    assert capacity.break_even_documents((100, 200), (5, 15)) == pytest.approx(2000)
    assert capacity.break_even_documents((100, 100), (5, 15)) == math.inf
    assert capacity.break_even_documents((100, 200), (5, 5)) == 0


@pytest.mark.parametrize(
    "values", [(0, 1, 1, 0.5), (1, 0, 1, 0.5), (1, 1, 0, 0.5), (1, 1, 1, 0), (1, 1, 1, 1.1)]
)
def test_a_demand_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match=r"above 0"):
        Demand(*values)


def test_a_speed_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        replace(SPEED, decode=0)


def test_an_office_sends_its_requests_in_the_busiest_hour():
    assert capacity.office(360, 10, 400, 100).requests_per_second == 1


# --- Memory, speed and cost -----------------------------------------------------------------------


def test_the_slots_are_what_memory_is_free_for():
    config = catalog.config("qwen2.5-7b")
    slots = capacity.free_slots(config, 2000, 48)
    weights = sizing.weight_bytes(sizing.parameters(config))
    for count, fits in ((slots, True), (slots + 1, False)):
        cache = count * sizing.kv_cache_bytes(config, 2000)
        assert (sizing.needed_bytes(weights, cache) <= 0.9 * 48e9) is fits
    assert capacity.free_slots(config, 2000, 12) == 0


def test_a_computed_speed_follows_bandwidth_and_operations():
    speed = capacity.computed_speed("qwen2.5-7b", "L40S", DEMAND, teraflops=362)
    assert speed.slots == 64 and "computed" in speed.source
    config = catalog.config("qwen2.5-7b")
    step = sizing.step_bytes(config, 64, 500) / (0.6 * 864e9)
    assert speed.decode == pytest.approx(64 / step)
    assert speed.prefill == pytest.approx(
        400 * 0.4 * 362e12 / sizing.prefill_flops(config, 400), rel=1e-6
    )
    double = capacity.computed_speed("qwen2.5-7b", "L40S", DEMAND, teraflops=362, gpus=2)
    assert double.decode == pytest.approx(2 * speed.decode)
    with pytest.raises(ValueError, match="do not fit"):
        capacity.computed_speed("qwen2.5-72b", "L40S", DEMAND, teraflops=362)
    with pytest.raises(ValueError, match="no memory"):
        capacity.computed_speed("qwen2.5-7b", "Apple M4 Max", DEMAND, teraflops=1)


def test_a_server_here_is_measured():
    with Engine(export.gguf_file("mini-qwen"), slots=2, threads=1, context=512) as engine:
        speed = asyncio.run(capacity.measure(engine, slots=2, requests=4))
    assert (speed.slots, speed.source) == (2, "measured here, 4 requests")
    assert min(speed.prefill, speed.decode) > 0


def test_costs_come_from_the_catalogue():
    row = catalog.get_hardware("RTX 5090")
    by_hand = 2 * (row.list_price / 48 + row.power_W / 1000 * 730.5 * 0.3)
    assert capacity.monthly_cost(2, "RTX 5090") == pytest.approx(by_hand, rel=1e-3)
    with pytest.raises(ValueError, match="no list price"):
        capacity.monthly_cost(1, "L40S")
    price = catalog.get_price("qwen2.5-7b", "Alibaba")
    demand = Demand(1.0, 1000, 1000, busy_share=1.0)
    millions = 1000 * capacity.SECONDS_PER_MONTH / 1e6
    by_hand = millions * (price.input_per_M + price.output_per_M)
    assert capacity.api_monthly_cost(demand, price) == pytest.approx(by_hand)
