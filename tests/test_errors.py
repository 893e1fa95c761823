"""Guesses of what was meant: real slips get the name, and what is another thing altogether gets none."""

from __future__ import annotations

import pytest

from rootgen.cli import COMMANDS
from rootgen.datasets import NAMES
from rootgen.errors import RootgenError, UnknownNameError, did_you_mean, nearest
from rootgen.generator.architectures import architectures
from rootgen.net.layers.registry import TYPES
from rootgen.proto import schema

ARCHS = list(architectures())
TYPES_KNOWN = list(TYPES)
CONVOLUTIONS = ["conv1a", "conv1b", "conv2a", "conv2b", "conv2c", "conv3c"]


def fields(message: str) -> list[str]:
    return [field.name for field in getattr(schema, message).DESCRIPTOR.fields]


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("resent50", ARCHS, "resnet50"),
        ("resnet-50", ARCHS, "resnet50"),
        ("ResNet50", ARCHS, "resnet50"),
        ("resnet51", ARCHS, "resnet50"),
        ("resnet5", ARCHS, "resnet50"),
        ("nim", ARCHS, "nin"),
        ("googelnet", ARCHS, "googlenet"),
        ("alex-net", ARCHS, "alexnet"),
        ("conv2d", CONVOLUTIONS, "conv2c"),
        ("kernel_sise", fields("ConvolutionParameter"), "kernel_size"),
        ("numoutput", fields("ConvolutionParameter"), "num_output"),
        ("Convolutional", TYPES_KNOWN, "Convolution"),
        ("Convolutoin", TYPES_KNOWN, "Convolution"),
        ("relu", TYPES_KNOWN, "ReLU"),
        ("SDG", ["SGD", "Adam", "AdaGrad"], "SGD"),
        ("trian", COMMANDS, "train"),
        ("fashion-minst", NAMES, "fashion-mnist"),
        ("--roots", ["--root", "--tree", "--column"], "--root"),
    ],
)
def test_a_slip_gets_the_name_that_was_meant(typed: str, known: list[str], meant: str) -> None:
    assert nearest(typed, known) == meant
    assert did_you_mean(typed, known) == f"did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("resnet18", ARCHS),
        ("resnet34", ARCHS),
        ("resnet", ARCHS),  # which of four?
        ("mobilenet", ARCHS),
        ("vgg16", ARCHS),
        ("densenet121", ARCHS),
        ("ceil_mode", fields("PoolingParameter")),
        ("l3", ["l1", "l2"]),
        ("conv9_7", CONVOLUTIONS),
        ("test", COMMANDS),
        ("Upsample", TYPES_KNOWN),
        ("", ARCHS),
        ("x", []),
    ],
)
def test_another_thing_altogether_gets_no_guess(typed: str, known: list[str]) -> None:
    assert nearest(typed, known) is None
    assert did_you_mean(typed, known).startswith("known: " if known else "none are known")


def test_known_names_are_named_up_to_twelve() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", map(str, range(20))).endswith(", ...")


def test_unknown_name_is_an_error_like_any_other() -> None:
    error = UnknownNameError("no architecture 'resnet-50'", "resnet-50", ARCHS)
    assert isinstance(error, RootgenError)
    assert str(error) == "no architecture 'resnet-50' (did you mean 'resnet50'?)"
