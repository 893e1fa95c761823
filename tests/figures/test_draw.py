"""Pictures of nets: what stands where, what is drawn once, and files that are whole, equal and well-formed."""

import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from matplotlib.collections import Collection
from matplotlib.text import Text

import rootgen
from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.figures import draw as picture
from rootgen.figures.diagram import diagram
from rootgen.figures.layout import Layout
from rootgen.figures.routes import Mouth, bend, ribbons, routes
from rootgen.generator import architectures as tables
from rootgen.generator import render
from rootgen.generator.render import NetOptions
from rootgen.grouping import Plan
from rootgen.net import read as net
from rootgen.net import shapes
from rootgen.net.cost import count


def drawn(arch, row="Orig.", **options):
    graph = net.parse(render.net(tables.architecture(arch), Plan.named(row), NetOptions(phase="deploy")))
    return diagram(shapes.infer(graph), **options)


def faces(svg):
    """Faces of solids with white edges."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: #ffffff', svg)
    return sum(path.count("M") for path in paths)


@pytest.fixture
def nin(tmp_path):
    path = tmp_path / "nin.prototxt"
    path.write_text(render.net(tables.architecture("nin"), Plan("root", 4), NetOptions(phase="deploy")))
    return path


def test_nin_is_one_line_of_three_stages_and_the_end():
    found = drawn("nin", "root-4")
    assert found.resolutions == [(32, 32), (16, 16), (8, 8), (1, 1)]
    assert {node.lane for node in found.nodes} == {0}
    assert [node.rank for node in found.nodes] == list(range(14))
    assert {node.layer.name: node.group for node in found.nodes if node.group > 1} == {"conv2a": 4, "conv3a": 2}
    assert found.nodes[1].folded == ["BatchNorm", "ReLU"]
    assert not found.repeats


@pytest.mark.parametrize(
    ("arch", "times"),
    [
        ("resnet50", [2, 3, 5, 2]),
        ("resnet101", [2, 3, 22, 2]),
        ("resnet152", [2, 7, 35, 2]),
        ("resnet200", [2, 23, 35, 2]),
        ("googlenet", [2, 5, 2]),
    ],
)
def test_equal_blocks_are_drawn_once(arch, times):
    assert [repeat.times for repeat in drawn(arch).repeats] == times


def test_a_repeated_block_says_where_it_ends():
    found = drawn("resnet50")
    assert [found.nodes[repeat.last].last for repeat in found.repeats] == ["res2c", "res3d", "res4f", "res5c"]


def test_every_block_on_request():
    found = drawn("resnet50", fold_repeats=False)
    assert not found.repeats
    assert sum(node.layer.type == "Eltwise" for node in found.nodes) == 16


@pytest.mark.parametrize("arch", tables.architectures())
def test_no_two_nodes_in_one_place_and_no_edge_against_the_flow(arch):
    found = drawn(arch)
    places = [(node.rank, node.lane) for node in found.nodes]
    assert len(set(places)) == len(places)
    assert [node.layer.name for node in found.nodes if not node.edges] == ["data"]  # all others are led to
    assert all(found.nodes[edge].rank < node.rank for node in found.nodes for edge in node.edges)
    assert found.stages == sorted(found.stages) and len(set(found.stages)) > 2
    bent = [place for bend in found.bends.values() for place in bend]
    assert not set(bent) & set(places)


def test_the_branches_of_an_inception_module_lie_side_by_side():
    found = drawn("googlenet")
    rank = next(node.rank for node in found.nodes if node.layer.name == "inception_3a/1x1")
    lanes = sorted(node.lane for node in found.nodes if node.rank == rank)
    assert lanes == [-1.5, -0.5, 0.5, 1.5]


def test_an_auxiliary_head_stays_in_the_column_where_it_begins():
    graph = net.parse(render.net(tables.architecture("googlenet")), "TRAIN")
    found = diagram(shapes.infer(graph, input_shape=(3, 224, 224)))
    assert found.resolutions == [(224, 224), (112, 112), (56, 56), (28, 28), (15, 15), (8, 8), (2, 2), (1, 1)]
    at = {node.layer.name: found.stages[node.rank] for node in found.nodes}
    heads = [stage for name, stage in at.items() if name.startswith(("loss1/", "loss2/"))]
    assert set(heads) == {at["inception_4a/output"]} == {4}
    assert (at["pool4/3x3_s2"], at["loss3/loss"]) == (5, 7)
    assert {node.layer.name for node in found.nodes if node.aside} == {
        f"loss{i}/{name}" for i in (1, 2) for name in ("ave_pool", "conv", "fc", "classifier", "loss")
    }
    places = [(node.rank, node.lane) for node in found.nodes]
    assert len(set(places)) == len(places)


def test_pixels_may_come_late():
    graph = net.parse("""layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 16 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 64 } }
        layer { name: "map" type: "Reshape" bottom: "y" top: "z" reshape_param { shape { dim: [1, 1, 8, 8] } } }
        layer { name: "c" type: "Convolution" bottom: "z" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
    """)
    assert diagram(shapes.infer(graph)).resolutions == [(1, 1), (8, 8), (6, 6)]


def test_svg_has_a_solid_per_group(nin, tmp_path):
    assert main(["draw", str(nin), "-o", str(tmp_path / "a.svg")]) == 0
    svg = (tmp_path / "a.svg").read_text()
    words = [each.text for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"conv2a", "4 groups", "2 groups", "16 × 16", "5 × 5, 192"} <= set(words)
    # Nine convolutions, two of them in 4 and 2 pieces, and the key's 5: 18 solids of three faces.
    assert faces(svg) == 3 * 18


def test_the_same_net_gives_the_same_file(nin, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert main(["draw", str(nin), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_formats(nin, tmp_path, suffix, magic):
    assert main(["draw", str(nin), "-o", str(tmp_path / f"a.{suffix}")]) == 0
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)


def test_resnet50_as_picture(tmp_path):
    source = Path(__file__).parents[2] / "prototxt" / "resnet50" / "root-32" / "deploy.prototxt"
    assert main(["draw", str(source), "-o", str(tmp_path / "a.svg")]) == 0
    assert "× 5, to res4f" in (tmp_path / "a.svg").read_text()


def test_readmes_picture_is_of_the_committed_net():
    root = Path(__file__).parents[2]
    if not (root / "plots").is_dir():
        pytest.skip("no plots folder beside the tests")
    shown = ET.parse(root / "plots" / "nin_root-8.svg")
    fresh = ET.fromstring(rootgen.draw(root / "prototxt" / "nin" / "root-8" / "deploy.prototxt").svg())
    for tag in ("text", "title"):
        name = f"{{http://www.w3.org/2000/svg}}{tag}"
        assert [each.text for each in shown.iter(name)] == [each.text for each in fresh.iter(name)]


def test_unknown_format(nin, tmp_path, capsys):
    assert main(["draw", str(nin), "-o", str(tmp_path / "a.gif")]) == 1
    assert capsys.readouterr().err.endswith("a.gif: cannot draw '.gif' (use .svg, .png or .pdf)\n")
    assert not (tmp_path / "a.gif").exists()


def test_dollars_in_names_are_no_formula(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'name: "a $x_$ net" layer { name: "$\\\\frac$" type: "Input" top: "a" '
        "input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }"
    )
    assert main(["draw", str(path), "-o", str(tmp_path / "a.svg")]) == 0


def test_nothing_to_draw():
    graph = net.parse('layer { name: "a" type: "DummyData" top: "a" } layer { name: "s" type: "Silence" bottom: "a" }')
    with pytest.raises(RootgenError, match="nothing to draw"):
        diagram(graph)


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ("type: 'Pooling' pooling_param { kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2 }", "max 1×3/1×2"),
        ("type: 'Pooling' pooling_param { pool: AVE kernel_size: 3 stride: 2 }", "average 3/2"),
        ("type: 'Pooling' pooling_param { kernel_size: 3 stride_h: 2 stride_w: 1 }", "max 3/2×1"),
        ("type: 'Convolution' convolution_param { num_output: 4 kernel_size: 3 stride: 2 }", "3 × 3, 4, stride 2"),
        ("type: 'Convolution' convolution_param { num_output: 4 kernel_size: [3, 1] }", "3 × 1, 4"),
        (
            "type: 'Convolution' convolution_param { num_output: 4 kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2 }",
            "1 × 3, 4, stride 1×2",
        ),
    ],
)
def test_windows_are_labelled_as_they_are(body, details):
    text = "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }"
    found = diagram(shapes.infer(net.parse(f"{text} layer {{ name: 'x' bottom: 'd' top: 'x' {body} }}")))
    assert found.nodes[-1].details == [details]


NAMES = [
    "a\\nb",
    "\\033[31mred\\033[0m",
    "\\342\\200\\256turned",
    "\\001",
    "<b>&\"'",
    "]]>",
    "--",
    "$\\\\frac$",
    "\\344\\270\\255",
]


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_names_from_files_make_no_other_picture(suffix, tmp_path, capsys):
    layers = "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "b{i}" top: "b{i + 1}" '
        f"convolution_param {{ num_output: 4 kernel_size: 1 }} }}\n"
        for i, name in enumerate(name.replace('"', "\\042") for name in NAMES)
    )
    path = tmp_path / "net.prototxt"
    path.write_text(
        'name: "n\\n\\001" layer { name: "in" type: "Input" top: "b0" '
        "input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }" + layers
    )
    assert main(["draw", str(path), "-o", str(tmp_path / f"a.{suffix}")]) == 0
    told = capsys.readouterr().err
    assert "UserWarning" not in told
    assert all(line.startswith("rootgen: ") for line in told.splitlines()), told
    if suffix == "svg":
        words = [each.text for each in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
        shown = {"a\\nb", "\\x1b[31mred\\x1b[0m", "\\u202eturned", "\\x01", "<b>&\"'", "]]>", "--", "$\\frac$", "中"}
        assert shown <= set(words)
        assert any(word.startswith("n\\n\\x01: ") for word in words)


def test_tables_and_logs_show_names_as_one_line(tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "d\\nata" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        'layer { name: "x\\033[2J\\342\\200\\256\\ny" type: "Odd" bottom: "a" top: "b" }'
    )
    main(["cost", str(path), "--all"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\u202e" not in out + err
    assert "\\x1b[2J\\u202e\\ny" in out + err


def test_large_pictures_take_a_line_and_a_face_collection(tmp_path):
    """What matplotlib is slow at, artists and paths, does not grow with the net, but for words."""
    deep = (
        'layer { name: "d" type: "Input" top: "b0" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        + "\n".join(
            f'layer {{ name: "c{i}" type: "Convolution" bottom: "b{i}" top: "b{i + 1}" '
            f"convolution_param {{ num_output: {4 + i % 3} kernel_size: 1 }} }}"
            for i in range(300)
        )
    )
    graph = shapes.infer(net.parse(deep))
    drawing = picture.picture(diagram(graph, fold_repeats=False), count(graph))
    artists = [each for each in drawing.figure.axes[0].get_children() if not isinstance(each, Text)]
    assert len(artists) < 30
    assert sum(len(each.get_paths()) for each in artists if isinstance(each, Collection)) < 60


INPUT = "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 1 dim: 48 dim: 9 dim: 9 } } }"


def chain(*bodies):
    """The diagram of layers that follow one another, called x0, x1, ..."""
    tops = ["d", *(f"x{i}" for i in range(len(bodies)))]
    layers = (
        f"layer {{ name: '{top}' bottom: '{tops[i]}' top: '{top}' {bodies[i]} }}" for i, top in enumerate(tops[1:])
    )
    return diagram(shapes.infer(net.parse(INPUT + "".join(layers))))


def conv(num_output=48, kernel=3, group=1):
    return (
        "type: 'Convolution' convolution_param "
        f"{{ num_output: {num_output} kernel_size: {kernel} pad: {kernel // 2} group: {group} }}"
    )


POOL = "type: 'Pooling' pooling_param { kernel_size: 3 }"


@pytest.mark.parametrize(
    ("bodies", "groups"),
    [
        ([conv(group=4), conv(kernel=1)], [[0, 1, 2, 3], [0, 1, 2, 3]]),  # parted, and merged at the 1x1
        ([conv(), conv(kernel=1)], []),
        ([conv(group=2), POOL, conv()], [[0, 1], [0, 1], [0, 1]]),  # a pooling mixes no channels
        ([conv(group=2), conv(group=3)], [[0, 1], [0, 0, 1, 1]]),  # the second of three reads from both
    ],
)
def test_ribbons_are_who_feeds_whom(bodies, groups):
    found = chain(*bodies)
    made = routes(Layout(found)).groups
    assert made == [group for each in groups for group in each]


def test_ribbons_part_from_one_place_and_end_at_the_blocks():
    layout = Layout(chain(conv(group=4), conv(kernel=1)))
    first = layout.extents[1]
    spans = [first.span(g / 4, (g + 1) / 4) for g in range(4)]
    assert spans[0][0] == pytest.approx(-first.across / 2) and spans[-1][1] == pytest.approx(first.across / 2)
    assert all(a[1] + first.gap == pytest.approx(b[0]) for a, b in itertools.pairwise(spans))
    begins, ends = Mouth(0.0, 0.0, 0.1), Mouth(1.0, 0.0, 0.1, first)
    outlines = [outline for outline, _ in ribbons(begins, ends, (1, 4), bend(4))]
    assert [(outline[4][1], outline[5][1]) for outline in outlines] == spans
    assert [outline[0] for outline in outlines] == [(0.0, pytest.approx(0.1 * (g / 4 - 0.5))) for g in range(4)]


def test_many_groups_are_few_blocks_without_edges(tmp_path):
    path = tmp_path / "net.prototxt"
    for group, edged in ((4, 4), (48, 0)):
        path.write_text(INPUT + f"layer {{ name: 'x' bottom: 'd' top: 'x' {conv(group=group)} }}")
        assert main(["draw", str(path), "-o", str(tmp_path / "a.svg")]) == 0
        svg = (tmp_path / "a.svg").read_text()
        assert faces(svg) == 3 * (edged + 3)  # the key has a sample of three
        assert ("of more than 32, 32 are drawn" in svg) == (group > 32)


def test_heading_counts_in_a_unit_that_suits(nin, tmp_path):
    assert main(["draw", str(nin), "-o", str(tmp_path / "a.svg")]) == 0
    assert "NiN root-4: 455 k parameters, 123 M multiply-adds an image" in (tmp_path / "a.svg").read_text()


def test_a_layer_is_in_the_panel_of_its_outputs_size():
    for arch in ("nin", "alexnet", "resnet50", "googlenet"):
        found = drawn(arch)
        sizes = {node.layer.name: node.resolution or (1, 1) for node in found.nodes}
        panels = {node.layer.name: found.resolutions[found.stages[node.rank]] for node in found.nodes}
        assert panels == sizes
    assert found.resolutions[0] == (224, 224)


def test_svg_says_what_each_layer_is(tmp_path):
    source = Path(__file__).parents[2] / "prototxt" / "googlenet" / "root-16" / "deploy.prototxt"
    assert main(["draw", str(source), "-o", str(tmp_path / "a.svg")]) == 0
    titles = [each.text for each in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}title")]
    of_conv2 = "conv2/3x3: Convolution, 3 × 3, 192, 16 groups; 7,104 parameters, 21.7 M multiply-adds"
    assert f"{of_conv2}\noutput 192 × 56 × 56, after BatchNorm, ReLU" in titles
    # of inceptions drawn once, each has its line
    folded = next(title for title in titles if title.startswith("inception_4a/3x3:"))
    assert [line.split(":")[0][10:12] for line in folded.split("\n")[:-1]] == ["4a", "4b", "4c", "4d", "4e"]
    assert main(["draw", str(source), "-o", str(tmp_path / "b.svg"), "--all-blocks"]) == 0
    every = [each.text for each in ET.parse(tmp_path / "b.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert len(every) > 2 * len(titles)


def test_widths_of_alike_inceptions_are_ranges():
    found = {node.layer.name: node for node in drawn("googlenet").nodes}
    assert found["inception_4a/3x3"].details == ["3 × 3, 208–320"]
    assert found["inception_4a/3x3"].last == "inception_4e/3x3"


def test_both_inputs_of_a_scale_are_drawn():
    """What weighs channels (a squeeze-and-excitation) is no head beside the network."""
    found = diagram(
        shapes.infer(
            net.parse(
                INPUT
                + f"layer {{ name: 'c' bottom: 'd' top: 'c' {conv()} }}"
                + "layer { name: 'p' bottom: 'c' top: 'p' "
                "type: 'Pooling' pooling_param { pool: AVE global_pooling: true } }"
                + "layer { name: 'f' bottom: 'p' top: 'f' type: 'Flatten' flatten_param { axis: 1 } }"
                + "layer { name: 's' bottom: 'c' bottom: 'f' top: 's' type: 'Scale' scale_param { axis: 0 } }"
                + f"layer {{ name: 'e' bottom: 's' top: 'e' {conv()} }}"
            )
        )
    )
    place = {node.layer.name: i for i, node in enumerate(found.nodes)}
    assert found.nodes[place["s"]].edges == [place["c"], place["f"]]
    assert found.resolutions == [(9, 9)]


def test_a_head_ends_a_fold():
    graph = net.parse(render.net(tables.architecture("googlenet")), "TRAIN")
    found = diagram(shapes.infer(graph, input_shape=(3, 224, 224)))
    ends = [(found.nodes[repeat.last].last, repeat.times) for repeat in found.repeats]
    assert ends == [("inception_3b/output", 2), ("inception_4d/output", 3), ("inception_5b/output", 2)]


def test_sequences_of_layers_are_drawn_once_if_they_are_equal():
    pair = [conv(group=48), conv(kernel=1)]
    assert [(repeat.first, repeat.last, repeat.times) for repeat in chain(*pair * 4).repeats] == [(1, 2, 4)]
    assert chain(*pair * 2).repeats == []
    assert chain(*[conv()] * 6).repeats == []
    assert chain(*[conv(group=48), conv(kernel=1), conv(group=24), conv(kernel=1)]).repeats == []


@pytest.mark.parametrize("arch", tables.architectures())
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_labels_are_hidden_by_no_label_node_or_line(arch, phase):
    graph = net.parse(
        render.net(tables.architecture(arch), Plan.named("root-2" if arch != "alexnet" else "Orig.")), phase
    )
    size = (3, 32, 32) if arch == "nin" else (3, 227, 227) if arch == "alexnet" else (3, 224, 224)
    layout = Layout(diagram(shapes.infer(graph, input_shape=size)))
    labels = [label_box(layout, i) for i in range(len(layout.extents))]
    bodies = [body(layout, i) for i in range(len(layout.extents))]
    for one, other in itertools.permutations(range(len(labels)), 2):
        assert not common(labels[one], bodies[other])
        assert not common(labels[one], labels[other])
    made = routes(layout)
    for line in [*made.lines, *made.ribbons]:
        for x, y in between(line):
            assert not any(left < x < right and bottom < y < top for left, bottom, right, top in labels)


def label_box(layout, i):
    size, (x, y) = layout.extents[i], layout.on_paper(*layout.of(i))
    if layout.one_line:
        top = y - size.across / 2 - 0.08
        return x - size.wide / 2, top - size.high, x + size.wide / 2, top
    left = x + size.across / 2 + size.right + 0.08
    return left, y - size.high / 2, left + size.wide, y + size.high / 2


def body(layout, i):
    size, (x, y) = layout.extents[i], layout.on_paper(*layout.of(i))
    wide, high = (size.along, size.across) if layout.one_line else (size.across, size.along)
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def common(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def between(line, step=0.02):
    """Points along a line."""
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        count = int(max(abs(x1 - x0), abs(y1 - y0)) / step) + 1
        for k in range(count + 1):
            yield x0 + (x1 - x0) * k / count, y0 + (y1 - y0) * k / count
