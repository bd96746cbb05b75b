"""Who is started, told to stop and killed, and when: the roster, with plain numbers for time."""

from __future__ import annotations

import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import StateError
from evsvc.workers import CUT_OFF, SETUP_FAILED, WorkerOptions
from evsvc.workers.phases import NEXT, Phase, Step, advance
from evsvc.workers.roster import Action, Member, Roster

OPTIONS = WorkerOptions(
    start_s=60,
    start_tries=3,
    stop_s=30,
    kill_s=5,
    healthy_s=10,
    backoff_s=1,
    max_backoff_s=4,
)


def orders(roster: Roster, now: float) -> list[tuple[str, int]]:
    return [(action.name, member.number) for action, member in roster.due(now)]


def started(roster: Roster, now: float) -> list[Member]:
    due = roster.due(now)
    assert {order.action for order in due} <= {Action.START}
    return [order.member for order in due]


def serving(slots: int, now: float = 0.0, options: WorkerOptions = OPTIONS) -> tuple:
    """A roster whose workers are all ready, and they."""
    roster = Roster(slots, options)
    members = started(roster, now)
    roster.ready(members[0], now)
    members += started(roster, now)
    for member in members[1:]:
        roster.ready(member, now)
    assert roster.serving == slots
    assert orders(roster, now) == []
    return roster, members


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_only_listed_moves_are_legal(phase: Phase, step: Step) -> None:
    if (phase, step) in NEXT:
        assert advance(phase, step) is NEXT[phase, step]
    else:
        with pytest.raises(StateError, match=f"{step.name}.*{phase.name}"):
            advance(phase, step)


def test_who_is_gone_stays_so_and_everyone_can_go() -> None:
    assert not [phase for phase, _ in NEXT if phase is Phase.GONE]
    for phase in set(Phase) - {Phase.GONE}:
        assert NEXT[phase, Step.EXIT] is Phase.GONE


class TestStart:
    def test_the_first_is_tried_alone_until_it_is_ready(self) -> None:
        roster = Roster(3, OPTIONS)
        (first,) = started(roster, 0)
        assert (first.number, orders(roster, 1)) == (0, [])
        roster.ready(first, 2)
        assert [member.number for member in started(roster, 2)] == [1, 2]
        assert orders(roster, 3) == []

    def test_a_setup_that_fails_is_tried_so_often(self) -> None:
        roster = Roster(3, OPTIONS)
        for now, backoff_s in ((0, 1), (1, 2), (3, None)):
            (first,) = started(roster, now)
            assert not roster.is_over
            roster.exited(first, now)
            if backoff_s is not None:
                assert roster.next_deadline() == now + backoff_s
                assert orders(roster, now + backoff_s - 0.1) == []
        assert orders(roster, 100) == []
        assert (roster.is_over, roster.exit_code) == (True, SETUP_FAILED)
        assert roster.next_deadline() == inf

    def test_who_was_ready_once_is_tried_for_ever(self) -> None:
        roster, (first,) = serving(1)
        for _ in range(20):
            roster.exited(first, 0)
            (first,) = started(roster, 1000)
            assert not roster.is_over

    def test_setup_takes_too_long(self) -> None:
        roster = Roster(1, OPTIONS)
        (first,) = started(roster, 0)
        assert roster.next_deadline() == 60
        assert orders(roster, 59.9) == []
        assert orders(roster, 60) == [("KILL", 0)]
        assert orders(roster, 61) == []
        roster.ready(first, 61)  # said before it was killed
        assert roster.serving == 0
        roster.exited(first, 61)
        assert roster.next_deadline() == 62

    def test_who_serves_may_take_all_the_time(self) -> None:
        roster, _ = serving(1)
        assert roster.next_deadline() == inf
        assert orders(roster, 1e9) == []


