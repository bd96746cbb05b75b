"""Properties of the codec: every typed value survives, and no bytes raise anything unforeseen."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evsvc.rpc.codecs.msgpack import MsgpackCodec
from evsvc.rpc.errors import PayloadError
from evsvc.rpc.limits import PayloadLimits
from evsvc.rpc.schema import message_shape
from evsvc.rpc.shapes import INT_MAX, INT_MIN, Form


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Leaf:
    number: int
    ratio: float = 0.0
    flag: bool = False


@dataclass
class Tree:
    name: str
    data: bytes
    leaves: list[Leaf]
    row: tuple[int, ...]
    table: dict[str, float | None]
    color: Color | None = None
    mode: Literal["a", 1, None] = None
    nothing: None = None
    children: list[Tree] = field(default_factory=list)


SHAPE = message_shape(Tree)
CODEC = MsgpackCodec(PayloadLimits(max_depth=16, max_items=64, max_payload_bytes=16 * 1024))

integers = st.integers(INT_MIN, INT_MAX)
floats = st.floats(allow_nan=False)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
leaves = st.builds(Leaf, integers, floats, st.booleans())
trees = st.recursive(
    st.builds(
        Tree,
        texts,
        st.binary(max_size=8),
        st.lists(leaves, max_size=3),
        st.lists(integers, max_size=3).map(tuple),
        st.dictionaries(texts, st.none() | floats, max_size=3),
        st.none() | st.sampled_from(Color),
        st.sampled_from(["a", 1, None]),
    ),
    lambda inner: st.builds(
        Tree,
        texts,
        st.just(b""),
        st.just([]),
        st.just(()),
        st.just({}),
        children=st.lists(inner, max_size=3),
    ),
    max_leaves=4,
)
plain_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def decode_or_refuse(payload: bytes) -> Tree | None:
    """Return the message, or None when it was refused as the contract says; else raise."""
    try:
        return CODEC.decode(SHAPE, payload)
    except PayloadError:
        return None


@given(trees)
def test_every_value_survives_the_round_trip(tree: Tree) -> None:
    payload = CODEC.encode(SHAPE, tree)
    decoded = CODEC.decode(SHAPE, payload)
    assert decoded == tree
    assert CODEC.encode(SHAPE, decoded) == payload


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_the_codecs_error(payload: bytes) -> None:
    decode_or_refuse(payload)


@given(trees, st.data())
def test_mutated_payloads_raise_only_the_codecs_error(tree: Tree, data: st.DataObject) -> None:
    payload = bytearray(CODEC.encode(SHAPE, tree))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(payload)))
        end = min(len(payload), start + data.draw(st.integers(0, 4)))
        payload[start:end] = data.draw(st.binary(max_size=4))
    decoded = decode_or_refuse(bytes(payload))
    if decoded is not None:  # what was accepted is a proper message
        again = CODEC.decode(SHAPE, CODEC.encode(SHAPE, decoded))
        assert repr(again) == repr(decoded)  # repr, because a mutation may make a NaN


@given(trees, st.data())
def test_a_cut_payload_is_refused(tree: Tree, data: st.DataObject) -> None:
    payload = CODEC.encode(SHAPE, tree)
    cut = data.draw(st.integers(0, len(payload) - 1))
    assert decode_or_refuse(payload[:cut]) is None


@given(plain_values)
def test_well_formed_payloads_of_another_type_are_refused(plain: object) -> None:
    assert decode_or_refuse(msgpack.packb(plain)) is None


@given(trees, st.sampled_from(["name", "data", "leaves", "row", "table", "children"]), plain_values)
def test_a_replaced_field_is_accepted_only_with_its_type(
    tree: Tree, name: str, plain: object
) -> None:
    fields = SHAPE.dump(tree, Form(CODEC.limits))
    assume(type(plain) is not type(fields[name]))
    payload = msgpack.packb(fields | {name: plain})
    assume(len(payload) <= CODEC.limits.max_payload_bytes)
    with pytest.raises(PayloadError, match=rf"^Tree\.{name}: expected "):
        CODEC.decode(SHAPE, payload)


@given(trees, st.one_of(plain_values, st.builds(object), st.complex_numbers(), st.sets(integers)))
def test_an_ill_typed_value_raises_only_the_codecs_error(tree: Tree, value: object) -> None:
    tree.children = [Tree("x", b"", [], (), {}, children=value)]  # type: ignore[arg-type]
    if value == []:
        CODEC.encode(SHAPE, tree)
    else:
        with pytest.raises(PayloadError, match=r"^Tree\.children\[0\]\.children"):
            CODEC.encode(SHAPE, tree)
