"""Prototxt text of an architecture with a plan of filter groups: train_val or deploy net, and solver (Jinja)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from rootgen.errors import RootgenError
from rootgen.generator.architectures import ORIGINAL_ROW, Arch, Recipe, recipe, row_folder
from rootgen.generator.templates import environment
from rootgen.grouping import ORIGINAL, LayerGroups, Plan, check_named

if TYPE_CHECKING:
    pass

PHASES = ("train_val", "deploy")
PARTS = ("main", "warm-up")  # of a short run's schedule, a solver each
MEAN_FILE = "mean.binaryproto"  # the names that `rootgen data` gives, inside its --out folder
TRAIN_LMDB = "train_lmdb"
TEST_LMDB = "test_lmdb"
SMALL_CROP = 64  # up to it ILSVRC's nets begin without strides: the first stage's maps have about 56 pixels, as at 224


@dataclass(frozen=True)
class NetOptions:
    """What a net's text depends on besides architecture and groups; None takes the architecture's own.

    `data` is a folder as `rootgen data` makes it; `mean` a .binaryproto file, values such as "104,117,123",
    or "none". `batch_size` is that of the TRAIN phase in a train_val net, and the first dim of a deploy net.
    With another `crop_size` than the paper's the last pooling is global, so that the classifier fits; up to SMALL_CROP
    an ILSVRC net takes its small-image form. `moving_average_fraction` is that of every BatchNorm; None leaves Caffe's.
    `pool_pad` is the pad of GoogLeNet's pools after inception 3b and 4e: 1 in the paper's network, 0 in Szegedy's.
    """

    phase: str = "train_val"
    name: str | None = None
    batch_size: int | None = None
    test_batch_size: int | None = None
    crop_size: int | None = None
    classes: int | None = None
    data: str | None = None
    train_source: str | None = None
    test_source: str | None = None
    mean: str | None = None
    moving_average_fraction: float | None = None
    pool_pad: int = 1


@dataclass(frozen=True)
class SolverOptions:
    """What a solver's text depends on besides the architecture's recipe; None takes the recipe's own.

    `epochs` makes a short run of it: so many passes over the training images, the rate falling in a line from base_lr
    to zero (lr_policy "poly", power 1), with a test at its end alone. The long schedules' tenfold drops would leave a
    run this short far from where it could end. In its first `warm_up` epochs the rate rises in a line instead. Caffe
    has no policy that rises and falls: `part` "warm-up" is the solver of the rise ("inv", power -1), and the default
    part goes on from its last snapshot. `snapshot` is in iterations. With `gpus`, each of so many devices takes
    batch_size, and unless `iter_size` is given an update is of the recipe's images in all.
    """

    net: str = "train_val.prototxt"
    snapshot_prefix: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    batch_size: int | None = None
    test_batch_size: int | None = None
    iter_size: int | None = None
    gpus: int | None = None
    base_lr: float | None = None
    max_iter: int | None = None
    epochs: float | None = None
    warm_up: float = 0.0
    part: str = PARTS[0]
    snapshot: int | None = None
    random_seed: int | None = None
    solver_mode: str | None = None


def net(arch: Arch, plan: Plan = ORIGINAL, options: NetOptions = NetOptions()) -> str:
    """Net of `arch` with the groups of `plan`, as prototxt. Divisibility is for a shape check to judge.

    What takes several convolutions for one (plan.compound) needs to know the channels that a layer reads, and is left
    plain here: see paper/emit.py.
    """
    table = arch.groups
    rules = [groups for _, groups in plan.by_hand if isinstance(groups, Plan)]
    groups = LayerGroups(
        dict(zip(table.columns, row_groups(arch, plan), strict=True)),
        plan.by_hand,
        {rule: dict(zip(table.columns, table.by_rule(rule), strict=True)) for rule in rules},
    )
    template = environment().get_template(f"{arch.template}.prototxt.j2")
    text = template.render(
        banner=_banner(arch, plan, "deploy net" if options.phase == "deploy" else "train and test net"),
        net=_net_fields(arch, plan, options),
        blocks=_blocks(arch.blocks, "conv1" if is_small(arch, options.crop_size) else "pool1"),
        group=groups,
    )
    check_named(plan, groups.asked, arch.name)
    return text.lstrip()  # a template may leave lines between its macros


def solver(arch: Arch, plan: Plan = ORIGINAL, options: SolverOptions = SolverOptions()) -> str:
    """Solver of `arch` with the groups of `plan`, as prototxt: its recipe's schedule, in iterations."""
    its = recipe(arch.recipe)
    batch_size, iter_size = sizes(its, options)
    batch = batch_size * iter_size * (options.gpus or 1)
    split = f" ({iter_size} of {batch_size}, by iter_size)" if iter_size > 1 else ""
    if options.gpus:
        split = f" ({options.gpus} devices x iter_size {iter_size} x the net's batch_size, {batch_size})"
    images = options.train_images or its.train_images
    epoch = -(-images // batch)
    short = options.epochs is not None
    recipe_stop = its.stop * (epoch if its.unit == "epoch" else 1)
    whole, rise = short_iterations(arch, options)
    stop = options.max_iter or (whole if short else recipe_stop)
    peak = its.base_lr if options.base_lr is None else f"{options.base_lr!r}"
    rate = _short_rate(float(peak), whole, rise, options.part) if short else {}
    test_images = options.test_images or its.test_images
    test_batch_size = options.test_batch_size or its.test_batch_size
    folder = options.net.rpartition("/")[0]
    return (
        environment()
        .get_template("solver.prototxt.j2")
        .render(
            banner=_banner(arch, plan, "solver"),
            source=its.source,
            epochs=f"{options.epochs:g}" if short else "",
            peak=peak,
            rise=rise,
            part=options.part,
            by_hand=[name for name in ("base_lr", "max_iter") if getattr(options, name) is not None],
            schedule=f"{images} training images in batches of {batch}{split}: {epoch} iterations an epoch",
            test_images=test_images,
            test_batch_size=test_batch_size,
            solver={
                "net": options.net,
                "snapshot_prefix": options.snapshot_prefix or "/".join(filter(None, [folder, _file_name(arch, plan)])),
                "test_iter": -(-test_images // test_batch_size),
                "test_interval": stop if short else min(epoch, stop),
                "test_initialization": not short,
                "lr_policy": "multistep",
                "base_lr": peak,
                # A run made shorter or longer by hand keeps the recipe's proportions.
                "stepvalue": []
                if short
                else [drop * stop // its.stop for drop in its.drops if drop * stop >= its.stop],
                "max_iter": stop,
                **rate,
                "weight_decay": its.weight_decay,
                "iter_size": iter_size,
                "display": 100,
                "snapshot": options.snapshot or min(10 * epoch, stop),
                "random_seed": options.random_seed,
                "solver_mode": options.solver_mode,
            },
        )
    )


def sizes(its: Recipe, options: SolverOptions) -> tuple[int, int]:
    """batch_size and iter_size of each device, by the options, else by the recipe.

    RootgenError where `gpus` devices cannot share out the recipe's batch.
    """
    size, gpus = options.batch_size or its.batch_size, options.gpus
    if not gpus or options.iter_size:
        return size, options.iter_size or its.iter_size
    whole = its.batch_size * its.iter_size
    share = whole // gpus
    size = options.batch_size or min(size, share)
    if whole % gpus or share % size:
        raise RootgenError(
            f"{gpus} devices x batch_size {size} do not divide the recipe's batch of {whole}",
            hint="another --batch-size, or say --iter-size for another batch",
        )
    return size, share // size


def short_iterations(arch: Arch, options: SolverOptions) -> tuple[int, int]:
    """How many iterations a short run has, and in how many of them its rate rises; (0, 0) of the recipe's schedule."""
    if options.epochs is None:
        return 0, 0
    its = recipe(arch.recipe)
    batch_size, iter_size = sizes(its, options)
    epoch = (options.train_images or its.train_images) / (batch_size * iter_size * (options.gpus or 1))
    whole = max(1, round(options.epochs * epoch))
    return whole, min(round(options.warm_up * epoch), whole - 1)


def _short_rate(peak: float, whole: int, rise: int, part: str) -> dict[str, object]:
    """Policy and end of a short run's part: in a line to `peak` at iteration `rise`, from there to zero at `whole`."""
    if part != PARTS[0]:
        return {"lr_policy": "inv", "base_lr": f"{peak / (rise + 1):.6g}", "max_iter": rise}
    return {"lr_policy": "poly", "base_lr": f"{peak / (1 - rise / whole):.6g}" if rise else f"{peak:g}"}


def is_small(arch: Arch, crop_size: int | None) -> bool:
    """Whether a net for this crop takes the small-image form, which has no strides before the first stage."""
    return (crop_size or arch.crop) <= SMALL_CROP < arch.crop


def row_groups(arch: Arch, plan: Plan) -> tuple[int, ...]:
    """Groups per column of the architecture's table, before layers set by hand."""
    table = arch.groups
    return table.rows[ORIGINAL_ROW] if plan.kind == "original" else table.by_rule(plan)


def row_name(arch: Arch, plan: Plan) -> str | None:
    """The row of the paper's table that `plan` amounts to; None where it is no row of it."""
    return None if plan.by_hand or plan.basis else arch.groups.row_of(row_groups(arch, plan))


def _banner(arch: Arch, plan: Plan, what: str) -> str:
    """First line of each file: what it is, and from which table and row."""
    row = row_name(arch, plan)
    origin = f"{arch.table}, row {row}" if row else f"{plan} (not a row of {arch.table})"
    return f"Generated by rootgen: {arch.title}, {origin}; {what}."


def _file_name(arch: Arch, plan: Plan) -> str:
    row = row_name(arch, plan)
    return f"{arch.name}_{row_folder(row) if row else plan}".replace(" ", "_").replace("/", "-")


def _net_fields(arch: Arch, plan: Plan, options: NetOptions) -> dict[str, object]:
    """The values that a net template reads as `net`."""
    its = recipe(arch.recipe)
    folder = (options.data or its.data).rstrip("/")
    deploy = options.phase == "deploy"
    mean_file, mean_values = _mean(options.mean, folder, its)
    row = row_name(arch, plan)
    return {
        "phase": options.phase,
        "name": options.name or (arch.title if row == ORIGINAL_ROW else f"{arch.title} {row or plan}"),
        "batch_size": options.batch_size or (1 if deploy else its.batch_size),
        "test_batch_size": options.test_batch_size or its.test_batch_size,
        "crop_size": options.crop_size or arch.crop,
        "small": is_small(arch, options.crop_size),
        "global_pool": (options.crop_size or arch.crop) != arch.crop,
        "classes": options.classes or its.classes,
        "top5": (options.classes or its.classes) >= 5,
        "train_source": options.train_source or f"{folder}/{TRAIN_LMDB}",
        "test_source": options.test_source or f"{folder}/{TEST_LMDB}",
        "mean_file": mean_file,
        "mean_values": mean_values,
        "moving_average_fraction": options.moving_average_fraction,
        "pool_pad": options.pool_pad,
    }


def _mean(mean: str | None, folder: str, its: Recipe) -> tuple[str | None, list[str]]:
    """(mean_file, mean_values) for a Data layer; one of them is empty, or both."""
    if mean is None:
        mean = f"{folder}/{MEAN_FILE}" if its.mean == MEAN_FILE else its.mean.replace(" ", ",")
    if mean == "none":
        return None, []
    words = [word.strip() for word in mean.split(",")]
    numbers = [_finite(word) for word in words]
    if all(number is not None for number in numbers):
        return None, [f"{number:.9g}" for number in numbers]  # all that a float holds
    if (len(words) > 1 and any(number is not None for number in numbers)) or not mean.strip():
        raise RootgenError(
            f"--mean {mean}: neither numbers nor a file", hint="for example --mean 104,117,123, or --mean none"
        )
    return mean, []


def _finite(word: str) -> float | None:
    try:
        return float(word) if isfinite(float(word)) else None
    except ValueError:
        return None


@dataclass(frozen=True)
class _Block:
    """One bottleneck of a ResNet: `inner` channels between its 1x1 convolutions, `num_output` at its end."""

    id: str
    bottom: str
    inner: int
    num_output: int
    stride: int
    project: bool

    @property
    def top(self) -> str:
        return f"res{self.id}"


def _blocks(counts: tuple[int, ...], first: str) -> list[_Block]:
    """The bottlenecks of a ResNet with `counts` blocks in its stages res2, res3, ..., on top of the blob `first`."""
    blocks: list[_Block] = []
    for stage, count in enumerate(counts, 2):
        for i in range(count):
            inner = 64 << stage - 2
            bottom = blocks[-1].top if blocks else first
            id = f"{stage}{_block_letter(i, count, max(counts))}"
            blocks.append(_Block(id, bottom, inner, 4 * inner, 2 if i == 0 and stage > 2 else 1, i == 0))
    return blocks


def _block_letter(i: int, count: int, longest: int) -> str:
    """He et al.'s names: a, b, c, ...; in networks deeper than ResNet-50, long stages go a, b1, b2, ..."""
    return chr(ord("a") + i) if i == 0 or longest <= 6 or count <= 3 else f"b{i}"
