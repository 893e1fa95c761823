"""Damaged nets through parse, shapes, cost, memory, diff and transform: an answer or a RootgenError, and soon."""

from __future__ import annotations

import contextlib
import random
import re
import signal
from collections import Counter

import pytest

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.grouping import Plan
from rootgen.net import cost, diff, memory, shapes
from rootgen.net import read as net
from rootgen.net.layers.registry import TYPES
from rootgen.proto import prototxt, schema
from rootgen.transform import transform

# A few layers of each kind that the committed nets do not have, so that damage finds their rules too.
OTHERS = """
name: 'others'
input: 'x' input_shape { dim: 4 dim: 8 dim: 12 dim: 12 }
layer { name: 'cont' type: 'Input' top: 'cont' input_param { shape { dim: 4 dim: 8 } } }
layer { name: 'label' type: 'DummyData' top: 'label' dummy_data_param { shape { dim: 4 } } }
layer { name: 'c1' type: 'Convolution' bottom: 'x' top: 'c1' convolution_param { num_output: 8 kernel_size: [3, 3] } }
layer { name: 'c2' type: 'Convolution' bottom: 'c1' top: 'c2'
        convolution_param { num_output: 8 kernel_h: 3 kernel_w: 1 } }
layer { name: 'up' type: 'Deconvolution' bottom: 'c2' top: 'up'
        convolution_param { num_output: 8 kernel_size: 4 stride: 2 } }
layer { name: 'crop' type: 'Crop' bottom: 'up' bottom: 'c2' top: 'crop' crop_param { axis: 2 offset: 1 offset: 1 } }
layer { name: 'col' type: 'Im2col' bottom: 'c2' top: 'col' convolution_param { kernel_size: 2 dilation: 2 } }
layer { name: 'spp' type: 'SPP' bottom: 'c2' top: 'spp' spp_param { pyramid_height: 3 } }
layer { name: 'lstm' type: 'LSTM' bottom: 'x' bottom: 'cont' top: 'lstm' recurrent_param { num_output: 6 } }
layer { name: 'slice' type: 'Slice' bottom: 'c2' top: 's1' top: 's2' slice_param { slice_point: 3 } }
layer { name: 'cat' type: 'Concat' bottom: 's1' bottom: 's2' top: 'cat' concat_param { axis: -3 } }
layer { name: 'bn' type: 'BatchNorm' bottom: 'cat' top: 'cat' param { lr_mult: 0 } }
layer { name: 'scale' type: 'Scale' bottom: 'cat' top: 'cat' scale_param { bias_term: true } }
layer { name: 'shape' type: 'Reshape' bottom: 'cat' top: 'shape' reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: 'flat' type: 'Flatten' bottom: 'cat' top: 'flat' }
layer { name: 'tile' type: 'Tile' bottom: 'flat' top: 'tile' tile_param { tiles: 2 } }
layer { name: 'arg' type: 'ArgMax' bottom: 'flat' top: 'arg' argmax_param { top_k: 3 } }
layer { name: 'red' type: 'Reduction' bottom: 'cat' top: 'red' reduction_param { axis: 2 } }
layer { name: 'emb' type: 'Embed' bottom: 'label' top: 'emb' embed_param { num_output: 3 input_dim: 9 } }
layer { name: 'prelu' type: 'PReLU' bottom: 'cat' top: 'prelu' param { name: 'shared' } }
layer { name: 'ip' type: 'InnerProduct' bottom: 'prelu' top: 'ip' inner_product_param { num_output: 5 } }
layer { name: 'acc' type: 'Accuracy' bottom: 'ip' bottom: 'label' top: 'acc' include { phase: TEST } }
layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' top: 'loss' }
layer { name: 'py' type: 'Python' bottom: 'ip' top: 'py' python_param { module: 'm' layer: 'l' } }
layer { name: 'quiet' type: 'Silence' bottom: 'py' bottom: 'lstm' bottom: 'crop' }
"""
V1 = """
name: 'old'
layers { name: 'd' type: DATA top: 'data' top: 'label' data_param { source: 'x' batch_size: 2 crop_size: 27 } }
layers { name: 'c1' type: CONVOLUTION bottom: 'data' top: 'c1' blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         convolution_param { num_output: 8 kernel_size: 3 stride: 2 } }
layers { name: 'r1' type: RELU bottom: 'c1' top: 'c1' }
layers { name: 'c2' type: CONVOLUTION bottom: 'c1' top: 'c2'
         convolution_param { num_output: 8 kernel_size: 3 group: 2 } }
layers { name: 'p' type: POOLING bottom: 'c2' top: 'p' pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layers { name: 'f' type: INNER_PRODUCT bottom: 'p' top: 'f' inner_product_param { num_output: 4 } }
layers { name: 'l' type: SOFTMAX_LOSS bottom: 'f' bottom: 'label' }
"""
V0 = """
name: 'oldest' input: 'x' input_dim: 2 input_dim: 3 input_dim: 27 input_dim: 27
layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'p' }
layers { layer { name: 'c1' type: 'conv' num_output: 8 kernelsize: 3 stride: 2 biasterm: false } bottom: 'p' top: 'c1' }
layers { layer { name: 'r' type: 'relu' } bottom: 'c1' top: 'c1' }
layers { layer { name: 'c2' type: 'conv' num_output: 8 kernelsize: 3 blobs_lr: 1 } bottom: 'c1' top: 'c2' }
layers { layer { name: 'q' type: 'pool' kernelsize: 3 stride: 2 pool: AVE } bottom: 'c2' top: 'q' }
layers { layer { name: 'f' type: 'innerproduct' num_output: 4 } bottom: 'q' top: 'f' }
"""
NUMBERS = (
    *("0", "1", "2", "3", "7", "16", "-1", "-2", "-5", "65536", "2147483647", "2147483648", "4294967295", "4294967296"),
    *("-2147483648", "0x7fffffff", "010", "1e9", "1e400", "nan", "-inf", "9" * 32, "9" * 6000, "0.5", "true"),
)
FOREIGN = (
    *("\udcd5\udce2", "\ufeff", "\u00a0", "\u2003", "\u0661", "\u00b2", "\ud800", "\U0001f600"),
    *("\x1b[2J", "\x85", "\0"),
)
ENUMS = (
    *("MAX", "CAFFE", "0x1", "01", "-1", "99", "0x7fffffffffffffff", "9" * 99, "'MAX'", "TRUE", "LSTM", "PRE_FIXED"),
)
NAMES = (
    *("", "x" * 5000, "../../x", "/etc/passwd", r"a\0b", r"a\nb", r"\x1b[2J", r"\377", "\udcff", "a' 'b", "{}", "%s"),
)
CHARACTERS = "{}<>[]:;,#\"'\\ \n\t0123456789.-+eExXfabntrue_$@\0é\r"


