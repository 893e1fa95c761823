"""The same texts taken and refused as by Caffe: caffe_takes.jsonl, one case a line, bytes as Latin-1.

Each line says what pycaffe made of it (`caffe`); where we refuse what Caffe takes all the same, `ours` says why.
"""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rootgen.errors import RootgenError
from rootgen.net import read, shapes

CASES = [json.loads(line) for line in Path(__file__).with_name("caffe_takes.jsonl").read_text().splitlines()]


def taken(path: Path, text: str, phase: str) -> bool:
    """Whether the net is read, and its shapes follow."""
    path.write_bytes(text.encode("latin-1"))
    try:
        shapes.infer(read.read(path, phase))
    except RootgenError:
        return False
    return True


def by_caffe(cases: list[tuple[str, str]]) -> list[bool]:
    """pycaffe's verdicts on (text, phase)."""
    judge = [sys.executable, str(Path(__file__).with_name("caffe_judge.py"))]
    done = subprocess.run(judge, input=json.dumps(cases), capture_output=True, text=True, check=True)
    verdicts: list[bool] = json.loads(done.stdout)
    return verdicts


def test_the_cases_are_of_both_kinds():
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names) > 450
    assert 150 < sum(case["caffe"] for case in CASES) < 350


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace("\n", "\\n"))
def test_taken_as_by_caffe(case, tmp_path, caplog):
    caplog.set_level(logging.ERROR, "rootgen")
    found = taken(tmp_path / "net.prototxt", case["text"], case["phase"])
    assert found == (case["caffe"] != ("ours" in case)), case["text"]


@pytest.mark.caffe
def test_caffe_still_says_so():
    verdicts = by_caffe([(case["text"], case["phase"]) for case in CASES])
    other = [case["name"] for case, verdict in zip(CASES, verdicts, strict=True) if verdict != case["caffe"]]
    assert not other


BASE = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "e" type: "Eltwise" bottom: "x" bottom: "y" top: "e"
        eltwise_param { operation: SUM coeff: -.5 coeff: 1 } }
layer { name: "l" type: "Power" bottom: "e" top: "l" power_param { power: 2 scale: .5 } loss_weight: 1 }
"""
V0 = """name: 'v' input: 'x' input_dim: 2 input_dim: 3 input_dim: 27 input_dim: 27
layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'p' }
layers { layer { name: 'c' type: 'conv' num_output: 8 kernelsize: 3 stride: 2 biasterm: true } bottom: 'p' top: 'c' }
layers { layer { name: 'r' type: 'relu' } bottom: 'c' top: 'c' }
layers { layer { name: 'q' type: 'pool' kernelsize: 3 stride: 2 pool: AVE } bottom: 'c' top: 'q' }
layers { layer { name: 'f' type: 'innerproduct' num_output: 4 } bottom: 'q' top: 'f' }
"""
DAMAGE = "{}<>[]:;,#\"'\\ \n\t0123456789.-+eExXfabntrue_$@\0\r\x0b\x1c\x7f\x80\xa0\xd5\xe2"


SPELLINGS = (
    "1",
    "2",
    "- 1",
    "-1",
    "0x2",
    "02",
    "+1",
    "1.",
    ".5",
    "1e0",
    "1f",
    "-\n1",
    "[1]",
    "1,",
    "1;",
    "08",
    "inf",
    "'1'",
)
BLANKS = (" ", "\n", "\t", "\r", "\x0b", " # \xd5\xe2\n", " # \0\n", "\xa0", "\xc2\xa0", ",", ";", ":", "\x1c")


def damaged(rng: random.Random) -> str:
    """A net with one or two numbers spelt otherwise, blanks of other kinds, or characters of any encoding put in."""
    text = rng.choice([BASE, BASE, V0])
    for _ in range(rng.randint(1, 2)):
        pattern, words = rng.choice(((r"(?<=[ :])[\d.-]+", SPELLINGS), (r" ", BLANKS), (r"", DAMAGE)))
        place = rng.choice(list(re.finditer(pattern, text)))
        text = text[: place.start()] + rng.choice(words) + text[place.end() :]
    return text


@pytest.mark.caffe
def test_damaged_texts_are_taken_as_by_caffe(tmp_path, caplog):
    caplog.set_level(logging.ERROR, "rootgen")
    rng = random.Random(12)
    cases = [(damaged(rng), rng.choice(["TRAIN", "TEST"])) for _ in range(400)]
    verdicts = by_caffe(cases)
    assert 60 < sum(verdicts) < 340
    for (text, phase), verdict in zip(cases, verdicts, strict=True):
        if not re.search(r"dim: 0+\b", text):  # blobs without values, which Caffe takes
            assert taken(tmp_path / "net.prototxt", text, phase) == verdict, text
