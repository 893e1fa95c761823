"""The prototxt reader against protobuf's own text_format, on real, generated and damaged texts; its errors."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.proto import prototxt, scanner, schema


def real_files() -> list:
    return sorted(paths.resource("prototxt").glob("*/*/*.prototxt"))


def kind_of(path):
    return schema.SolverParameter if path.name.endswith("solver.prototxt") else schema.NetParameter


def by_protobuf(text: str, cls):
    """What text_format makes of `text`; None where it refuses."""
    msg = cls()
    try:
        return text_format.Parse(text, msg)
    except (text_format.ParseError, UnicodeDecodeError, DeprecationWarning):  # the last for an escape that is none
        return None


def by_us(text: str, cls):
    try:
        return prototxt.parse(text, cls)
    except RootgenError as error:
        assert re.match(r"<text>:\d+:\d+: .", str(error))
        assert "\n" not in str(error)
        return None


def test_real_nets_read_as_protobuf_reads_them():
    assert len(real_files()) > 10
    for path in real_files():
        assert prototxt.read(path, kind_of(path)) == by_protobuf(path.read_text(), kind_of(path))


@pytest.mark.parametrize(
    "text",
    ["name: 'a' # it's \"x\"\n 'b'", 'name: "a" # say "b"\nlayer {}', 'name: "a" # say "b"', "name: 'a#b' '#'"],
)
def test_comments_between_and_behind_strings(text):
    assert prototxt.parse(text, schema.NetParameter) == by_protobuf(text, schema.NetParameter) is not None


def test_the_caffe_trees_nets_read_as_protobuf_reads_them(caffe_tree):
    files = [path for folder in ("models", "examples") for path in (caffe_tree / folder).rglob("*.prototxt")]
    if not files:
        pytest.skip("this Caffe tree has no nets")
    for path in files:
        cls = schema.SolverParameter if "solver" in path.name else schema.NetParameter
        assert prototxt.read(path, cls) == by_protobuf(path.read_text(), cls), path


NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
}


@cache
def scalars(field):
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    return NUMBERS[field.cpp_type]


@st.composite
def messages(draw, cls, depth: int = 3):
    """A message with a few random fields set to random values."""
    msg = cls()
    fields = tuple(cls.DESCRIPTOR.fields)
    chosen = draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda field: field.name))
    for field in [*chosen, *(field for field in fields if field.is_required and field not in chosen)]:
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            value = draw(st.lists(scalars(field), max_size=3) if field.is_repeated else scalars(field))
            if field.is_repeated:
                getattr(msg, field.name).extend(value)
            else:
                setattr(msg, field.name, value)
        elif depth:
            inner = schema.message(field.message_type.name)
            for part in draw(st.lists(messages(inner, depth - 1), min_size=1, max_size=2 if field.is_repeated else 1)):
                if field.is_repeated:
                    getattr(msg, field.name).add().CopyFrom(part)
                else:
                    getattr(msg, field.name).CopyFrom(part)
    return msg


STYLES = st.fixed_dictionaries(
    {name: st.booleans() for name in ("as_utf8", "as_one_line", "use_short_repeated_primitives", "pointy_brackets")}
)


@settings(max_examples=150)
@given(messages(schema.NetParameter) | messages(schema.SolverParameter), STYLES)
def test_generated_messages_read_back(msg, style):
    text = text_format.MessageToString(msg, **style)
    cls = type(msg)
    assert prototxt.parse(text, cls) == by_protobuf(text, cls) == msg
    assert prototxt.parse(prototxt.format(msg), cls) == msg


DAMAGE = "{}<>[]:;,#\"'\\ \n\t0123456789.-eExXfabntrue_$@é"  # no NUL and no +: protobuf's Python parser takes those


def damaged(rng: random.Random, text: str) -> str:
    """A few layers of a net with up to three characters added, dropped or replaced."""
    parts = re.split(r"(?m)^(?=layer *\{)", text)
    start = rng.randrange(len(parts))
    text = "".join(parts[start : start + rng.randint(1, 3)])
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(text) + 1)
        new = rng.choice([*DAMAGE, ""])
        text = text[:at] + new + text[at + rng.randint(0, 1) :]
    return text


def test_damaged_texts_are_refused_where_protobuf_refuses_them():
    texts = [path.read_text() for path in real_files() if kind_of(path) is schema.NetParameter]
    rng = random.Random(1)
    accepted = 0
    for _ in range(2500):
        text = damaged(rng, rng.choice(texts))
        ours = by_us(text, schema.NetParameter)
        assert ours == by_protobuf(text, schema.NetParameter), text
        accepted += ours is not None
    assert 250 < accepted < 2250  # both outcomes were met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "layer {\n  nane: 'x'\n}",
            r"n.prototxt:2:3: LayerParameter has no field 'nane' in Caffe 1.0 "
            r"\(did you mean 'name'\? --lenient passes over it\)",
        ),
        ("name: 'a' name: 'b'", "n.prototxt:1:11: 'name' is given twice, but NetParameter takes it once"),
        ("layer {\n name: 'x'", "n.prototxt:1:1: 'layer' has no closing '}' .the text is cut short"),
        ("name: 'x", "1:7: a string that does not end on its line"),
        ("name: 'x\n'", "1:7: a string that does not end on its line"),
        ("name: x", "'name' takes a string in quotes, found x"),
        ("name: 3", "'name' takes a string in quotes, found 3"),
        ("name { }", "'name' takes a single value, found a message"),
        ("layer: 3", "1:1: 'layer' takes a message in { }, found '3'"),
        ("layer { } }", "1:11: expected a field name, found '}'"),
        ("name", "expected ':' or '{' after 'name', found 'the end of the text'"),
        ("name:", "expected a value for 'name', found 'the end of the text'"),
        ("name: 'a' ;;", "1:12: expected a field name, found ';'"),
        (", name: 'a'", "1:1: expected a field name, found ','"),
        ("input_dim: [1, 2", "expected ',' or ']' in the list of 'input_dim', found 'the end of the text'"),
        ("input_dim: [1 2]", "expected ',' or ']' in the list of 'input_dim', found '2'"),
        ("input_dim: [1,]", "expected a value for 'input_dim', found ']'"),
        ("input_dim: 1.5", "'input_dim' takes an integer, found 1.5"),
        ("input_dim: 2147483648", "'input_dim' is 2147483648, outside -2147483648 to 2147483647"),
        ("input_dim: " + "9" * 6000, "'input_dim' .*999"),
        ("9" * 6000, "expected a field name, found '9+\\.\\.\\.'"),
        ("x" * 6000 + ": 1", r"NetParameter has no field 'x+\.\.\.'"),
        ("input_dim: 1a", "1:12: '1' has no meaning here|takes an integer"),
        ("force_backward: yes", "'force_backward' takes true or false, found yes"),
        (
            "layer { phase: TRIAN }",
            r"'phase' has no value TRIAN in Caffe 1.0 \(did you mean 'TRAIN'\? --lenient passes over it\)",
        ),
        ("layer { loss_weight: 'x' }", "'loss_weight' takes a number, found 'x'"),
        ("layer { loss_weight: 0x10 }", "'loss_weight' takes a number, found 0x10"),
        ("name: '\\X41'", "'name' has a broken escape in its string"),
        ("name: 'a\\p'", "'name' has a broken escape in its string"),
        ("name: '\\'", "does not end on its line"),
        ("layer { clip_param { min: 1 } }", "'clip_param' lacks the required field max"),
        ("layer { name: 'x' > ", "1:19: expected a field name, found '>'"),
        ("[caffe.x]: 1", r"1:1: expected a field name, found '\['"),
        ("$", "1:1: '\\$' has no meaning here"),
    ],
)
def test_errors_say_line_column_and_what_to_do(text, message):
    with pytest.raises(RootgenError, match=message) as caught:
        prototxt.parse(text, schema.NetParameter, "n.prototxt")
    assert str(caught.value).startswith("n.prototxt:")
    assert len(str(caught.value)) < 300


def test_values_in_every_spelling():
    text = """
    # a comment; name: 'no'
    name: "a" 'b'  "\\143\\n" ; force_backward: True, input_dim: [1, 0x10, 010, -3]
    input_dim: 5 layer < name: 'x' phase: 1 loss_weight: 1.5f loss_weight: -inf loss_weight: .5 loss_weight: 1e2 >
    layer: { propagate_down: t propagate_down: 0 } ;
    """
    msg = prototxt.parse(text, schema.NetParameter)
    assert msg.name == "abc\n"
    assert list(msg.input_dim) == [1, 16, 8, -3, 5]
    assert msg.layer[0].phase == 1
    assert list(msg.layer[0].loss_weight) == [1.5, float("-inf"), 0.5, 100]
    assert list(msg.layer[1].propagate_down) == [True, False]
    assert msg == by_protobuf(text, schema.NetParameter)


def test_fields_know_their_place():
    text = "name: 'n' # c\nlayer {\n  name: 'x' convolution_param { group: 4 }\n}\n"
    name, layer = scanner.scan(text)
    assert text[name.start : name.end] == "name: 'n'"
    assert text[layer.start : layer.end] == text[text.index("layer") : text.rindex("}") + 1]
    (group,) = layer.inner("convolution_param")[0].inner("group")
    assert text[group.start : group.end] == "group: 4"
    assert text[group.value.start : group.value.end] == "4"


def test_deep_nesting_is_refused_and_not_followed():
    for depth in (scanner.MAX_DEPTH + 1, 10**5):
        with pytest.raises(RootgenError, match=f"messages nested more than {scanner.MAX_DEPTH} deep"):
            prototxt.parse("layer { " * depth + "}" * depth, schema.NetParameter)


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes(b"name: 'a'\nlayer { \xff }")
    with pytest.raises(RootgenError, match=r"n\.prototxt:2:9: byte 0xff, no UTF-8 text, outside strings .*caffemodel"):
        prototxt.read(path, schema.NetParameter)
    path.write_bytes("name: 'a'".encode("utf-16"))
    with pytest.raises(RootgenError, match=r"n\.prototxt: UTF-16 text, .* .save it as UTF-8"):
        prototxt.read(path, schema.NetParameter)
    with path.open("wb") as file:
        file.truncate(prototxt.MAX_BYTES + 1)
    with pytest.raises(RootgenError, match=r"16 MiB is too large for a prototxt .is it a \.caffemodel"):
        prototxt.read(path, schema.NetParameter)
    with pytest.raises(RootgenError, match="cannot read: Is a directory"):
        prototxt.read(tmp_path, schema.NetParameter)
    with pytest.raises(RootgenError, match="cannot read: No such file"):
        prototxt.read(tmp_path / "absent", schema.NetParameter)


def test_a_byte_order_mark_is_named(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes(b"\xef\xbb\xbfname: 'a'")
    with pytest.raises(RootgenError, match=r"n\.prototxt:1:1: begins with a byte order mark"):
        prototxt.read(path, schema.NetParameter)


def hostile(kind: str) -> str:
    """Fifteen MiB of one thing, within the syntax or nearly."""
    size = 15 * 2**20
    return {
        "blanks": " " * size + "layer{}",
        "comments": "#\n" * (size // 2),
        "minus": "input_dim: -" + " #\n" * (size // 3) + "1",
        "string": "name: '" + "x" * size + "'",
        "escapes": "name: '" + "\\a" * (size // 2) + "'",
        "strings": "name: " + "''" * (size // 2),
        "open": "name: '" + "\\a" * (size // 2),
        "digits": "input_dim: " + "9" * size,
        "list": "input_dim: [" + "1," * (size // 2) + "1]",
        "layers": "layer{}" * (size // 7),
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["blanks", "comments", "minus", "string", "escapes", "strings", "open", "digits", "list", "layers"]
)
def test_fifteen_mebibytes_need_little_memory(kind, tmp_path):
    (tmp_path / "n.prototxt").write_text(hostile(kind))
    script = (
        "import re, sys\nfrom rootgen.errors import RootgenError\nfrom rootgen.proto import prototxt, schema\n"
        "try:\n    prototxt.read(sys.argv[1], schema.NetParameter)\nexcept RootgenError:\n    pass\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"  # getrusage's begins with pytest's
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "n.prototxt")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 400 * 1024  # KiB


def test_what_would_fill_the_memory_is_refused():
    for text, what in (("input_dim: [" + "1," * scanner.MAX_FIELDS, "fields"), ("layer{}" * 260_000, "messages")):
        with pytest.raises(RootgenError, match=f"more than [0-9,]+ {what}.* .no net is as large"):
            scanner.scan(text)


def test_a_net_given_as_a_solver_says_so():
    with pytest.raises(RootgenError, match=r"n.prototxt: a net's prototxt, not a solver's .pass the solver's"):
        prototxt.parse("name: 'x' layer { }", schema.SolverParameter, "n.prototxt")


def test_strings_hold_any_bytes_and_escapes_of_every_kind():
    text = r"name: 'a\x62\143\u0064\U00000065\ud83d\ude00\xd5' 'z'"
    assert prototxt.parse(text, schema.NetParameter).name == "abcde\U0001f600\\xd5z"
    assert prototxt.parse("data: '\\325\udcff'", schema.Datum).data == b"\xd5\xff"


def test_lists_of_messages_and_where_they_stand():
    text = "layer: [ { name: 'a' }, < name: 'b' > ] layer [ { name: 'c' bottom: ['x', 'y'] } ], layer [] name: 'n'"
    msg = prototxt.parse(text, schema.NetParameter)
    assert [layer.name for layer in msg.layer] == ["a", "b", "c"]
    assert msg.name == "n"
    fields = scanner.scan(text)
    assert [text[field.start : field.end] for field in fields[:2]] == ["{ name: 'a' }", "< name: 'b' >"]
    assert [field.listed for field in fields] == [True, True, True, True, False]