def seeds() -> list[str]:
    gallery = paths.resource("prototxt")
    files = [gallery / "nin/root-4/train_val.prototxt", gallery / "alexnet/orig/train_val.prototxt"]
    return [OTHERS, OTHERS, V0, V1, *(path.read_text() for path in files)]


def swap_number(rng: random.Random, text: str) -> str:
    found = list(re.finditer(r"(?<=[\s:])-?\d[\w.]*", text))
    at = rng.choice(found)
    return text[: at.start()] + rng.choice(NUMBERS) + text[at.end() :]


def swap_word(rng: random.Random, text: str) -> str:
    """Give one quoted word the value of another: wires cross, names double, types change."""
    found = list(re.finditer(r"""(["'])[^"'\n]*\1""", text))
    at = rng.choice(found)
    new = rng.choice([rng.choice(found).group(), f"'{rng.choice(list(TYPES))}'"])
    return text[: at.start()] + new + text[at.end() :]


def swap_layers(rng: random.Random, text: str) -> str:
    """Drop, double or move a layer."""
    parts = re.split(r"(?m)^(?=layers? *\{)", text)
    at = rng.randrange(len(parts))
    part = parts.pop(at)
    for _ in range(rng.randint(0, 2)):
        parts.insert(rng.randrange(len(parts) + 1), part)
    return "".join(parts)


def swap_field(rng: random.Random, text: str) -> str:
    """Drop a line or a field, or repeat it somewhere."""
    found = list(re.finditer(r"""\w+ *:? *(\{[^{}]*\}|["']?[\w.-]+["']?)""", text))
    at, to = rng.choice(found), rng.choice(found).end()
    if rng.random() < 0.5:
        return text[: at.start()] + text[at.end() :]
    return f"{text[:to]} {at.group()} {text[to:]}"