class TestDeath:
    def test_after_a_long_life_the_next_is_started_at_once(self) -> None:
        roster, members = serving(2)
        roster.exited(members[1], 10)
        assert orders(roster, 10) == [("START", 1)]

    def test_quick_deaths_back_off_up_to_a_limit(self) -> None:
        roster, (member,) = serving(1)
        now, waits = 0.0, []
        for _ in range(5):
            roster.exited(member, now + 9.9)
            waits.append(roster.next_deadline() - (now + 9.9))
            now = roster.next_deadline()
            (member,) = started(roster, now)
            roster.ready(member, now)
        assert waits == pytest.approx([1, 2, 4, 4, 4])
        roster.exited(member, now + 10)
        assert orders(roster, now + 10) == [("START", 0)]

    def test_one_slot_that_backs_off_leaves_the_others_alone(self) -> None:
        roster, members = serving(2)
        roster.exited(members[0], 1)
        roster.exited(members[1], 10)
        assert orders(roster, 10) == [("START", 0), ("START", 1)]

    def test_doublings_do_not_run_out_of_numbers(self) -> None:
        roster, (member,) = serving(1)
        now = 0.0
        for _ in range(2000):
            roster.exited(member, now)
            now = roster.next_deadline()
            (member,) = started(roster, now)
        assert now < 2000 * 4

    def test_one_that_cannot_be_relied_on_is_killed_and_counts_as_a_quick_death(self) -> None:
        roster, (member,) = serving(1)
        member.kill(100, "it lies")
        assert roster.next_deadline() == 100
        assert orders(roster, 100) == [("KILL", 0)]
        member.kill(101, "it lies")
        assert orders(roster, 101) == []
        roster.exited(member, 102)
        assert roster.next_deadline() == 103

    def test_no_other_phase_saves_it(self) -> None:
        roster = Roster(1, OPTIONS)
        (member,) = started(roster, 0)
        member.kill(5, "it lies")
        roster.ready(member, 1)
        roster.stop()
        roster.due(2)
        assert roster.next_deadline() == 5

    def test_the_earlier_time_to_be_killed_counts(self, caplog) -> None:
        roster, (member,) = serving(1)
        member.kill(5, "first")
        member.kill(7, "second")
        assert roster.next_deadline() == 5
        assert orders(roster, 7) == [("KILL", 0)]
        assert "worker 0 is killed: first" in caplog.text


class TestReload:
    def test_one_slot_after_the_other_each_when_its_successor_is_ready(self) -> None:
        roster, old = serving(2)
        roster.reload(100)
        assert roster.is_reloading
        (new,) = started(roster, 100)
        assert new.number == 0
        assert old[0].phase is Phase.SERVING
        roster.ready(new, 101)
        (stop, start) = roster.due(101)
        assert stop == (Action.STOP, old[0])
        assert (start.action, start.member.number) == (Action.START, 1)
        roster.ready(start.member, 102)
        assert roster.due(102) == [(Action.STOP, old[1])]
        assert not roster.is_reloading
        for member in old:
            roster.exited(member, 103)
        assert orders(roster, 104) == []
        assert roster.serving == 2

    def test_a_successor_that_fails_ends_it_and_who_serves_serves(self, caplog) -> None:
        roster, old = serving(2)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.exited(new, 101)
        assert not roster.is_reloading
        assert orders(roster, 200) == []
        assert [member.phase for member in old] == [Phase.SERVING] * 2
        assert "given up" in caplog.text

    def test_a_successor_that_takes_too_long_is_killed(self) -> None:
        roster, (old,) = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        assert roster.next_deadline() == 160
        assert orders(roster, 160) == [("KILL", 0)]
        roster.exited(new, 161)
        assert (old.phase, orders(roster, 500)) == (Phase.SERVING, [])

    def test_who_dies_meanwhile_is_replaced_by_the_successor(self) -> None:
        roster, (old,) = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.exited(old, 101)
        assert orders(roster, 101) == []
        roster.ready(new, 102)
        assert orders(roster, 102) == []
        assert (roster.serving, roster.is_reloading) == (1, False)

    def test_where_both_die_the_slot_backs_off(self) -> None:
        roster, (old,) = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.exited(old, 101)
        roster.exited(new, 101)
        assert roster.next_deadline() == 102
        assert orders(roster, 102) == [("START", 0)]

    def test_one_that_waits_for_its_turn_and_dies_needs_none(self) -> None:
        roster, old = serving(2)
        roster.reload(100)
        (first,) = started(roster, 100)
        roster.exited(old[1], 101)
        (second,) = started(roster, 101)
        roster.ready(second, 101)
        roster.ready(first, 101)
        assert roster.due(101) == [(Action.STOP, old[0])]
        assert not roster.is_reloading

    def test_asked_again_meanwhile_it_is_done_again(self) -> None:
        roster, (old,) = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.reload(101)
        roster.reload(101)
        roster.ready(new, 102)
        assert roster.due(102) == [(Action.STOP, old)]
        assert roster.is_reloading
        assert orders(roster, 102) == []  # a slot has two processes at most
        roster.exited(old, 103)
        (newest,) = started(roster, 103)
        roster.ready(newest, 104)
        assert roster.due(104) == [(Action.STOP, new)]
        assert not roster.is_reloading

    def test_asked_again_it_is_tried_again_after_a_failure(self) -> None:
        roster, _ = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.reload(101)
        roster.exited(new, 102)
        assert orders(roster, 102) == [("START", 0)]

    def test_it_waits_for_no_back_off(self) -> None:
        roster, (member,) = serving(1)
        roster.exited(member, 0)
        assert orders(roster, 0.5) == []
        roster.reload(0.5)
        assert orders(roster, 0.5) == [("START", 0)]
        assert not roster.is_reloading

    def test_before_anyone_was_ready_it_waits(self) -> None:
        roster = Roster(2, OPTIONS)
        (first,) = started(roster, 0)
        roster.reload(1)
        assert orders(roster, 1) == []
        roster.ready(first, 2)
        assert orders(roster, 2) == [("START", 1), ("START", 0)]

    def test_a_predecessor_that_does_not_end_is_killed(self) -> None:
        roster, (old,) = serving(1)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.ready(new, 101)
        roster.due(101)
        assert roster.next_deadline() == 101 + 35
        assert orders(roster, 136) == [("KILL", 0)]
        roster.exited(old, 137)
        assert (roster.serving, roster.exit_code) == (1, 0)


