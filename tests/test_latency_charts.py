"""The charts of latencies rest on every sample, and stay small however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from rtbench.measure.rounds import Block
from rtbench.report.latency_charts import SHOWN_MEDIANS, SHOWN_SAMPLES, time_chart


def blocks(rounds: int) -> list[Block]:
    generator = np.random.default_rng(rounds)
    return [
        Block(
            "ort/fp32",
            number,
            0,
            0,
            0,
            10**9 * number + np.arange(3),
            generator.integers(10**6, 2 * 10**6, 3),
            np.full(3, np.nan),
        )
        for number in range(rounds)
    ]


@pytest.mark.parametrize("rounds", [1, SHOWN_MEDIANS, SHOWN_MEDIANS + 1, 10 * SHOWN_MEDIANS - 7])
def test_the_line_of_medians_rests_on_every_round(rounds):
    own = blocks(rounds)
    chart = time_chart(own, 0)
    assert len(chart["data"]["values"]) == min(SHOWN_SAMPLES, 3 * rounds)
    drawn = chart["layer"][1]["data"]["values"]
    assert len(drawn) <= SHOWN_MEDIANS
    together = 1 if rounds <= SHOWN_MEDIANS else -(-rounds // SHOWN_MEDIANS)
    assert len(drawn) == -(-rounds // together)
    for index, each in enumerate(drawn):
        group = own[index * together : (index + 1) * together]
        assert each["second"] == group[0].round
        assert each["median_ms"] == np.median([block.durations_ns for block in group]) / 1e6
