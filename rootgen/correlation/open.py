"""Correlation from Python: of a trained model's layers, or of responses that the user's own model gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen import errors
from rootgen.correlation import whitening
from rootgen.correlation.moments import Moments
from rootgen.correlation.report import CorrelatedPair, Score
from rootgen.correlation.study import KINDS, CorrelationOptions, CorrelationOutcome, run
from rootgen.engine.api import ENGINES
from rootgen.text import shape_text

if TYPE_CHECKING:
    from rootgen.progress import Report

BATCH = 64  # images of an array taken at a time
PathName = str | PathLike[str]


def correlate(
    model: PathName,
    out: PathName | None = None,
    *,
    net: PathName | None = None,
    data: PathName | Sequence[PathName] = (),
    mean: PathName | None = None,
    pairs: Sequence[str] = (),
    images: int = CorrelationOptions.images,
    batch_size: int = CorrelationOptions.batch_size,
    group: int | None = None,
    control: bool = False,
    seed: int = CorrelationOptions.seed,
    draw: Sequence[str] = CorrelationOptions.draw,
    single_files: bool = False,
    engine: str = "auto",
    device: str = "auto",
    lenient: bool = False,
    report: Report | None = None,
) -> CorrelationOutcome:
    """Correlation of the adjacent convolutions of a trained `model`: scores, and per pair its matrices and figures.

    The options are those of `rootgen correlation`: by default the net is the one that the caffemodel carries, the
    images are those it was trained on, and all adjacent pairs are taken. Nothing is written, unless into the folder
    `out`: arrays, scores.csv and contact sheets of the kinds that `draw` names, with `single_files` a file of each
    pair. `control` adds the same net untrained, as a training with `seed` began. `report` is told how far it is. The
    matrices of all pairs of a large net are gigabytes: name the `pairs` that matter.
    """
    options = CorrelationOptions(
        net=errors.path("net", net),
        data=errors.paths("data", data),
        mean=errors.path("mean", mean),
        pairs=errors.several("pairs", pairs),
        images=errors.whole("images", errors.integer("images", images)) or 1,
        batch_size=errors.whole("batch_size", errors.integer("batch_size", batch_size)) or 1,
        group=errors.whole("group", group),
        control=errors.flag("control", control),
        seed=errors.whole("seed", errors.integer("seed", seed), 0) or 0,
        draw=[errors.word("draw", kind, KINDS) or kind for kind in errors.several("draw", draw)],
        single_files=errors.flag("single_files", single_files),
        engine=errors.word("engine", engine, ENGINES) or ENGINES[0],
        device=errors.word("device", device) or "auto",
        lenient=errors.flag("lenient", lenient),
    )
    if report is not None and not callable(report):
        raise errors.wrong_type("report", report, "a function of (what, done, total)")
    return run(errors.needed_path("model", model), errors.path("out", out), options, report, keep=True)


def correlate_responses(
    earlier: Any, later: Any, *, group: int = 1, labels: tuple[str, str] = ("earlier", "later")
) -> CorrelatedPair:
    """Correlation of two layers' responses to the same images, from any framework: matrices, score, figure.

    Each is an array or a tensor of N x C x H x W (on any device, of any float type), or an iterable of such batches.
    Where the maps differ in size the smaller is taken as upsampled by nearest neighbour. `group` is the number of
    groups of the convolution that makes the later responses: the score is by that many blocks. RootgenError where
    shapes, numbers of images or values do not do, TypeError where an argument is something else.
    """
    groups = errors.integer("group", group)
    errors.whole("group", groups)
    names = errors.several("labels", labels, "two names")
    if len(names) != 2:
        raise errors.RootgenError(f"labels are {len(names)} names, not 2", hint='labels=("conv2c", "conv3a")')
    moments = Moments([("earlier", "later")])
    first: dict[str, tuple[int, ...]] = {}
    for number, pair in enumerate(_batches(earlier, later)):
        for name, batch in zip(("earlier", "later"), pair, strict=True):
            _check(f"{name}, batch {number}", batch, first.setdefault(name, batch.shape))
        if len(pair[0]) != len(pair[1]):
            raise errors.RootgenError(f"batch {number}: {len(pair[0])} images of earlier, {len(pair[1])} of later")
        if not number:
            whitening.check_blocks(groups, pair[0].shape[1], pair[1].shape[1])
        moments.add(dict(zip(("earlier", "later"), pair, strict=True)))
    if not first:
        raise errors.RootgenError("earlier and later hold no batch")
    result = whitening.correlate(moments.covariance(("earlier", "later")))
    value = whitening.block_score(result.whitened, groups)
    rows, columns = result.whitened.shape
    row = Score(str(moments.images), "-".join(names), groups, value, rows, columns, result.samples, *result.dead)
    return CorrelatedPair((names[0], names[1]), result, row)


def _batches(earlier: Any, later: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of both: slices of two arrays, or what two iterables give in turn."""
    whole = [_is_array(one) for one in (earlier, later)]
    for name, value, array in zip(("earlier", "later"), (earlier, later), whole, strict=True):
        if not array and (isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable)):
            raise errors.wrong_type(name, value, "an array or tensor of N x C x H x W, or an iterable of batches")
    if whole[0] != whole[1]:
        raise TypeError("earlier and later are an array and an iterable of batches: give two of one kind")
    if all(whole):
        if not all(len(one.shape) for one in (earlier, later)):
            raise errors.RootgenError("a single number, not N x C x H x W")
        counts = [one.shape[0] for one in (earlier, later)]
        if counts[0] != counts[1]:
            raise errors.RootgenError(f"{counts[0]} images of earlier, {counts[1]} of later")
        for start in range(0, max(counts[0], 1), BATCH):
            yield _array("earlier", earlier[start : start + BATCH]), _array("later", later[start : start + BATCH])
        return
    if earlier is later and isinstance(earlier, Iterator):
        raise errors.RootgenError("earlier and later are one iterator, which gives each batch once")
    sides = (iter(earlier), iter(later))
    number = 0
    while True:
        pair = [next(side, None) for side in sides]
        if all(one is None for one in pair):
            return
        if any(one is None for one in pair):
            short = "earlier" if pair[0] is None else "later"
            raise errors.RootgenError(f"{short} ends after {number} batches, the other goes on")
        yield _array(f"earlier, batch {number}", pair[0]), _array(f"later, batch {number}", pair[1])
        number += 1


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "__array__")


def _array(name: str, value: Any) -> np.ndarray:
    """A batch as an array of real numbers; a tensor's comes from its device, without its gradient."""
    if not _is_array(value):
        raise errors.wrong_type(name, value, "an array or tensor of N x C x H x W")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.dtype.is_floating_point and value.element_size() < 4:
            value = value.float()  # NumPy has no bfloat16
        value = value.resolve_conj().numpy() if value.is_complex() else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} holds {array.dtype}, not real numbers")
    return array


def _check(name: str, batch: np.ndarray, first: tuple[int, ...]) -> None:
    """Refuse a batch of another form than images x channels x height x width of the `first`, and values of no size."""
    if batch.ndim != 4 or 0 in batch.shape:
        raise errors.RootgenError(
            f"has shape {shape_text(batch.shape)}, not images x channels x height x width", where=name
        )
    if batch.shape[1:] != first[1:]:
        raise errors.RootgenError(
            f"has maps of {shape_text(batch.shape[1:])}, the first batch of {shape_text(first[1:])}",
            where=name,
        )
    if not np.isfinite(batch).all():
        raise errors.RootgenError("holds values that are not finite", where=name, hint="has the training diverged?")