class TestStop:
    def test_everyone_is_told_and_nobody_is_started(self) -> None:
        roster, members = serving(2)
        roster.reload(100)
        (new,) = started(roster, 100)
        roster.stop()
        assert orders(roster, 101) == [("STOP", 0), ("STOP", 0), ("STOP", 1)]
        roster.ready(new, 102)
        for member in (*members, new):
            assert not roster.is_over
            roster.exited(member, 103)
        assert orders(roster, 104) == []
        assert (roster.is_over, roster.exit_code) == (True, 0)

    def test_nobody_is_started_who_backs_off(self) -> None:
        roster, (member,) = serving(1)
        roster.exited(member, 0)
        roster.stop()
        assert (orders(roster, 10), roster.is_over) == ([], True)
        assert roster.next_deadline() == inf

    def test_who_does_not_end_is_killed_and_the_exit_code_says_so(self) -> None:
        roster, (member,) = serving(1)
        roster.stop()
        assert orders(roster, 0) == [("STOP", 0)]
        assert orders(roster, 34.9) == []
        assert orders(roster, 35) == [("KILL", 0)]
        roster.exited(member, 36)
        assert (roster.is_over, roster.exit_code) == (True, CUT_OFF)

    def test_cut_kills_everyone_at_once(self) -> None:
        roster, members = serving(2)
        roster.stop()
        roster.due(1)
        roster.cut(2)
        assert orders(roster, 2) == [("KILL", 0), ("KILL", 1)]
        roster.cut(3)
        assert orders(roster, 3) == []
        for member in members:
            roster.exited(member, 3)
        assert (roster.is_over, roster.exit_code) == (True, CUT_OFF)

    def test_a_death_in_the_end_is_no_failure_of_setup(self) -> None:
        roster = Roster(1, WorkerOptions(start_tries=1))
        (member,) = started(roster, 0)
        roster.stop()
        roster.due(0)
        roster.exited(member, 1)
        assert (roster.is_over, roster.exit_code) == (True, 0)


@given(st.data())
def test_whatever_happens_its_promises_hold(data: st.DataObject) -> None:
    """In any order of events: two processes a slot, nobody told to stop who has no successor, and
    an end."""
    slots = data.draw(st.integers(1, 3))
    roster, now = Roster(slots, OPTIONS), 0.0
    alive: list[Member] = []

    def carry_out() -> None:
        for action, member in roster.due(now):
            if action is Action.START:
                alive.append(member)
            elif action is Action.STOP and not roster.is_stopping:
                others = [other for other in alive if other.number == member.number]
                others.remove(member)
                assert [other.phase for other in others] == [Phase.SERVING]
        assert set(roster.members()) == set(alive)
        for number in range(slots):
            assert sum(member.number == number for member in alive) <= 2

    for _ in range(data.draw(st.integers(0, 40))):
        carry_out()
        event = data.draw(st.sampled_from(["ready", "exit", "kill", "reload", "time", "deadline"]))
        if event == "time":
            now += data.draw(st.sampled_from([0.1, 1, 20]))
        elif event == "deadline" and roster.next_deadline() < inf:
            now = max(now, roster.next_deadline())
        elif event == "reload" and not roster.is_stopping:
            roster.reload(now)
        elif event in ("ready", "exit", "kill") and alive:
            member = data.draw(st.sampled_from(alive))
            if event == "kill":
                member.kill(now, "it lies")
            elif event == "exit":
                roster.exited(member, now)
                alive.remove(member)
            elif member.phase is not Phase.SERVING:
                roster.ready(member, now)
    carry_out()
    roster.stop()
    carry_out()
    for _ in range(3):
        now = min(roster.next_deadline(), now + 1e6)
        carry_out()
    assert all(member.phase is Phase.KILLED for member in alive)
    for member in alive:
        assert not roster.is_over
        roster.exited(member, now)
    assert roster.is_over
    assert roster.due(now) == []
