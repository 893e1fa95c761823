"""Data layers: what is read, cropped, mirrored and subtracted, batch by batch."""

from __future__ import annotations

import io
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from engine_nets import write_database, write_mean, write_records
from PIL import Image

from rootgen.engine import open_network
from rootgen.engine.feed import Feed
from rootgen.errors import RootgenError
from rootgen.net import read as nets
from rootgen.proto import schema

pytestmark = pytest.mark.torch

RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 256, (3, 8, 10), np.uint8) for _ in range(7)]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return write_database(tmp_path_factory.mktemp("feed") / "lmdb", IMAGES, range(7))


def feed_of(
    source, transform: str = "", phase: str = "TEST", *, batch: int = 3, seed: int = 0, data: str = "backend: LMDB"
) -> Feed:
    text = f"""layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ {transform} }}
        data_param {{ source: "{source}" batch_size: {batch} {data} }} }}"""
    return Feed(nets.parse(text, phase).layers[0], phase, seed)


def test_batches_go_round_and_any_can_be_had_first(database):
    feed = feed_of(database)
    labels = [feed.batch(i)["label"].tolist() for i in range(5)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4], [5, 6, 0]]
    np.testing.assert_array_equal(feed.batch(3)["data"], np.stack(IMAGES[2:5]).astype(np.float32))  # back
    assert feed_of(database).batch(4)["label"].tolist() == [5, 6, 0]  # at once
    assert feed.waited > 0


@pytest.mark.parametrize(
    ("cores", "processes", "threads"),
    [(1, None, 1), (16, None, 4), (96, None, 4), (96, "8", 3), (16, "8", 1), (2, "8", 1), (16, "x", 4), (16, "0", 4)],
)
def test_processes_of_one_machine_share_its_cores(database, monkeypatch, cores, processes, threads):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    feed = feed_of(database)
    assert len(feed._lanes) == threads
    feed.close()


@pytest.mark.parametrize("lanes", [2, 3])
def test_several_threads_give_the_same_batches(database, lanes):
    layer = feed_of(database, "crop_size: 7 mirror: true", "TRAIN").layer
    one, several = (Feed(layer, "TRAIN", 0, lanes=count) for count in (1, lanes))
    for number in (0, 1, 2, 3, 4, 9, 10, 4, 5):
        for top, values in one.batch(number).items():
            np.testing.assert_array_equal(several.batch(number)[top], values)


def test_testing_takes_the_centre(database):
    out = feed_of(database, "crop_size: 5").batch(0)["data"]
    np.testing.assert_array_equal(out, np.stack(IMAGES[:3])[:, :, 1:6, 2:7].astype(np.float32))


def crops_of(image: np.ndarray, size: int):
    """(row, column, mirrored) -> window."""
    for row in range(image.shape[1] - size + 1):
        for col in range(image.shape[2] - size + 1):
            window = image[:, row : row + size, col : col + size].astype(np.float32)
            yield (row, col, False), window
            yield (row, col, True), window[:, :, ::-1]


def test_training_crops_and_mirrors_every_way_and_again_for_the_same_batch(database):
    feed = feed_of(database, "crop_size: 7 mirror: true", "TRAIN", batch=7)
    seen = set()
    for number in range(60):
        batch = feed.batch(number)["data"]
        for image, out in zip(IMAGES, batch, strict=True):
            found = [how for how, window in crops_of(image, 7) if np.array_equal(window, out)]
            assert len(found) == 1
            seen.add(found[0])
    assert seen == {(row, col, mirrored) for row in range(2) for col in range(4) for mirrored in (False, True)}
    np.testing.assert_array_equal(
        feed_of(database, "crop_size: 7 mirror: true", "TRAIN", batch=7).batch(59)["data"], batch
    )
    other = feed_of(database, "crop_size: 7 mirror: true", "TRAIN", batch=7, seed=1)
    assert (other.batch(59)["data"] != batch).any()