def swap_character(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(["", *CHARACTERS]) + text[at + rng.randint(0, 1) :]


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def nest(rng: random.Random, text: str) -> str:
    at = rng.choice([match.end() for match in re.finditer(r"\{", text)])
    depth = rng.choice([3, 99, 5000])
    return text[:at] + "layer {" * depth + "}" * depth + text[at:]


def swap_encoding(rng: random.Random, text: str) -> str:
    """Bytes of other encodings, byte order marks, blanks and digits that only look like ASCII's, control characters."""
    at = rng.randrange(len(text))
    new = rng.choice(FOREIGN)
    return text[:at] + new * rng.choice([1, 1, 9]) + text[at:]


def swap_enum(rng: random.Random, text: str) -> str:
    """Enum values and bools by name, by number in every base, and of other enums."""
    found = list(re.finditer(r"(?<=: )(?:[A-Z][A-Z_0-9]*|true|false)\b", text))
    at = rng.choice(found)
    new = rng.choice(ENUMS)
    return text[: at.start()] + new + text[at.end() :]


def swap_name(rng: random.Random, text: str) -> str:
    """Names that are empty, long, paths, or hold what terminals and files mind."""
    found = list(re.finditer(r"""(["'])[^"'\n]*\1""", text))
    at = rng.choice(found)
    new = rng.choice(NAMES)
    return f"{text[: at.start()]}'{new}'{text[at.end() :]}"


def swap_form(rng: random.Random, text: str) -> str:
    """Layers as lists, in angle brackets, of V0, of V1; a minus apart from its number."""
    kind = rng.randrange(4)
    if kind == 0:
        return re.sub(r"(?m)^layer(s?) *\{(.*)\}$", r"layer\1: [{\2}]", text)
    if kind == 1:
        return re.sub(r"(?m)^layer(s?) *\{(.*)\}$", r"layer\1 <\2>", text)
    if kind == 2:
        return text.replace("layers { name", "layers { layer { type: 'conv' } name", rng.choice([1, -1]))
    return text.replace(": ", ": - ", rng.choice([1, 2]))


DAMAGES = [swap_number] * 6 + [swap_word] * 4 + [swap_layers] * 2 + [swap_field] * 3 + [swap_character, cut, nest]
DAMAGES += [swap_encoding, swap_enum, swap_name] * 2 + [swap_form]


def damaged(rng: random.Random, text: str) -> str:
    for _ in range(rng.choice([1, 1, 2, 3])):
        with contextlib.suppress(IndexError, ValueError):  # nothing left of the kind to damage
            text = rng.choice(DAMAGES)(rng, text)
    return text


class HangError(Exception):
    """A case that took far longer than any net needs."""


@contextlib.contextmanager
def soon(seconds: int = 30):
    """Raise HangError where the block does not end."""

    def ring(*_):
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(outcomes: Counter[str], name: str, function, *args, **options):
    """The function's answer; None where it refuses, in one line of bearable length."""
    with soon():
        try:
            answer = function(*args, **options)
        except RootgenError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1500, str(error)
            outcomes[f"{name} refused"] += 1
            return None
    outcomes[name] += 1
    return answer


def through_everything(rng: random.Random, outcomes: Counter[str], graph: net.Net, other: net.Net) -> None:
    """Shapes, both counts, memory, stages and a comparison of a net that was read."""
    size = rng.choice([None, None, (3, 32, 32), (1, 1, 1)])
    partial = rng.random() < 0.8
    found = attempt(outcomes, "shapes", shapes.infer, graph, input_shape=size, partial=partial)
    if found is None:
        return
    for convention in cost.CONVENTIONS:
        total = cost.count(found, convention)
        assert total.macs >= 0
        assert total.params >= 0
        assert sum(stage.params for stage in cost.stages(total)) <= total.params
    held = memory.activations(found, total.batch)
    assert 0 <= held.forward <= held.forward_backward
    there = shapes.infer(other, input_shape=(3, 40, 40), partial=True)
    assert len(diff.compare(found, there).layers) >= len(graph.layers)


def through_transform(rng: random.Random, outcomes: Counter[str], text: str) -> None:
    """A plan on a text; where it is taken, the new text reads as planned, and again gives the same."""
    plan = Plan(rng.choice(["root", "column", "tree"]), rng.choice([1, 2, 3, 4, 64]))
    options = transform.TransformOptions(rng.choice(transform.STAGE_BY), insert_1x1=rng.random() < 0.3)
    found = attempt(outcomes, "transform", transform.transform, text, plan, "x", options)
    if found is not None:
        changed = any(change.before != change.after for change in found.changes)
        assert (found.text != text) == changed or options.insert_1x1
        with contextlib.suppress(RootgenError):  # what was put in may make another stage, whose groups do not fit
            again = transform.transform(found.text, plan, "x", options)
            assert options.insert_1x1 or again.text == found.text


def fuzz(seed: int, cases: int) -> Counter[str]:
    rng = random.Random(seed)
    texts, outcomes = seeds(), Counter()
    other = net.parse(V1, "TRAIN")
    for _ in range(cases):
        text = damaged(rng, rng.choice(texts))
        try:
            graph = attempt(outcomes, "net", net.parse, text, rng.choice(net.PHASES), allow_unknown=rng.random() < 0.5)
            if graph is not None:
                through_everything(rng, outcomes, graph, other)
                through_transform(rng, outcomes, text)
        except Exception:
            print(text)  # pytest shows it with the failure
            raise
    return outcomes


def test_the_nets_are_whole_before_the_damage():
    for text in seeds():
        shapes.infer(net.parse(text, "TRAIN"), partial=True)
        transform.transform(text, Plan("root", 2))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_nets(seed):
    outcomes = fuzz(seed, 600)
    for name in ("net", "net refused", "shapes", "shapes refused", "transform", "transform refused"):
        assert outcomes[name] > 20, outcomes  # the damage is neither too little nor too much


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_damaged_nets_at_length(seed):
    fuzz(seed, 2000)


def test_damaged_caffemodels(tmp_path):
    """Random bytes changed, cut off or put in; blobs make the shapes stored in the file count."""
    param = prototxt.parse(OTHERS, schema.NetParameter)
    for layer in param.layer:
        layer.blobs.add(shape={"dim": [2, 3]}, data=[0.0] * 6)
        layer.blobs.add(num=1, channels=1, height=2, width=1, data=[0.0] * 2)
    whole, rng, outcomes = param.SerializeToString(), random.Random(5), Counter()
    path = tmp_path / "x.caffemodel"
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 255, rng.randrange(256)])
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        graph = attempt(outcomes, "net", net.read, path, allow_unknown=True)
        if graph is not None:
            through_everything(rng, outcomes, graph, graph if len(graph.layers) == 1 else net.parse(V1, "TRAIN"))
    assert outcomes["net"] > 100 < outcomes["net refused"], outcomes


