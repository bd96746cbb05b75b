"""libevent's interface language: what it means, and where a file that is none says so."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evsvc.cli import main
from evsvc.rpc import EvtagCodec, JsonCodec, MsgpackCodec, PayloadError, idl
from evsvc.rpc.schema import message_shape

SAMPLE = Path(__file__).with_name("sample.rpc")


def message(classes: dict[str, Any]) -> Any:
    return classes["msg"](
        from_name="niels",
        to_name="phoenix",
        attack=classes["kill"](weapon="feather", action="tickle", how_often=[0, 1000]),
        run=[
            classes["run"](how="fast", fixed_bytes=b"x" * 24, large_number=1 << 63),
            classes["run"](how="slow", fixed_bytes=b"y" * 24, notes=["a", ""], from_="here"),
        ],
    )


@pytest.mark.parametrize(
    "codec", [EvtagCodec(), MsgpackCodec(), JsonCodec()], ids=lambda codec: type(codec).__name__
)
def test_a_file_gives_messages_at_run_time(codec: Any) -> None:
    classes = idl.load(SAMPLE)
    assert list(classes) == ["msg", "kill", "run"]
    shape = message_shape(classes["msg"])
    sent = message(classes)
    codec.check(shape)
    assert codec.decode(shape, codec.encode(shape, sent)) == sent


def test_what_c_must_set_is_required_and_the_rest_has_a_default() -> None:
    classes = idl.load(SAMPLE)
    run = classes["run"](how="a", fixed_bytes=b"1" * 24)
    assert (run.some_bytes, run.notes, run.large_number) == (None, [], None)
    with pytest.raises(TypeError, match="fixed_bytes"):
        classes["run"](how="a")
    shape = message_shape(classes["run"])
    for name, bad in (("fixed_bytes", b"1" * 23), ("other_numbers", [1 << 32]), ("how", 1)):
        setattr(run, name, bad)
        with pytest.raises(PayloadError, match=rf"^run\.{name}"):
            EvtagCodec().encode(shape, run)
        run = classes["run"](how="a", fixed_bytes=b"1" * 24)


def generated(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_messages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_command_writes_a_module_with_the_same_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "messages.py"
    assert main(["rpc", "gen", str(SAMPLE), "-o", str(target)]) == 0
    assert main(["rpc", "gen", str(SAMPLE)]) == 0
    assert capsys.readouterr().out == target.read_text("utf-8")
    module = generated(target)
    loaded = idl.load(SAMPLE)
    ours = message(vars(module))
    codec = EvtagCodec()
    payload = codec.encode(message_shape(module.msg), ours)
    assert payload == codec.encode(message_shape(loaded["msg"]), message(loaded))
    assert codec.decode(message_shape(module.msg), payload) == ours


def test_a_generated_module_hides_nothing_of_its_own(tmp_path: Path) -> None:
    text = "struct list {\n array int field = 1;\n array string class = 2;\n int int = 3;\n}\n"
    target = tmp_path / "odd.py"
    target.write_text(idl.python_source(idl.parse(text), "odd.rpc"))
    module = generated(target)
    made = module.list_(int_=1, field_=[2], class_=["a"])
    shape = message_shape(module.list_)
    assert EvtagCodec().decode(shape, EvtagCodec().encode(shape, made)) == made


def test_lines_for_the_compiler_and_comments_are_passed_over() -> None:
    text = (
        "#if 1\n#include <a.h> // b\n#define LONG 0x10\n#endif\n"
        "struct /* here\ntoo */ one { bytes data[LONG] = 0x2; // end\n"
        "  optional /* x */ int/* y */n=1;}\n"
    )
    document = idl.parse(text)
    assert [line for _, line in document.directives] == [
        "#if 1",
        "#include <a.h>",
        "#define LONG 0x10",
        "#endif",
    ]
    first, second = document.structs["one"].entries
    assert (first.type, first.size, first.tag) == ("bytes", 16, 2)
    assert (second.label, second.type, second.name, second.line) == ("optional", "int", "n", 7)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("int a = 1;", "line 1: 'int' stands outside of a struct"),
        ("\nstruct {", "line 2: expected a struct's name, got '{'"),
        ("struct a\n int b = 1;", "line 2: expected '{', got 'int'"),
        ("struct a {\n int b = 1;\n", "line 2: the file ends before the end of struct 'a'"),
        ("struct a {\n long b = 1;\n}", "line 2: unknown type 'long'"),
        ("struct a {\n optional array int b = 1;\n}", "line 2: an entry is optional or an array"),
        ("struct a {\n array optional int b = 1;\n}", "line 2: an entry is optional or an array"),
        ("struct a {\n array bytes b = 1;\n}", "line 2: there is no array of bytes"),
        ("struct a {\n int b;\n}", "line 2: expected '=' and a tag behind 'b', got ';'"),
        ("struct a {\n int b = ;\n}", "line 2: expected a tag, got ';'"),
        ("struct a {\n int b = 1\n}", "line 3: expected ';', got '}'"),
        ("struct a {\n int b = 1 2;\n}", "line 2: expected ';', got '2'"),
        ("struct a {\n int b = 4294967296;\n}", "line 2: a tag has at most 32 bits"),
        ("struct a {\n int b = 1;\n int c = 1;\n}", "line 3: the tag 1 is that of 'b' already"),
        ("struct a {\n int b = 1;\n int b = 2;\n}", "line 3: there is an entry 'b' already"),
        ("struct a {\n}\nstruct a {\n}", "line 3: struct 'a' is defined in line 1 already"),
        ("struct a {\n struct[b] c = 1;\n}", "line 2: there is no struct 'b'"),
        ("struct a {\n struct b = 1;\n}", "line 2: expected '[', got 'b'"),
        ("struct a {\n int b[3] = 1;\n}", "line 2: only bytes have a length, not int"),
        ("struct a {\n bytes b[N] = 1;\n}", "line 2: there is no #define 'N' with a number"),
        ("struct a {\n bytes b[=] = 1;\n}", "line 2: expected a length, got '='"),
        ("#define N -1\nstruct a {\n bytes b[N] = 1;\n}", "line 3: a length is not negative: -1"),
        ("struct a {\n#endif\n}", "line 2: '#endif' stands inside a struct"),
        ("struct a {\n /* b\n", "line 2: a comment without end"),
        ("struct a {\n int b = -1;\n}", "line 2: unexpected '-'"),
        ("struct a {\n int 1b = 1;\n}", "line 2: unexpected '1'"),
        ("struct a {\n} trailing", "line 2: 'trailing' stands outside of a struct"),
    ],
)
def test_a_file_that_is_none_says_in_which_line(text: str, error: str) -> None:
    with pytest.raises(idl.IdlError) as caught:
        idl.parse(text)
    assert str(caught.value).startswith(error)


def test_the_command_names_the_file_and_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.rpc"
    bad.write_text("struct a {\n long b = 1;\n}\n")
    assert main(["rpc", "gen", str(bad)]) == 1
    assert capsys.readouterr().err == f"evsvc: {bad}: line 2: unknown type 'long'\n"