def test_mean_file_is_cropped_with_the_image_and_scaled(database, tmp_path):
    mean = RANDOM.random((3, 8, 10)).astype(np.float32)
    path = write_mean(tmp_path / "mean.binaryproto", mean)
    out = feed_of(database, f'crop_size: 5 scale: 0.5 mean_file: "{path}"').batch(0)["data"]
    wanted = (np.stack(IMAGES[:3]) - mean)[:, :, 1:6, 2:7] * np.float32(0.5)
    np.testing.assert_allclose(out, wanted, rtol=1e-6)


@pytest.mark.parametrize("values", [(100,), (10, 20, 30)])
def test_mean_values(database, values):
    out = feed_of(database, " ".join(f"mean_value: {value}" for value in values)).batch(0)["data"]
    wanted = np.stack(IMAGES[:3]) - np.array(values, np.float32).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(out, wanted)


def test_encoded_images_come_in_caffes_channel_order(tmp_path):
    records = []
    for i, image in enumerate(IMAGES[:3]):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)[:, :, ::-1].copy()).save(file, "PNG")  # BGR planes to RGB pixels
        records.append(schema.Datum(encoded=True, data=file.getvalue(), label=i).SerializeToString())
    out = feed_of(write_records(tmp_path / "lmdb", records)).batch(0)["data"]
    np.testing.assert_array_equal(out, np.stack(IMAGES[:3]).astype(np.float32))


def test_float_data(tmp_path):
    datum = schema.Datum(channels=1, height=1, width=2, float_data=[0.5, -1.5], label=3)
    feed = feed_of(write_records(tmp_path / "lmdb", [datum.SerializeToString()]), batch=1)
    assert feed.batch(0)["data"].ravel().tolist() == [0.5, -1.5]


def test_one_database_may_feed_two_layers(database):
    first, second = feed_of(database), feed_of(database)
    assert first.database is second.database
    assert first.batch(0)["label"].tolist() == second.batch(0)["label"].tolist()