def test_bytes_of_any_encoding(tmp_path):
    rng = random.Random(6)
    path = tmp_path / "x.prototxt"
    for _ in range(300):
        content = bytearray(OTHERS.encode())
        at = rng.randrange(len(content))
        content[at : at + 1] = rng.randbytes(2)
        path.write_bytes(content)
        attempt(Counter(), "net", net.read, path)


@pytest.mark.parametrize("suffix", [".prototxt", ".caffemodel", ""])
@pytest.mark.parametrize(
    "unit", [b"\0", b"layer { name: 'x' type: 'ReLU' bottom: 'a' top: 'a' }\n", b"{", b"\x0a\x01a"]
)
def test_a_file_of_a_hundred_megabytes(unit, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(unit * (100 * 2**20 // len(unit)))
    with pytest.raises(RootgenError), soon(120):
        net.read(path)


def test_a_text_of_fifteen_megabytes(tmp_path):
    """As large as a prototxt may be, and one long chain: no step may take quadratic time."""
    layers = "".join(f"layer {{ name: 'l{i}' type: 'ReLU' bottom: 'b{i}' top: 'b{i + 1}' }}\n" for i in range(3000))
    text = f"input: 'b0' input_shape {{ dim: 1 dim: 2 }} # {'x' * 15 * 2**20}\n{layers}"
    path = tmp_path / "x.prototxt"
    path.write_text(text)
    with soon(120):
        graph = net.read(path)
        found = shapes.infer(graph)
        assert cost.count(found).macs == 0
        assert memory.activations(found, 1).forward == 3001 * 8
        with pytest.raises(RootgenError, match="no spatial convolution"):
            transform.transform(text, Plan("root", 2))


def test_a_cycle_of_many_layers_is_named_soon():
    layers = "".join(
        f"layer {{ name: 'l{i}' type: 'Eltwise' bottom: 'b{i}' bottom: 'b{i + 1}' top: 'b{i + 2}' }}\n"
        for i in range(2000)
    )
    with soon(), pytest.raises(RootgenError, match="layer 'l0': bottom 'b0' is the top of no layer"):
        net.parse(layers)
    back = layers.replace("top: 'b2001' ", "top: 'b0' ")
    with soon(), pytest.raises(RootgenError, match=r"layer 'l0': bottom 'b0' comes from layer 'l1999', .*: a cycle"):
        net.parse(back)
