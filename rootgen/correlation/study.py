"""One correlation run: from a trained model to arrays, images and scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.correlation.images import find_images, find_net
from rootgen.correlation.moments import Moments
from rootgen.correlation.pairs import AdjacentPair, adjacent, choose_pairs
from rootgen.correlation.report import TITLES, CorrelatedPair, Score, save_arrays, save_scores, scores_table
from rootgen.correlation.responses import feed, gather, open_fed
from rootgen.correlation.whitening import block_score, check_blocks, correlate
from rootgen.errors import RootgenError, did_you_mean
from rootgen.figures.save import FORMATS, save
from rootgen.files import check_writable, inside, safe_name
from rootgen.text import Shown, Table

SCORES = "scores.csv"
KINDS = tuple(TITLES)

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
                if out is not None:
                    check_writable(Path(out) / SCORES)
            moments = gather(network, blob, pairs, images, source.name, images=options.images, report=report)
        found = [_correlated(source.name, pair, moments, channels, group=options.group, net=net.name) for pair in pairs]
        outcome.scores += [one.row for one in found]
        outcome.pairs += found if keep else []
        outcome.files += [] if out is None else _write(Path(out), source.name, found, options)
    if out is not None:
        save_scores(Path(out) / SCORES, outcome.scores)
        outcome.files.append(Path(out) / SCORES)
    return outcome


def _correlated(
    images: str, pair: AdjacentPair, moments: Moments, channels: dict[str, int], *, group: int | None, net: str
) -> CorrelatedPair:
    """One pair: its block score is by the later convolution's groups or by `group` blocks."""
    result = correlate(moments.covariance(pair.blobs))
    rows, columns = result.whitened.shape
    blocks = pair.group if group is None else group
    before = sum(channels[blob] for blob in pair.before)
    value = block_score(result.whitened, blocks, offset=before, channels=channels[pair.input])
    score = Score(images, str(pair), blocks, value, rows, columns, result.samples, *result.dead)
    return CorrelatedPair(pair.layers, result, score, pair.group, net)


def _write(out: Path, images: str, found: Sequence[CorrelatedPair], options: CorrelationOptions) -> list[Path]:
    """The images that `options.draw` asks for, and the arrays, of one set of images; the files."""
    files = []
    names: dict[str, str] = {}  # of pictures, as the layers' names make them -> of their files
    for one in found:
        for kind in options.draw:
            for which in ("within_earlier", "within_later") if kind == "within" else (kind,):
                name = one.name(which)
                stem = names.setdefault(name, names.get(name) or safe_name(name, names.values()))
                files += save(one.figure(which).figure, inside(out, images), stem, options.formats)
    arrays = inside(out, f"{images}.npz")
    save_arrays(arrays, found)
    return [*files, arrays]
