"""A trained net with other filter groups that starts from what was learned: prototxt and weights that go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rootgen import errors
from rootgen.deploy.images import Images, Runner, open_images
from rootgen.engine import weights as files
from rootgen.errors import RootgenError
from rootgen.files import check_writable, write_text
from rootgen.grouping import Plan, chosen
from rootgen.net.graph import Layer
from rootgen.net.load import LoadedNet
from rootgen.net.open import check_keywords, net_of
from rootgen.progress import Report, silent
from rootgen.text import Shown, Table
from rootgen.transform import regroup
from rootgen.transform.compound import names_of_groups
from rootgen.transform.regroup import Blobs, Kept
from rootgen.transform.result import Transformed
from rootgen.transform.transform import STAGE_BY, Nets, TransformOptions, read_phases, transform

IMAGES = 500  # to judge by and fit to, at most


@dataclass(frozen=True, repr=False)
class Regrouped(Shown):
    """A net with groups and its weights: the text and what changed, the blobs by layer, what each layer kept."""

    transformed: Transformed
    blobs: Blobs
    kept: tuple[Kept, ...]
    layers: tuple[Layer, ...]  # of the new net, those of the other phase alone that have blobs at the end

    @property
    def text(self) -> str:
        """The new net's prototxt."""
        return self.transformed.text

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer that got other groups, for pandas.DataFrame."""
        return [{**vars(one), "sizes": one.sizes and str(one.sizes)} for one in self.kept]

    def tables(self) -> list[Table]:
        """What each layer keeps, and what the groups save."""
        return [kept_table(self.kept), self.transformed.tables()[1]]

    def write(self, out: str | PathLike[str], model: str | PathLike[str]) -> None:
        """The prototxt as `out`, the weights as `model` (.caffemodel, or .h5)."""
        place = errors.needed_path("out", out)
        check_writable(place)
        self.write_model(model)
        write_text(place, self.text, durable=False)

    def write_model(self, model: str | PathLike[str]) -> None:
        """The weights as `model`."""
        net = self.transformed.net
        files.write(errors.needed_path("model", model), net.name, net.phase, self.layers, self.blobs)


@dataclass(frozen=True)
class Data:
    """Images that weights are judged by and fitted to: an LMDB or a folder of `rootgen data`, and how many of them."""

    path: str
    mean: str | None = None
    images: int = IMAGES
    fit: bool = True


def kept_table(kept: Sequence[Kept]) -> Table:
    """What layers keep of their weights (or of what images make of them), in percent."""
    fitted = any(one.fitted is not None for one in kept)
    rows = []
    for one in kept:
        shares = [one.sliced, one.permuted, one.control, *([one.fitted] if fitted else [])]
        group = one.groups if one.before == one.groups else f"{one.before} -> {one.groups}"
        percent = ["-" if share is None else f"{100 * share:.1f}%" for share in shares]
        rows.append([one.layer, group, *percent, one.why])
    more = ["fitted"] if fitted else []
    return Table(["convolution", "group", "sliced", "permuted", "shuffled", *more, "not put in order"], rows)


def with_weights(
    net: LoadedNet | str | PathLike[str],
    weights: str | PathLike[str],
    *,
    root: int | None = None,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
    permute: bool = True,
    seed: int = 0,
    data: str | PathLike[str] | None = None,
    mean: str | PathLike[str] | None = None,
    images: int = IMAGES,
    fit: bool = True,
    **reading: Any,
) -> Regrouped:
    """`net` with other filter groups, as rootgen.transform gives it, and its trained `weights` cut to fit.

    Channels are put in the orders that keep the most squared weight inside the groups, where the net's outputs do not
    depend on it (transform/regroup.py); without `permute` the weights are cut as they are. `seed` is that of the
    random starts. With `data`, the first `images` images of an LMDB (or of a folder of `rootgen data`), weights are
    judged by what they add to the layer's outputs there, and each group is then fitted to what the layer made of them,
    unless not `fit` (deploy/fit.py); `mean` is a mean.binaryproto. A path is read with the keywords of `rootgen.read`.
    RootgenError where the model is of another net.
    """
    check_keywords(with_weights, reading)
    loaded = net_of("net", net, **reading)
    how = loaded.reading
    if how.text is None:
        raise RootgenError("a caffemodel has no text to change", where=loaded.source, hint="pass the net's prototxt")
    options = TransformOptions(
        STAGE_BY[0], loaded.phase, how.level, how.stages, how.input_shape, how.given, False, how.lenient, how.beside
    )
    wanted = chosen(plan, root, column, tree, group)
    place = errors.needed_path("weights", weights)
    permuting, start = errors.flag("permute", permute), errors.whole("seed", seed, 0) or 0
    shown = None
    if data is not None:
        count = errors.whole("images", errors.integer("images", images)) or 1
        shown = Data(errors.needed_path("data", data), errors.path("mean", mean), count, errors.flag("fit", fit))
    return regrouped(how.text, place, wanted, loaded.source, options, permute=permuting, seed=start, data=shown)


def regrouped(
    text: str,
    weights: str | Path,
    plan: Plan,
    where: object,
    options: TransformOptions,
    *,
    permute: bool = True,
    seed: int = 0,
    data: Data | None = None,
    report: Report = silent,
) -> Regrouped:
    """See with_weights; of the net that the prototxt `text` is, read as `options` say."""
    if options.insert_1x1:
        raise RootgenError("a 1x1 convolution put in has no weights in a model", where=where, hint="no --insert-1x1")
    if plan.basis:
        raise RootgenError("kernels of a basis have no weights in a model", where=where, hint="train them from scratch")
    changed = transform(text, plan, where, options)
    nets, _ = read_phases(text, where, options)
    learned = blobs_of(nets, weights)
    groups = {change.layer.name: change.groups for change in changed.changes if not change.kept}
    importance = importance_of(nets, groups, learned)
    with opened(data, nets, weights, options, where) as images:
        if images:
            importance |= judged(nets, groups, learned, images, report)
        found = regroup.choose(nets, groups, importance, permute=permute, seed=seed)
        blobs = regroup.regrouped(found, learned, groups)
        kept = [one for orders in found.values() for one in orders.kept]
        if images and data and data.fit:
            kept = _fit(changed.net, found, learned, blobs, kept, images=images, report=report)
    return Regrouped(changed, blobs, tuple(kept), _layers(changed, options, where))


@contextmanager
def opened(
    data: Data | None, nets: Nets, weights: str | Path, options: TransformOptions, where: object
) -> Iterator[Images | None]:
    """The images of `data`, closed in the end."""
    if data is None:
        yield None
        return
    net, path = next(iter(nets.values())), str(where)
    images = open_images(
        data.path,
        net,
        weights,
        net_path=path if Path(path).is_file() else None,
        mean=data.mean,
        count=data.images,
        lenient=options.lenient,
    )
    with closing(images):
        yield images


def judged(
    nets: Nets, groups: Iterable[str], learned: Blobs, images: Images, report: Report = silent
) -> dict[str, np.ndarray]:
    """What connections are worth on images, of the layers in the phase looked at."""
    from rootgen.deploy.fit import worth_of

    net = next(iter(nets.values()))
    runner = Runner(net, learned, images.feed.image_shape)
    names = [layer.name for layer in net.layers if layer.name in groups]
    return worth_of(runner, names, learned, images, report)


def _fit(
    net: LoadedNet,
    chosen: Mapping[str, regroup.Orders],
    learned: Blobs,
    blobs: Blobs,
    kept: Sequence[Kept],
    *,
    images: Images,
    report: Report,
) -> list[Kept]:
    """Fit the layers of `net` that got more groups, in `blobs`; `kept` with what they give then.

    One that shares its weights by name stays as it is.
    """
    from rootgen.deploy.fit import Target, fit

    orders = chosen[net.phase]
    targets: dict[str, Target] = {}
    for one in kept:
        if one.sizes:
            rows = [outputs for outputs, _ in regroup.blocks(sum(one.sizes.outputs), sum(one.sizes.inputs), one.sizes)]
            names = names_of_groups(one.layer, one.sizes)
            targets |= {name: Target(one.layer, outputs) for name, outputs in zip(names, rows, strict=True)}
        elif one.group > one.before:
            targets[one.layer] = Target(one.layer)
    fitted = [x.name for x in net.layers if x.name in targets and not any(spec.name for spec in x.param.param)]
    before = Runner(orders.spaces.net, orders.applied(learned), images.feed.image_shape)
    after = Runner(net, blobs, images.feed.image_shape)
    found = fit(before, after, fitted, blobs, images=images, targets=targets, report=report)
    blobs.update(found.blobs)
    return [replace(one, fitted=found.shares.get(one.layer)) for one in kept]


def blobs_of(nets: Nets, weights: str | Path) -> Blobs:
    """The blobs of a model that belong to a net: all of the phase looked at, and what the other phase has beside."""
    net, *others = nets.values()
    stored = files.read(weights, net.layers)
    wanted = {layer.name: layer.shapes.params for layer in net.layers if layer.shapes.params}
    more = {
        layer.name: layer.shapes.params
        for other in others
        for layer in other.layers
        if layer.shapes.params and layer.name in stored and layer.name not in wanted
    }
    alone = {name: blobs for name, blobs in stored.items() if name not in more}
    found = files.matching(alone, wanted, weights, whole=True)
    found |= files.matching({name: stored[name] for name in more}, more, weights) if more else {}
    for name, blobs in found.items():
        if not all(np.isfinite(blob).all() for blob in blobs):
            raise RootgenError(
                f"layer '{name}' has blobs that hold what is no finite number",
                where=weights,
                hint="has the training diverged?",
            )
    return found


def importance_of(nets: Nets, groups: Iterable[str], learned: Blobs) -> dict[str, np.ndarray]:
    """Squared weights (outputs x inputs) of each layer of `groups`; RootgenError for one without weights."""
    found = {}
    for net in nets.values():
        for layer in net.layers:
            if layer.name in groups and layer.name not in found:
                if layer.name not in learned:
                    raise layer.error("has no blobs in the model", "pass the model of this net")
                found[layer.name] = regroup.squares(layer, learned[layer.name])
    return found


def _layers(changed: Transformed, options: TransformOptions, where: object) -> tuple[Layer, ...]:
    """The layers of the new net, and behind them those with blobs that only the other phase has."""
    nets, _ = read_phases(changed.text, where, replace(options, phase=changed.net.phase))
    names = {layer.name for layer in changed.net.layers}
    others = [layer for net in nets.values() for layer in net.layers if layer.shapes.params]
    return (*changed.net.layers, *(layer for layer in others if layer.name not in names))
