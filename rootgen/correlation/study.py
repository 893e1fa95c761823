"""One correlation run: from a trained model to arrays, images and scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen import errors
from rootgen.correlation.images import find_images, find_net
from rootgen.correlation.moments import Moments
from rootgen.correlation.pairs import AdjacentPair, adjacent, choose_pairs
from rootgen.correlation.report import TITLES, CorrelatedPair, Score, save_arrays, save_scores, scores_table
from rootgen.correlation.responses import FedNetwork, feed, gather, open_fed
from rootgen.correlation.sheet import Sheet
from rootgen.correlation.whitening import block_score, check_blocks, correlate
from rootgen.errors import RootgenError, did_you_mean
from rootgen.figures.save import FORMATS, Drawing, save
from rootgen.files import check_writable, inside, safe_name
from rootgen.text import Shown, Table

SCORES = "scores.csv"
UNTRAINED = "untrained"  # a folder of the control's arrays and figures
KINDS = tuple(TITLES)

if TYPE_CHECKING:
    from rootgen.net.graph import Net
    from rootgen.progress import Report


@dataclass(frozen=True)
class CorrelationOptions:
    """What to correlate, on which images, and what to draw; empty and None find out by themselves.

    `group` scores every pair against that many blocks, in place of the later convolution's own groups; `control` adds
    the same net untrained, as `seed` fills it; `draw` makes a contact sheet of each kind, with `single_files` a file of
    each pair; `lenient` passes over fields of `net` that Caffe does not have.
    """

    net: str | None = None
    data: Sequence[str] = ()
    mean: str | None = None
    pairs: Sequence[str] = ()
    images: int = 10_000
    batch_size: int = 50
    group: int | None = None
    control: bool = False
    seed: int = 1
    draw: Sequence[str] = ("whitened",)
    single_files: bool = False
    formats: Sequence[str] = FORMATS
    engine: str = "auto"
    device: str = "auto"
    lenient: bool = False


@dataclass(repr=False)
class CorrelationOutcome(Shown):
    """Scores of a run, the files it wrote, and the pairs with their matrices where they were to be kept."""

    scores: list[Score] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    pairs: list[CorrelatedPair] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per pair and set of images, for pandas.DataFrame: the columns of scores.csv."""
        return [asdict(score) for score in self.scores]

    def pair(self, name: str, images: str | None = None) -> CorrelatedPair:
        """The pair called `name` (conv2c-conv3a), on the set of images called so, or on the first there is."""
        for one in self.pairs:
            if one.row.pair == name and images in (None, one.row.images):
                return one
        known = [one.row.pair for one in self.pairs]
        if name in known:
            raise RootgenError(f"no images '{images}'", hint=did_you_mean(str(images), {s.images for s in self.scores}))
        raise RootgenError(f"no pair '{name}'", hint=did_you_mean(name, known))

    def tables(self) -> list[Table]:
        """The scores."""
        return [scores_table(self.scores)]

    def sheets(self, kind: str = KINDS[0]) -> list[Drawing]:
        """The pairs that were kept, as maps of one `kind` on a contact sheet, or on several where they are many."""
        errors.word("kind", kind, KINDS)
        made = Sheet(kind)
        made.add(self.pairs)
        return made.drawings()


def run(
    model: str | Path,
    out: str | Path | None,
    options: CorrelationOptions,
    report: Report | None = None,
    *,
    keep: bool = False,
) -> CorrelationOutcome:
    """Correlate adjacent convolutions of `model`; arrays, images and scores.csv go into the folder `out`.

    `keep` leaves the matrices in the outcome, which for a large net are gigabytes.
    """
    net = find_net(model, options.net, lenient=options.lenient)
    pairs = adjacent(net)
    if not pairs:
        raise RootgenError("has no two convolutions that follow each other", where=net.source)
    if options.pairs:
        pairs = choose_pairs(pairs, options.pairs)
    if options.control:
        _check_filled(net, pairs)
    outcome = CorrelationOutcome()
    networks: list[FedNetwork] = []
    sheets = [] if out is None or options.single_files else [Sheet(kind) for kind in options.draw]
    sources = find_images(
        model, net, net_path=options.net, data=options.data, mean=options.mean, lenient=options.lenient
    )
    for source in sources:
        with closing(feed(source, options.batch_size)) as images:
            if not networks:
                networks = _open(net, model, (options.batch_size, *images.image_shape), options)
                channels = {name: shape[1] for name, shape in networks[0].network.blobs.items() if len(shape) > 1}
                for pair in pairs:  # what can be refused is, before all the images
                    sizes = "" if options.group else pair.sizes(channels)
                    check_blocks(options.group or pair.group, channels[pair.input], channels[pair.blobs[1]], sizes)
                if out is not None:
                    check_writable(Path(out) / SCORES)
            moments = gather(networks, pairs, images, source.name, images=options.images, report=report)
        found = [_correlated(source.name, pair, moments, channels, group=options.group, net=net.name) for pair in pairs]
        outcome.scores += [one.row for one in found]
        outcome.pairs += found if keep else []
        outcome.files += [] if out is None else _write(Path(out), source.name, found, options)
        for one in sheets:
            one.add(found)
    if out is not None:
        outcome.files += _draw(Path(out), sheets, options.formats)
        save_scores(Path(out) / SCORES, outcome.scores)
        outcome.files.append(Path(out) / SCORES)
    return outcome


