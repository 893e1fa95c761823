"""Filter groups for any net: the text of its prototxt with other groups, and not a byte more changed.

What a plan means for each convolution is found in planned.py; groups of given sizes and a spatial basis make several
convolutions of one (compound.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootgen.errors import RootgenError, did_you_mean
from rootgen.grouping import Plan, check_named
from rootgen.net.forks import layer_fields
from rootgen.net.graph import PHASES, Shape
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS
from rootgen.net.load import LoadedNet, load_text
from rootgen.proto.scanner import scan
from rootgen.transform import compound, edit
from rootgen.transform.planned import SETTLED, planned
from rootgen.transform.result import Change, Transformed
from rootgen.transform.stages import STEPS

STAGE_BY = tuple(STEPS)


@dataclass(frozen=True)
class TransformOptions:
    """How a net is looked at: what a stage is, the rules' phase, level and stages, and sizes it does not tell.

    `lenient` passes over fields that Caffe does not have; `insert_1x1` adds what mixes the groups; `beside` is
    the folder that data is sought in after the current one; `partial` lets convolutions whose shapes are not known be.
    """

    stage_by: str = STAGE_BY[0]
    phase: str = "TEST"
    level: int = 0
    stages: Sequence[str] = ()
    input_shape: tuple[int, int, int] | None = None
    given: Mapping[str, Shape] | None = None
    insert_1x1: bool = False
    lenient: bool = False
    beside: Path | None = None
    partial: bool = False


def transform(text: str, plan: Plan, where: object = "<text>", options: TransformOptions | None = None) -> Transformed:
    """`text`, a net's prototxt, with the groups of `plan`; RootgenError where nothing can take them."""
    options = options or TransformOptions()
    if options.stage_by not in STAGE_BY:
        raise RootgenError(f"no stages by '{options.stage_by}'", hint=did_you_mean(options.stage_by, STAGE_BY))
    nets, notes = read_phases(text, where, options)
    if not options.partial:
        _check_whole(nets, where)
    changes: dict[int, Change] = {}
    for net in nets.values():
        for change in planned(net, plan, options.stage_by):
            changes.setdefault(change.layer.index, change)
    ordered = tuple(changes[index] for index in sorted(changes))
    _check(ordered, plan, nets, where)
    inserted = [
        change
        for change in ordered
        if (options.insert_1x1 or change.basis) and change.needs_mixing and not _obstacle(change, nets)
    ]
    new = _edited(text, ordered, inserted, where)
    changed, _ = read_phases(new, where, options, phases=tuple(nets))
    phase = next(iter(nets))
    warnings = [*notes, *_warnings(ordered, inserted, nets, options.insert_1x1)]
    return Transformed(new, ordered, tuple(warnings), nets[phase].cost(), changed[phase].cost(), changed[phase])


Nets = dict[str, LoadedNet]


def read_phases(
    text: str, where: object, options: TransformOptions, phases: Sequence[str] = ()
) -> tuple[Nets, list[str]]:
    """The net and its shapes per phase, the one asked for first, and notes; `phases` are those it must have.

    A net may be whole in one phase only; the other is then passed over with a note.
    """
    nets: Nets = {}
    notes: list[str] = []
    errors = []
    for phase in sorted(PHASES, key=lambda phase: phase != options.phase):
        try:
            net = load_text(
                text,
                phase,
                where=where,
                beside=options.beside,
                level=options.level,
                stages=options.stages,
                lenient=options.lenient,
                input_shape=options.input_shape,
                given=options.given,
            )
        except RootgenError as error:
            if phase in phases:
                raise
            errors.append(error)
            notes.append(f"{error} (phase {phase} not looked at)")
        else:
            nets[phase] = net
            notes += [note for note in net.notes if note not in notes]
    if not nets:
        raise errors[0]
    return nets, notes


