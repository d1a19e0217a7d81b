"""When a block counts as disturbed, by hand, and what is said of a row that was."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from rtbench.measure.conditions import GpuReading, Judge, Seen, summarise_conditions
from rtbench.records.measurement import Conditions, GpuConditions

QUIET = Conditions(other_cores=0.02, stolen_cores=0.0, throttled_s=0.0, cpu_mhz=None, temperature_c=None, gpu=None)
COOL = GpuReading(sm_mhz=1590, temperature_c=60, power_w=70.0, slowdowns=frozenset(), other_processes=0)
FULL = Judge(cores=2, threads=2)
"""No core is spare."""


def _gpu(**changes: object) -> GpuReading:
    return GpuReading(**(vars(COOL) | changes))


@pytest.mark.parametrize(
    ("seen", "disturbance"),
    [
        (Seen(wall_s=1.0), ""),
        # a tenth of a core and two milliseconds for what always runs
        (Seen(wall_s=1.0, other_s=0.101), ""),
        (Seen(wall_s=1.0, other_s=0.103), "other processes"),
        (Seen(wall_s=0.01, other_s=0.0029), ""),
        (Seen(wall_s=0.01, other_s=0.0031), "other processes"),
        # steal is counted in hundredths of a second: one of them alone says nothing
        (Seen(wall_s=0.1, stolen_s=0.01), ""),
        (Seen(wall_s=0.1, stolen_s=0.02), "steal"),
        (Seen(wall_s=1.0, stolen_s=0.029), ""),
        (Seen(wall_s=1.0, stolen_s=0.031), "steal"),
        (Seen(wall_s=1.0, throttled_s=1e-6), "throttled"),
        # waiting, clocks and heat alone are no disturbance
        (Seen(wall_s=1.0, waited_s=0.9, cpu_mhz=800.0, temperature_c=99.0), ""),
        # the first of several, a limit that no waiting cures before the rest
        (Seen(wall_s=1.0, other_s=1.0, stolen_s=1.0, throttled_s=0.1), "throttled"),
        (Seen(wall_s=1.0, other_s=1.0, stolen_s=1.0), "other processes"),
    ],
)
def test_what_disturbs_a_block_on_a_full_machine(seen: Seen, disturbance: str) -> None:
    assert FULL.disturbance(seen) == disturbance


@pytest.mark.parametrize(
    ("cores", "threads", "allowed_s"),
    [(2, 2, 0.102), (2, 1, 0.602), (8, 2, 3.102), (4, 4, 0.102), (2, 4, 0.102)],
)
def test_half_of_every_spare_core_is_for_others(cores: int, threads: int, allowed_s: float) -> None:
    judge = Judge(cores, threads)
    assert judge.disturbance(Seen(wall_s=1.0, other_s=allowed_s - 1e-6)) == ""
    assert judge.disturbance(Seen(wall_s=1.0, other_s=allowed_s + 1e-6)) == "other processes"


@pytest.mark.parametrize(
    ("changes", "disturbance"),
    [
        ({}, ""),
        ({"temperature_c": 95, "sm_mhz": 300}, ""),
        ({"slowdowns": frozenset({"power cap"})}, "GPU slowed down"),
        ({"other_processes": 1}, "GPU shared"),
        ({"other_processes": 1, "slowdowns": frozenset({"power cap"})}, "GPU slowed down"),
    ],
)
def test_what_disturbs_a_block_on_a_gpu(changes: dict, disturbance: str) -> None:
    assert FULL.disturbance(Seen(wall_s=1.0, gpu=_gpu(**changes))) == disturbance


def test_conditions_are_means_over_the_blocks_and_extremes() -> None:
    record = summarise_conditions(
        [
            Seen(2.0, 1.0, 0.5, 0.1, 0.0, cpu_mhz=2000.0),
            Seen(2.0, 0.0, 0.1, 0.0, 0.5, cpu_mhz=3000.0, temperature_c=50.0, gpu=COOL),
            Seen(4.0, 0.6, 0.0, 0.3, 0.0, gpu=_gpu(sm_mhz=900, temperature_c=81, slowdowns=frozenset({"b", "a"}))),
        ]
    )
    assert record.other_cores == pytest.approx(1.6 / 8)
    assert record.waited_cores == pytest.approx(0.6 / 8)
    assert record.stolen_cores == pytest.approx(0.4 / 8)
    assert record.throttled_s == pytest.approx(0.5)
    assert record.cpu_mhz == (2000.0, 3000.0)
    assert record.temperature_c == 50.0
    assert record.gpu == GpuConditions(
        sm_mhz=(900, 1590), temperature_c=81, power_w=70.0, slowdowns=["a", "b"], other_processes=0
    )


def test_a_block_of_which_only_its_length_is_known_was_left_alone() -> None:
    record = summarise_conditions([Seen(2.0)])
    assert record == QUIET.model_copy(update={"other_cores": 0.0})
    assert (record.waited_cores, record.stolen_cores, record.throttled_s) == (0.0, 0.0, 0.0)


def test_less_than_no_cores_were_kept_busy_by_nobody() -> None:
    """What is known of others is a difference of counters, and may come out below nought."""
    assert summarise_conditions([Seen(1.0, other_s=-0.5), Seen(1.0, other_s=0.1)]).other_cores == 0.0
    assert FULL.disturbance(Seen(1.0, other_s=-0.5)) == ""


def test_what_was_seen_cannot_be_changed() -> None:
    for made, name in ((Seen(1.0), "wall_s"), (COOL, "sm_mhz"), (FULL, "cores")):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, 3)


def test_nothing_was_seen_of_a_row_that_was_not_timed() -> None:
    assert summarise_conditions([]) == QUIET.model_copy(update={"other_cores": 0.0})


HOT = GpuConditions(
    sm_mhz=(900.0, 1590.0), temperature_c=81, power_w=68.5, slowdowns=["power cap", "thermal"], other_processes=2
)


@pytest.mark.parametrize(
    ("changes", "why", "remedy"),
    [
        ({"other_cores": 0.8}, "other processes kept 0.8 of 2 cores busy", "close them"),
        ({"stolen_cores": 0.1}, "CPU steal: the host of this virtual machine used 0.1 of its cores", "when it is idle"),
        ({"stolen_cores": 0.1, "other_cores": 1.2}, "other processes kept 1.2 of 2 cores busy", "close them"),
        ({"stolen_cores": 0.3, "other_cores": 0.3}, "other processes kept 0.3 of 2 cores busy", "close them"),
        ({"throttled_s": 0.25}, "the container's CPU limit stopped it for 0.25 s", "lower --threads"),
        ({"throttled_s": 1.5, "other_cores": 2}, "the container's CPU limit stopped it for 1.5 s", "lower --threads"),
        ({"gpu": HOT}, "the GPU lowered its clock (power cap, thermal; 900 to 1590 MHz)", "cool it"),
        (
            {"gpu": HOT.model_copy(update={"slowdowns": [], "other_processes": 0}), "stolen_cores": 0.1},
            "CPU steal: the host of this virtual machine used 0.1 of its cores",
            "when it is idle",
        ),
        (
            {"gpu": HOT.model_copy(update={"slowdowns": []})},
            "2 other processes used the GPU",
            "close them and run again",
        ),
    ],
)
def test_a_disturbance_is_told_with_its_size_and_a_remedy(changes: dict, why: str, remedy: str) -> None:
    said, mend = FULL.explain(QUIET.model_copy(update=changes))
    assert said == why
    assert remedy in mend