def _open(net: Net, model: str | Path, shape: tuple[int, ...], options: CorrelationOptions) -> list[FedNetwork]:
    """The net with its weights, and with `control` untrained."""
    fed = partial(open_fed, net, input_shape=shape, engine=options.engine, device=options.device)
    return [fed(weights=model), *([fed(weights=None, seed=options.seed)] if options.control else [])]


def _check_filled(net: Net, pairs: Sequence[AdjacentPair]) -> None:
    """Refuse a net whose convolutions are all alike before training, as it says no filler: many deploy nets."""
    names = {name for pair in pairs for name in pair.layers}
    for layer in net.layers:
        filler = layer.param.convolution_param.weight_filler
        if layer.name in names and filler.type == "constant":
            raise layer.error("is filled with a constant, and no control", "--net FILE with the net as it was trained")


def _correlated(
    images: str,
    pair: AdjacentPair,
    moments: Sequence[Moments],
    channels: dict[str, int],
    *,
    group: int | None,
    net: str,
) -> CorrelatedPair:
    """One pair, of the trained net and where there is one of its control, by its own groups or by `group` blocks."""
    blocks = pair.group if group is None else group
    place: dict[str, Any] = {"offset": sum(channels[blob] for blob in pair.before), "channels": channels[pair.input]}
    place["sizes"] = pair.sizes(channels) if group is None else ""
    made: CorrelatedPair | None = None
    for sums in reversed(moments):
        result = correlate(sums.covariance(pair.blobs))
        value = block_score(result.whitened, blocks, **place)
        rows, columns = result.whitened.shape
        score = Score(images, pair.name, blocks, value, rows, columns, result.samples, *result.dead, **place)
        if made is not None:
            score = replace(score, untrained_score=made.score)
        name = f"{net}, untrained" if sums is not moments[0] else net
        made = CorrelatedPair(pair.layers, result, score, pair.group, name, made)
    assert made is not None
    return made


def _write(out: Path, images: str, found: Sequence[CorrelatedPair], options: CorrelationOptions) -> list[Path]:
    """The arrays of one set of images, and its single pictures where they are asked for; the files."""
    files = []
    controls = [one.control for one in found if one.control is not None]
    for folder, pairs in ((out, found), (out / UNTRAINED, controls)) if controls else ((out, found),):
        if options.single_files:
            files += _single(inside(folder, images), pairs, options)
        arrays = inside(folder, f"{images}.npz")
        save_arrays(arrays, pairs)
        files.append(arrays)
    return files


def _single(folder: Path, found: Sequence[CorrelatedPair], options: CorrelationOptions) -> list[Path]:
    """A file of each matrix of the kinds that are asked for; the files."""
    files = []
    names: dict[str, str] = {}  # of pictures, as the layers' names make them -> of their files
    for one in found:
        for kind in options.draw:
            for which in ("within_earlier", "within_later") if kind == "within" else (kind,):
                name = one.name(which)
                if name not in names:  # as of a layer that is in several pairs
                    names[name] = safe_name(name, names.values())
                    files += save(one.figure(which).figure, folder, names[name], options.formats)
    return files


def _draw(out: Path, sheets: Sequence[Sheet], formats: Sequence[str]) -> list[Path]:
    """The contact sheets; the files."""
    files = []
    for one in sheets:
        for number, drawing in enumerate(one.drawings(), 1):
            files += save(drawing.figure, out, one.kind if number == 1 else f"{one.kind}-{number}", formats)
    return files