def _check(changes: Sequence[Change], plan: Plan, nets: Nets, where: object) -> None:
    """Refuse a plan that no layer can follow, or that names a layer which is not there."""
    names = {layer.name for net in nets.values() for layer in net.layers if layer.type in FORWARD_CONVOLUTIONS}
    check_named(plan, names, where)
    for change in changes:
        if compound.parts_of(change) and (why := compound.obstacle(change, nets)):
            raise change.layer.error(f"cannot be made several convolutions: {why}")
    if plan.basis and not any(change.basis for change in changes):
        why = next((change.without_basis for change in reversed(changes) if change.without_basis not in SETTLED), "")
        raise RootgenError(f"{plan} fits none of its spatial convolutions" + (f": {why}" if why else ""), where=where)
    if plan.kind == "original" and not any(isinstance(groups, Plan) for _, groups in plan.by_hand):
        return
    if all(change.kept == "on the image" for change in changes):
        unknown = any(not layer.shapes.known for net in nets.values() for layer in net.layers)
        raise RootgenError(
            "has no spatial convolution to give groups to, besides those on the image"
            + (", among the layers whose shapes are known" if unknown else ""),
            where=where,
            hint="say the size of the input with --input CxHxW, or of a blob with --shape" if unknown else None,
        )
    if all(change.kept for change in changes):
        last = next((change for change in reversed(changes) if change.kept not in SETTLED), changes[-1])
        raise RootgenError(
            f"{plan} fits none of its spatial convolutions: '{last.layer.name}': {last.kept}",
            where=where,
            hint=None if last.kept in SETTLED else "choose a number of groups that divides the channels",
        )


def _check_whole(nets: Nets, where: object) -> None:
    """Refuse a net with convolutions whose shapes are not known in any phase: they would stay as they are."""
    layers = {layer.index: layer for net in nets.values() for layer in net.layers}
    known = {layer.index for net in nets.values() for layer in net.layers if layer.shapes.known}
    lost = [layer.name for i, layer in layers.items() if i not in known and layer.type in FORWARD_CONVOLUTIONS]
    if lost:
        first = min(i for i in layers if i not in known)
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise RootgenError(
            f"stops at layer '{layers[first].name}' ({layers[first].type}), whose shapes are not known: '{lost[0]}'"
            f"{more} would get no groups",
            where=where,
            hint="say the size of the input with --input CxHxW, or of a blob with --shape; --partial groups the rest",
        )


def _edited(text: str, changes: Sequence[Change], inserted: Sequence[Change], where: object) -> str:
    """`text` with the groups changed, and a 1x1 convolution behind each layer of `inserted`."""
    fields = layer_fields(scan(text))
    edits = []
    if any(compound.parts_of(change) for change in changes):
        edit.check_removable(fields, where)
    for change in changes:
        field = fields[change.layer.index]
        if compound.parts_of(change):
            if change.basis and compound.in_lists(field):
                raise change.layer.error("its kernel or pad stands in a list", "write kernel_size: 3, pad: 1")
            edits.append(compound.edit_of(text, field, change, mixing=change in inserted))
            continue
        if change.after != change.before:
            edits.append(edit.set_group(text, field, change.after))
        if change in inserted:
            edits += edit.insert_mixing(text, field, change.layer.param)
    return edit.apply(text, edits)


def _obstacle(change: Change, nets: Nets) -> str:
    """Why no 1x1 convolution can go in behind a layer; "" where one can."""
    layer = change.layer
    if len(layer.tops) != 1 or layer.param.convolution_param.axis != 1:
        return "it has several tops, or its channels are not on axis 1"
    blob = edit.between(layer.param)
    if any(blob in net.blobs for net in nets.values()):
        return f"there is a blob '{blob}' already"
    others = [other for net in nets.values() for other in net.layers]
    for name in edit.names_of_mixing(layer.param):
        if any(other.name == name for other in others):
            return f"there is a layer '{name}' already"
    for name in edit.names_of_shared(layer.param):
        if any(spec.name == name for other in others for spec in other.param.param):
            return f"there is a param '{name}' already"
    return ""


def _warnings(changes: Sequence[Change], inserted: Sequence[Change], nets: Nets, inserting: bool) -> Iterator[str]:
    """A line for the layers that lose groups, and one per layer whose groups nothing mixes."""
    fewer = [change for change in changes if change.after < change.before]
    if fewer:
        one = fewer[0]
        yield (
            f"{one.layer.where}: had {one.before} groups and gets {one.after}, so that it grows"
            + (f"; so do {len(fewer) - 1} more" if len(fewer) > 1 else "")
        )
    for change in changes:
        if change.needs_mixing and change not in inserted:
            obstacle = _obstacle(change, nets) if inserting or change.basis else ""
            groups = "basis" if change.basis else f"{change.after} groups"
            what = f"{change.layer.where}: no 1x1 convolution mixes its {groups} before {change.unmixed}"
            yield f"{what} (none put in: {obstacle})" if obstacle else f"{what} (--insert-1x1 puts one in)"
