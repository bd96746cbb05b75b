"""The law of compiled shapes: what they give, the shape gives, too; the rest they leave to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.rpc import FixedLength, IntRange, PayloadError, PayloadLimits
from evsvc.rpc.compiled import MISS, fast_forms
from evsvc.rpc.schema import message_shape
from evsvc.rpc.shapes import Form


@dataclass
class Leaf:
    number: int
    text: str = ""


@dataclass
class Tree:
    small: Annotated[int, IntRange(-2, 2)]
    ratio: float
    yes: bool
    data: bytes
    key: Annotated[bytes, FixedLength(1)]
    nothing: None
    leaf: Leaf
    maybe: int | None = None
    names: list[str] = field(default_factory=list)
    row: tuple[int, ...] = ()
    flags: list[bool] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    more: tuple[Leaf, ...] | None = None
    table: dict[str, int] = field(default_factory=dict)
    shelf: dict[str, Leaf] = field(default_factory=dict)
    inner: Tree | None = None

    def __post_init__(self) -> None:
        if self.small == 2 and self.yes:
            raise ValueError("odd")


@dataclass
class Empty:
    pass


TREE = message_shape(Tree)
LIMITS = [PayloadLimits(), PayloadLimits(max_depth=3, max_items=2)]

values = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(
        [1 << 64, -(1 << 63) - 1, True, None, "", "a", "é", "\ud800", b"", b"x", b"xy"]
    ),
    st.floats(),
    st.lists(st.one_of(st.integers(-1, 1), st.sampled_from(["a", "é", True, None])), max_size=3),
)
plain_leaves = st.one_of(
    st.fixed_dictionaries({"number": values, "text": values}),
    st.fixed_dictionaries(
        {"number": st.integers(-3, 3), "text": st.sampled_from(["", "a", "é"])},
        optional={"other": values},
    ),
)
ordinary: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-2, 2),
    "ratio": st.floats(allow_nan=False),
    "yes": st.booleans(),
    "data": st.binary(max_size=2),
    "key": st.binary(min_size=1, max_size=1),
    "nothing": st.none(),
    "leaf": plain_leaves,
    "maybe": st.none() | st.integers(),
    "names": st.lists(st.sampled_from(["", "a", "é"]), max_size=3),
    "row": st.lists(st.integers(-1, 1), max_size=3),
    "flags": st.lists(st.booleans(), max_size=3),
    "leaves": st.lists(plain_leaves, max_size=3),
    "more": st.none() | st.lists(plain_leaves, max_size=2),
    "table": st.dictionaries(st.sampled_from(["a", "é", b"b", 1]), st.integers(-1, 1), max_size=3),
    "shelf": st.dictionaries(st.sampled_from(["a", "b", "c"]), plain_leaves, max_size=3),
}


def trees(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Plain data of a tree, now and then with a field of any other kind, or without one."""
    whole = st.fixed_dictionaries(ordinary | {"inner": inner})
    changed = st.builds(
        lambda tree, name, value: tree | {name: value},
        whole,
        st.sampled_from([*ordinary, "inner", "unknown"]),
        values,
    )
    cut = st.builds(
        lambda tree, name: {key: value for key, value in tree.items() if key != name},
        whole,
        st.sampled_from([*ordinary, "inner"]),
    )
    return st.one_of(whole, whole, changed, cut)


plain_trees = st.recursive(st.none(), trees, max_leaves=3).filter(lambda tree: tree is not None)


@pytest.mark.no_cover
@settings(max_examples=1500 if os.environ.get("CI") else 200, deadline=None)
@given(st.one_of(plain_trees, plain_trees, values), st.sampled_from(LIMITS))
def test_what_is_loaded_is_what_the_shape_loads(plain: object, limits: PayloadLimits) -> None:
    fast = fast_forms(TREE).load(plain, limits, 1)
    if fast is MISS:
        return
    assert repr(fast) == repr(TREE.load(plain, Form(limits)))  # repr, as there may be a NaN
    again = fast_forms(TREE).dump(fast, limits, 1)
    assert repr(again) == repr(TREE.dump(fast, Form(limits)))


@pytest.mark.no_cover
@settings(max_examples=500 if os.environ.get("CI") else 100, deadline=None)
@given(plain_trees, st.sampled_from(list(Tree.__dataclass_fields__)), values)
def test_what_is_dumped_is_what_the_shape_dumps(plain: object, name: str, value: object) -> None:
    try:
        tree = TREE.load(plain, Form(LIMITS[0], unknown={}))
    except PayloadError:
        return
    for limits in LIMITS:
        fast = fast_forms(TREE).dump(tree, limits, 1)
        if fast is not MISS:
            assert repr(fast) == repr(TREE.dump(tree, Form(limits)))
    setattr(tree, name, value)
    fast = fast_forms(TREE).dump(tree, LIMITS[0], 1)
    if fast is not MISS:
        assert repr(fast) == repr(TREE.dump(tree, Form(LIMITS[0])))


def test_ordinary_messages_take_the_fast_path() -> None:
    """Or the laws above would say nothing."""
    leaf = {"number": 1, "text": "a"}
    plain = {
        "small": 1,
        "ratio": 0.5,
        "yes": True,
        "data": b"x",
        "key": b"y",
        "nothing": None,
        "leaf": leaf,
        "maybe": 7,
        "names": ["a", "b"],
        "row": [1, 2],
        "flags": [True],
        "leaves": [leaf, leaf],
        "more": [leaf],
        "table": {"a": 1},
        "shelf": {"b": leaf},
        "inner": None,
    }
    plain["inner"] = dict(plain)
    tree = fast_forms(TREE).load(plain, LIMITS[0], 1)
    assert isinstance(tree, Tree)
    assert tree.inner is not None
    assert tree.inner.more == (Leaf(1, "a"),)
    assert fast_forms(TREE).dump(tree, LIMITS[0], 1) == plain
    assert fast_forms(TREE).load(plain, LIMITS[1], 1) is MISS  # too deep
    empty = message_shape(Empty)
    assert fast_forms(empty).load({}, LIMITS[0], 1) == Empty()
    assert fast_forms(empty).dump(Empty(), LIMITS[0], 1) == {}


def test_what_is_not_plain_is_left_to_the_shape() -> None:
    @dataclass
    class Dated:
        at: datetime

    shape = message_shape(Dated)
    assert fast_forms(shape).load({"at": None}, LIMITS[0], 1) is MISS
    leaf = message_shape(Leaf)
    blank = leaf.blank()
    assert fast_forms(leaf).dump(blank, LIMITS[0], 1) is MISS  # not set
    assert fast_forms(leaf).dump(None, LIMITS[0], 1) is MISS
