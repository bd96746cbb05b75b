"""The table of a client connection's phases: what it lets happen, and what it does not."""

from __future__ import annotations

import itertools

import pytest

from evsvc.http.client.phases import AT_REST, CONNECTED, NEXT, UNDER_WAY, Phase, Step


def test_each_phase_can_be_come_to_and_left() -> None:
    assert {Phase.IDLE, *NEXT.values()} == set(Phase)
    assert {phase for phase, _ in NEXT} == set(Phase)


def test_each_step_is_taken_somewhere() -> None:
    assert {step for _, step in NEXT} == set(Step)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_what_every_move_keeps(phase: Phase, step: Step) -> None:
    after = NEXT.get((phase, step))
    if phase is Phase.CLOSED:
        assert after in (None, Phase.CLOSED), "nothing revives it"
    elif step is Step.CLOSE:
        assert after is Phase.CLOSED
    elif step is Step.LOSE:
        assert after is Phase.IDLE, "it may be lost at any time"
    elif after in CONNECTED:
        assert phase in CONNECTED or phase is Phase.CONNECTING, "there is one way to a connection"


def test_a_phase_is_at_rest_or_under_way_or_the_end() -> None:
    assert AT_REST | UNDER_WAY | {Phase.CLOSED} == set(Phase)
    assert not AT_REST & UNDER_WAY
