"""Discrete Gaussian noise for one vector of 2^20 coordinates, beside OpenDP's exact sampler."""

from collections.abc import Iterator

import opendp.prelude as dp

from benchmarks.report import Options, Row, seconds, versioned
from privacy.discrete_gaussian import discrete_gaussian
from privacy.keystream import Keystream

DIMENSION = 2**20
PEER_SAMPLES = 2**14


def run(options: Options) -> Iterator[Row]:
    """Time to sample, and once per sigma to build the table."""
    dp.enable_features("contrib")
    for sigma in (4.0, 50.0, 1000.0, 20_000.0):
        case = f"sigma={sigma:g} d=2^20"
        count = DIMENSION if options.full else PEER_SAMPLES
        scaled = "" if options.full else f" (2^14 samples, times {DIMENSION // count})"
        first = seconds(lambda s=sigma: _ours(s, 1), repeats=1)  # type: ignore[misc]
        yield Row("sampler", case, "table, once, s", ours=first)
        yield Row(
            "sampler",
            case,
            "noise of one vector, s",
            ours=seconds(lambda s=sigma: _ours(s, DIMENSION)),  # type: ignore[misc]
            peer=_opendp(sigma, count) * DIMENSION / count,
            peer_name=versioned("opendp") + scaled,
        )


def _ours(sigma: float, count: int) -> object:
    return discrete_gaussian(sigma, count, Keystream.fresh())


def _opendp(sigma: float, count: int) -> float:
    space = dp.vector_domain(dp.atom_domain(T="i32")), dp.l2_distance(T=float)
    measurement = dp.m.make_gaussian(*space, scale=sigma)
    zeros = [0] * count
    return seconds(lambda: measurement(zeros), repeats=1)
