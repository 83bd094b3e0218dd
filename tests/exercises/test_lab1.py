"""Lab 1 accepts right answers written in other ways, and its worked examples are right."""

import math

import numpy as np
import pytest
import torch

from openmodels import licences, sizing
from openmodels.check import find
from openmodels.exercises.lab1 import (
    ex_1_1_parameters,
    ex_1_2_kv_cache,
    ex_1_3_router,
    ex_1_4_masks,
    ex_1_5_power_law,
    ex_1_6_better_model,
)


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


# --- The worked examples of the stubs -------------------------------------------------------------


def test_examples():
    counted = (
        sizing.parameters(ex_1_1_parameters.TINY),
        sizing.active_parameters(ex_1_1_parameters.TINY),
    )
    assert counted == (452, 344)
    logits = torch.tensor([[0, 2, 1.1, 1]])
    experts, weights = ex_1_3_router.reference_route(logits, torch.zeros(4), 1, 2, 1, 2.5)
    assert (experts.tolist(), weights.tolist()) == ([[2]], [[2.5]])
    assert ex_1_4_masks.reference_window(3, 2).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert ex_1_4_masks.reference_chunk(3, 2).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert ex_1_5_power_law.reference_fit([1, 2, 4], [8, 4, 2]) == pytest.approx((8, 1))
    assert ex_1_6_better_model.reference_interval(15, 20) == pytest.approx((0.531, 0.888), abs=5e-4)
    assert (
        ex_1_6_better_model.reference_better(*ex_1_6_better_model.paired_answers(0, 9, 1, 0))
        == "first"
    )
    assert (
        ex_1_6_better_model.reference_better(*ex_1_6_better_model.paired_answers(0, 3, 2, 0))
        == "cannot tell"
    )


# --- Right answers of another make ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_of_another_kind(kind):
    assert correct("1.1", lambda config: kind(ex_1_1_parameters.reference_count(config)))
    assert correct("1.2", lambda *call: np.int64(ex_1_2_kv_cache.cache_bytes(*call)))
    assert correct("1.5", lambda *call: kind(ex_1_5_power_law.reference_fit(*call)))
    assert correct(
        "1.6",
        lambda *call: kind(ex_1_6_better_model.reference_interval(*call)),
        ex_1_6_better_model.reference_better,
    )


def test_experts_in_another_order_and_as_lists():
    assert correct(
        "1.3",
        lambda *call: [part.flip(1).tolist() for part in ex_1_3_router.reference_route(*call)],
    )


def test_a_router_that_changes_what_it_is_given_spoils_no_later_answer():
    find("1.3").load_checker().judge(
        lambda logits, *call: ex_1_3_router.reference_route(logits.zero_(), *call)
    )
    assert correct("1.3", ex_1_3_router.reference_route)


def test_masks_of_zeros_and_ones():
    for kind in (torch.Tensor.tolist, torch.Tensor.int, torch.Tensor.numpy):
        window, chunk = (
            lambda *call, make=make, kind=kind: kind(make(*call))
            for make in (ex_1_4_masks.reference_window, ex_1_4_masks.reference_chunk)
        )
        assert correct("1.4", window, chunk)


def test_another_paired_test():
    def mcnemar(first, second):
        wins, losses = ex_1_6_better_model.disagreements(first, second)
        n, fewer = wins + losses, min(wins, losses)
        chance = 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
        if chance > 0.05:
            return "cannot tell"
        return "first" if wins > losses else "second"

    assert correct(
        "1.6", lambda *call: ex_1_6_better_model.reference_interval(*call, z=1.96), mcnemar
    )


def test_advantages_by_hand_and_with_a_small_number_below():
    def loop(rewards):
        rows = []
        for row in rewards.tolist():
            mean = sum(row) / len(row)
            spread = math.sqrt(sum((reward - mean) ** 2 for reward in row) / (len(row) - 1))
            rows.append([(reward - mean) / spread if spread else 0.0 for reward in row])
        return rows

    def padded(rewards):
        centred = rewards - rewards.mean(1, keepdim=True)
        return centred / (rewards.std(1, keepdim=True) + 1e-4)

    assert correct("1.7", loop)
    assert correct("1.7", padded)


def test_a_predicate_that_is_only_as_good_as_true():
    def suits(row, use, context, available):
        return (
            row.parameters
            and row.context_length
            and row.context_length >= context
            and "image" in row.modality_in
            and licences.may_i(row.id, use, in_eu=True).verdict.startswith("yes")
            and sizing.fits(row.parameters, "q4_k_m", available=available)
        )

    assert correct("1.8", suits)