@pytest.mark.parametrize("engine", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_shapes_that_the_net_gives_stand_beside_those_of_a_database(database, engine, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"""layer {{ name: "data" type: "Data" top: "data"
          data_param {{ source: "{database}" batch_size: 3 backend: LMDB }} }}
        layer {{ name: "dummy" type: "DummyData" top: "dummy" dummy_data_param {{
          shape {{ dim: 4 dim: 8 dim: 5 dim: 6 }} }} }}
        layer {{ name: "in" type: "Input" top: "in" input_param {{ shape {{ dim: 2 dim: 1 dim: 4 dim: 4 }} }} }}
        layer {{ name: "conv" type: "Convolution" bottom: "dummy" top: "conv"
          convolution_param {{ num_output: 2 kernel_size: 1 }} }}"""
    )
    blobs = open_network(path, engine=engine, device="cpu").blobs
    wanted = {"data": (3, 3, 8, 10), "dummy": (4, 8, 5, 6), "in": (2, 1, 4, 4), "conv": (4, 2, 5, 6)}
    assert dict(blobs) == wanted


@pytest.mark.parametrize(
    ("transform", "match"),
    [
        ("crop_size: 9", "layer 'data': crop_size 9 is larger than the images, 3x8x10"),
        ("mean_value: 1 mean_value: 2", "2 mean_value for 3 channels"),
    ],
)
def test_transformations_that_do_not_fit(database, transform, match):
    with pytest.raises(RootgenError, match=match):
        feed_of(database, transform).batch(0)


def test_leveldb_is_refused(database):
    with pytest.raises(RootgenError, match="backend is LEVELDB"):
        feed_of(database, data="")


def test_a_mean_of_another_size(database, tmp_path):
    path = write_mean(tmp_path / "mean.binaryproto", np.zeros((3, 4, 4), np.float32))
    with pytest.raises(RootgenError, match=r"mean.binaryproto: mean of 3x4x4 does not fit images of 3x8x10"):
        feed_of(database, f'mean_file: "{path}"')
    with pytest.raises(RootgenError, match="both mean_file and mean_value"):
        feed_of(database, f'mean_file: "{path}" mean_value: 3')


def test_names_with_a_zero_byte(database):
    with pytest.raises(RootgenError, match=r"layer 'data': 'mean\\x00' holds a zero byte"):
        feed_of(database, r'mean_file: "mean\000"')
    with pytest.raises(RootgenError, match=r"layer 'data': 'a\\x00b' holds a zero byte"):
        feed_of(r"a\000b")


def test_databases_that_cannot_be_read(tmp_path):
    with pytest.raises(RootgenError, match=r"nowhere: no such database.*rootgen data"):
        feed_of(tmp_path / "nowhere")
    with pytest.raises(RootgenError, match="the database is empty"):
        feed_of(write_records(tmp_path / "empty", []))
    (tmp_path / "folder").mkdir()
    with pytest.raises(RootgenError, match="not an LMDB, or a damaged one"):
        feed_of(tmp_path / "folder")
    (tmp_path / "folder" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(RootgenError, match="not an LMDB, or a damaged one"):
        feed_of(tmp_path / "folder")
    cut = write_database(tmp_path / "cut", IMAGES * 20, range(140))
    with (cut / "data.mdb").open("r+b") as file:
        file.truncate(16384)
    with pytest.raises(RootgenError, match=r"data.mdb: cut short: 16384 of \d+ bytes"):
        feed_of(cut)


def test_records_that_cannot_be_read(tmp_path):
    good = schema.Datum(channels=1, height=2, width=2, data=bytes(4)).SerializeToString()
    short = schema.Datum(channels=1, height=2, width=2, data=bytes(3)).SerializeToString()
    wide = schema.Datum(channels=1, height=2, width=3, data=bytes(6)).SerializeToString()
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\n"  # Pillow starts Ghostscript
    page = schema.Datum(encoded=True, data=eps).SerializeToString()
    garbage = schema.Datum(encoded=True, data=b"no picture").SerializeToString()
    head = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    bomb = schema.Datum(encoded=True, data=png).SerializeToString()
    for name, record, match in (
        ("bomb", bomb, "record '00000001': cannot decode an image"),
        ("short", short, "record '00000001': image of 1x2x2 holds 3 values"),
        ("wide", wide, "record '00000001': image of 1x2x3, another size than those before"),
        ("garbage", garbage, "record '00000001': cannot decode an image"),
        ("page", page, "record '00000001': cannot decode an image: of no format that Pillow knows"),
        ("cut", b"\x08", "record '00000001': not a binary Datum, or cut short"),
    ):
        feed = feed_of(write_records(tmp_path / name, [good, record]), batch=2)
        with pytest.raises(RootgenError, match=match):
            feed.batch(0)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as a program may have it
def test_an_image_of_too_many_pixels_is_refused_whatever_the_warnings(tmp_path):
    head = b"IHDR" + struct.pack(">IIBBBBB", 1 << 14, 1 << 13, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    png += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    record = schema.Datum(encoded=True, data=png).SerializeToString()
    filters = list(warnings.filters)
    with pytest.raises(RootgenError, match="16384 x 8192 pixels, more than"):
        feed_of(write_records(tmp_path / "lmdb", [record]), batch=1)
    assert warnings.filters == filters


def test_a_database_made_again_is_read_anew(tmp_path):
    write_database(tmp_path / "lmdb", IMAGES, range(7))
    assert feed_of(tmp_path / "lmdb").batch(0)["label"].tolist() == [0, 1, 2]
    shutil.rmtree(tmp_path / "lmdb")
    write_database(tmp_path / "lmdb", IMAGES, range(10, 17))
    assert feed_of(tmp_path / "lmdb").batch(0)["label"].tolist() == [10, 11, 12]
