"""Convolutions made of several side by side: filter groups of unequal sizes, and a basis of kernels of several shapes.

The paper's future work (section 6): heterogeneous filter groups, and a learned basis for the spatial extents of
filters (its [9]: Ioannou et al., "Training CNNs with Low-Rank Filters for Efficient Image Classification", ICLR 2016)
with filter groups. What a layer is told is a value here; transform/compound.py makes layers of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from rootgen.errors import MOST, RootgenError, integer, wrong_type

FULL = 4  # a kernel that fills the whole extent gets one output in so many ("join-wfull" in that work's Table 1)

_SIZE = re.compile(r"(?:(\d{1,9})/)?(\d{1,9})", re.ASCII)
_SHAPE = re.compile(r"(k|\d{1,4})x(k|\d{1,4})", re.ASCII)


@dataclass(frozen=True)
class Sizes:
    """Filter groups by size: the outputs of each, and the input channels of each; without `inputs` in proportion.

    As text `96+48+48`, or with input channels `48/96+24/48+24/48`.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, sizes in (("outputs", self.outputs), ("inputs", self.inputs)):
            if not isinstance(sizes, tuple):
                raise wrong_type(name, sizes, "a tuple of whole numbers")
            for size in sizes:
                if not 1 <= integer(f"a size in {name}", size) <= MOST:
                    raise RootgenError(f"{self}: the size of a group is a whole number from 1 to {MOST}")
        if not self.outputs:
            raise RootgenError("groups of given sizes, and no size", hint="96+48+48")
        if self.inputs and len(self.inputs) != len(self.outputs):
            raise RootgenError(f"{len(self.inputs)} sizes of inputs for {len(self.outputs)} of outputs")

    @classmethod
    def parse(cls, text: str) -> Sizes:
        """The sizes that `text` says."""
        found = [_SIZE.fullmatch(word) for word in text.split("+")]
        inputs = [match[1] for match in found if match and match[1]]
        if not all(found) or (inputs and len(inputs) != len(found)):
            raise RootgenError(f"{text}: no sizes of groups", hint="96+48+48, or with input channels 48/96+48/96")
        return cls(tuple(int(match[2]) for match in found if match), tuple(map(int, inputs)))

    def __str__(self) -> str:
        if not self.inputs:
            return "+".join(map(str, self.outputs))
        return "+".join(f"{a}/{b}" for a, b in zip(self.inputs, self.outputs, strict=False))

    def __len__(self) -> int:
        return len(self.outputs)

    def of(self, channels: int, num_output: int) -> Sizes:
        """The same with input channels, for a convolution of `channels` to `num_output`; RootgenError if none."""
        if sum(self.outputs) != num_output:
            raise RootgenError(f"{self} makes {sum(self.outputs)} outputs, but it has {num_output}")
        if self.inputs:
            if sum(self.inputs) != channels:
                raise RootgenError(f"{self} takes {sum(self.inputs)} input channels, but it reads {channels}")
            return self
        if len(self) > channels:
            raise RootgenError(f"{self} is {len(self)} groups, but it reads {channels} channels")
        for size in self.outputs:
            if size * channels % num_output:
                raise RootgenError(
                    f"{size} of {num_output} outputs go with no whole number of its {channels} input channels",
                    hint="say the inputs too, as in 48/96+48/96",
                )
        return Sizes(self.outputs, tuple(size * channels // num_output for size in self.outputs))


class Shaped(NamedTuple):
    """The kernels of one shape in a basis: height, width, and how many outputs they make."""

    height: int
    width: int
    num_output: int


@dataclass(frozen=True)
class Basis:
    """Shapes of a spatial basis: heights and widths of kernels; None is k, that of the kernel which it stands for.

    As text `3x1+1x3`, `kx1+1xk+kxk`.
    """

    shapes: tuple[tuple[int | None, int | None], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.shapes, tuple):
            raise wrong_type("shapes", self.shapes, "a tuple of (height, width)")
        for shape in self.shapes:
            if not (isinstance(shape, tuple) and len(shape) == 2):
                raise wrong_type("a shape of a basis", shape, "a tuple (height, width)")
            for side in shape:
                if side is not None and not 1 <= integer("a side of a kernel", side) <= MOST:
                    raise RootgenError(f"{self}: the side of a kernel is a whole number from 1 to {MOST}")
        if len(set(self.shapes)) < max(2, len(self.shapes)):
            raise RootgenError(f"{self}: a basis has two shapes or more, each once", hint="3x1+1x3")
        if (1, 1) in self.shapes:
            raise RootgenError(f"{self}: its kernels are larger than 1x1", hint="3x1+1x3")

    @classmethod
    def parse(cls, text: str) -> Basis:
        """The basis that `text` says, heights before widths."""
        found = [_SHAPE.fullmatch(word) for word in text.split("+")]
        if not all(found):
            raise RootgenError(
                f"{text or repr(text)}: no shapes of kernels", hint="3x1+1x3, or with the full kernel kx1+1xk+kxk"
            )
        sizes = [tuple(None if word == "k" else int(word) for word in match.groups()) for match in found if match]
        return cls(tuple((height, width) for height, width in sizes))

    def __str__(self) -> str:
        return "+".join("x".join("k" if side is None else str(side) for side in shape) for shape in self.shapes)

    def extent(self, kernel: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the shapes span together, in place of a `kernel`."""
        shapes = self._shapes(kernel)
        return max(height for height, _ in shapes), max(width for _, width in shapes)

    def split(self, kernel: tuple[int, int], num_output: int, group: int) -> tuple[Shaped, ...]:
        """The outputs of a convolution, shared out; RootgenError where there are too few.

        As in that work, shapes share evenly, but that one as large as all of them together (3x3 beside 3x1 and 1x3)
        gets a quarter. Each gets a multiple of `group`, the nearest, and earlier shapes what is left over.
        """
        shapes, whole = self._shapes(kernel), self.extent(kernel)
        if len(set(shapes)) < len(shapes) or (1, 1) in shapes:
            raise RootgenError(f"{self} is no basis for a kernel of {kernel[0]}x{kernel[1]}")
        count = num_output // group  # outputs are handed out one to each group at a time
        if count < len(shapes):
            raise RootgenError(f"{num_output} outputs in {group} groups are too few for the {len(shapes)} of {self}")
        full = min(max(1, round(count / FULL)), count - len(shapes) + 1) if whole in shapes else 0
        others = len(shapes) - (whole in shapes)
        each, more = divmod(count - full, others)
        found = []
        for height, width in shapes:
            units = full if (height, width) == whole else each + (more > 0)
            more -= (height, width) != whole
            found.append(Shaped(height, width, units * group))
        return tuple(found)

    def _shapes(self, kernel: tuple[int, int]) -> list[tuple[int, int]]:
        height, width = kernel
        return [(height if h is None else h, width if w is None else w) for h, w in self.shapes]
