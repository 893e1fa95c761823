"""One correlation run: from a trained model to arrays, images and scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.correlation.images import find_images, find_net
from rootgen.correlation.pairs import AdjacentPair, adjacent, choose_pairs
from rootgen.correlation.report import Score, label, save_arrays, save_image, save_scores
from rootgen.correlation.responses import feed, gather, open_fed
from rootgen.correlation.whitening import Correlation, block_score, check_blocks, correlate
from rootgen.errors import RootgenError
from rootgen.figures.save import FORMATS
from rootgen.files import check_writable

SCORES = "scores.csv"
KINDS = {
    "whitened": "whitened inter-layer covariance",
    "covariance": "inter-layer covariance",
    "within": "correlation within the layer",
}

if TYPE_CHECKING:
    from rootgen.engine.api import Network
    from rootgen.progress import Report


@dataclass(frozen=True)
class CorrelationOptions:
    """What to correlate, on which images, and what to draw; empty and None find out by themselves.

    `group` scores every pair against that many blocks, in place of the later convolution's own groups; `lenient` passes
    over fields of `net` that Caffe does not have.
    """

    net: str | None = None
    data: Sequence[str] = ()
    mean: str | None = None
    pairs: Sequence[str] = ()
    images: int = 10_000
    batch_size: int = 50
    group: int | None = None
    draw: Sequence[str] = ("whitened",)
    formats: Sequence[str] = FORMATS
    engine: str = "auto"
    device: str = "auto"
    lenient: bool = False


@dataclass
class CorrelationOutcome:
    """Scores of a run, and the files it wrote."""

    scores: list[Score] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def run(
    model: str | Path, out: str | Path, options: CorrelationOptions, report: Report | None = None
) -> CorrelationOutcome:
    """Correlate adjacent convolutions of `model`; arrays, images and scores.csv go into the folder `out`."""
    out = Path(out)
    net = find_net(model, options.net, lenient=options.lenient)
    pairs = adjacent(net)
    if not pairs:
        raise RootgenError("has no two convolutions that follow each other", where=net.source)
    if options.pairs:
        pairs = choose_pairs(pairs, options.pairs)
    outcome = CorrelationOutcome()
    network: Network | None = None
    sources = find_images(
        model, net, net_path=options.net, data=options.data, mean=options.mean, lenient=options.lenient
    )
    for source in sources:
        with closing(feed(source, options.batch_size)) as images:
            if network is None:
                shape = (options.batch_size, *images.image_shape)
                network, blob = open_fed(net, model, shape, engine=options.engine, device=options.device)
                channels = {name: shape[1] for name, shape in network.blobs.items() if len(shape) > 1}
                for pair in pairs:  # what can be refused is, before all the images
                    check_blocks(options.group or pair.group, channels[pair.input], channels[pair.blobs[1]])
                check_writable(out / SCORES)
            moments = gather(network, blob, pairs, images, source.name, images=options.images, report=report)
        results = {}
        for pair in pairs:
            results[str(pair)] = correlate(moments.covariance(pair.blobs))
            score = _score(source.name, pair, results[str(pair)], channels, options.group)
            outcome.scores.append(score)
            outcome.files += _draw(out / source.name, pair, results[str(pair)], score, options, net=net.name)
        save_arrays(out / f"{source.name}.npz", results)
        outcome.files.append(out / f"{source.name}.npz")
    save_scores(out / SCORES, outcome.scores)
    outcome.files.append(out / SCORES)
    return outcome


def _score(images: str, pair: AdjacentPair, result: Correlation, channels: dict[str, int], group: int | None) -> Score:
    """Block score of one pair, by the later convolution's groups or by `group` blocks."""
    rows, columns = result.whitened.shape
    group = pair.group if group is None else group
    before = sum(channels[blob] for blob in pair.before)
    value = block_score(result.whitened, group, offset=before, channels=channels[pair.input])
    return Score(images, str(pair), group, value, rows, columns, result.samples, *result.dead)


def _draw(
    folder: Path, pair: AdjacentPair, result: Correlation, score: Score, options: CorrelationOptions, *, net: str
) -> list[Path]:
    """The images of one pair that `options.draw` asks for; the files."""
    earlier, later = (
        label(layer, count, size)
        for layer, count, size in zip(pair.layers, result.whitened.shape, result.sizes, strict=True)
    )
    groups = f"{pair.layers[1]}: {pair.group} group{'s' if pair.group > 1 else ''}"
    note = f"{score.images} images, {result.samples:,} samples; {groups}"
    if score.score == score.score and score.group == pair.group:
        note += f", block score {score.score:.2f}"
    files = []
    for kind in options.draw:
        if kind == "within":
            images = {
                f"{pair.layers[0]}_within": (result.within_earlier, (earlier, earlier)),
                f"{pair.layers[1]}_within": (result.within_later, (later, later)),
            }
        else:
            name = str(pair) if kind == "whitened" else f"{pair}_{kind}"
            images = {name: (getattr(result, kind), (earlier, later))}
        for name, (matrix, labels) in images.items():
            title = f"{net}: |{KINDS[kind]}|" if net else f"|{KINDS[kind]}|"
            files += save_image(folder / name, matrix, labels, title=title, note=note, formats=options.formats)
    return files
