"""Choosing a token from known logits."""

import torch

from generation.sampling import Sampler
from tests.generation.oracle import ask

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])


def draws(count: int, **options: object) -> list[int]:
    sampler = Sampler(ask("Hi", **options))
    return [sampler.next_token([], PROBABILITIES.log()) for _ in range(count)]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert draws(3) == [0, 0, 0]


def test_frequencies_follow_the_probabilities() -> None:
    counts = torch.bincount(torch.tensor(draws(4000, temperature=1.0, seed=1)), minlength=4)
    # Five standard deviations of a binomial count.
    spread = 5 * (4000 * PROBABILITIES * (1 - PROBABILITIES)).sqrt()
    assert ((counts - 4000 * PROBABILITIES).abs() < spread).all()


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    # Holtzman et al. 2020, equation 2: 0.5 + 0.3 is the first sum that reaches 0.7.
    assert set(draws(300, temperature=1.0, top_p=0.7, seed=2)) == {0, 1}


def test_temperature_divides_the_logits() -> None:
    # At 0.25 the odds of the first two tokens are (0.5/0.3)^4 = 7.7.
    counts = torch.bincount(torch.tensor(draws(4000, temperature=0.25, seed=3)), minlength=4)
    assert 6.4 < counts[0] / counts[1] < 9.3


def test_no_run_of_tokens_is_said_twice() -> None:
    sampler = Sampler(ask("Hi"), 3)
    logits = torch.tensor([1.0, 2.0, 3.0])
    assert sampler.next_token([], logits.clone()) == 2
    # After 2 1, another 2 would make a second 2 1 2.
    assert sampler.next_token([2, 1, 2, 0, 2, 1], logits.clone()) == 1
    assert sampler.next_token([2, 1, 0, 2, 1], logits.clone()) == 2


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    assert draws(40, temperature=1.0, seed=5) == draws(40, temperature=1.0, seed=5)
    assert draws(40, temperature=1.0) != draws(40, temperature=1.0)
