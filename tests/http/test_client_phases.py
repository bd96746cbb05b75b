"""The tables of a client connection's phases and turns: what they let happen, and what not."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping

import pytest

from evsvc.http.client.phases import NEXT, NEXT_TURN, Phase, Step, Turn, TurnStep

TABLES = [(NEXT, Phase.IDLE, Step), (NEXT_TURN, Turn.READY, TurnStep)]
Table = Mapping[tuple[enum.Enum, enum.Enum], enum.Enum]


@pytest.mark.parametrize(("table", "first", "steps"), TABLES)
def test_each_phase_can_be_come_to_and_left(
    table: Table, first: enum.Enum, steps: type[enum.Enum]
) -> None:
    assert {first, *table.values()} == set(type(first))
    assert {phase for phase, _ in table} == set(type(first))


@pytest.mark.parametrize(("table", "first", "steps"), TABLES)
def test_each_step_is_taken_somewhere(
    table: Table, first: enum.Enum, steps: type[enum.Enum]
) -> None:
    assert {step for _, step in table} == set(steps)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_what_every_move_keeps(phase: Phase, step: Step) -> None:
    after = NEXT.get((phase, step))
    if phase is Phase.CLOSED:
        assert after in (None, Phase.CLOSED), "nothing revives it"
    elif step is Step.CLOSE:
        assert after is Phase.CLOSED
    elif step is Step.LOSE:
        assert after is Phase.IDLE, "it may be lost at any time"
    elif after is Phase.CONNECTED:
        assert phase is Phase.CONNECTING, "there is one way to a connection"


@pytest.mark.parametrize(("turn", "step"), list(itertools.product(Turn, TurnStep)))
def test_what_every_turn_keeps(turn: Turn, step: TurnStep) -> None:
    after = NEXT_TURN.get((turn, step))
    if step is TurnStep.END:
        assert after is Turn.OVER, "it may end at any time"
    elif turn is Turn.OVER:
        assert after is None, "nothing revives it"
    elif after is Turn.READY:
        assert step is TurnStep.DONE, "it is at rest when all is answered"
