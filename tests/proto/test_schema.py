"""Caffe's messages: the same as caffe.proto, lossless in binary, in a pool of their own, with old and new protobuf."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from google.protobuf import descriptor_pb2

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.proto import schema


def facts(file: descriptor_pb2.FileDescriptorProto) -> dict[str, tuple]:
    """What a file descriptor defines, apart from names of JSON fields and comments."""
    found = {}

    def enums(prefix, owner):
        for enum in owner.enum_type:
            found[prefix + enum.name] = tuple((value.name, value.number) for value in enum.value)

    enums("", file)
    for message in file.message_type:
        assert not message.nested_type
        enums(f"{message.name}.", message)
        found[message.name] = tuple(
            sorted(
                (
                    field.number, field.name, field.label, field.type, field.type_name,
                    field.default_value, field.options.packed,
                )
                for field in message.field
            )
        )  # fmt: skip
    return found


def test_the_schema_is_caffes(caffe_tree, tmp_path):
    if not find_spec("grpc_tools"):
        pytest.skip("grpcio-tools, which reads .proto files, is not installed")
    out = tmp_path / "caffe.desc"
    folder = caffe_tree / "src/caffe/proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={out}", "caffe.proto"]
    subprocess.run(command, check=True, capture_output=True)
    (theirs,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    ours = facts(schema._file())
    assert ours.keys() == facts(theirs).keys()
    for name, fields in facts(theirs).items():
        assert ours[name] == fields, name


def test_messages_by_name():
    assert schema.NetParameter is schema.message("NetParameter")
    assert schema.NetParameter().DESCRIPTOR.full_name == "caffe.NetParameter"
    with pytest.raises(AttributeError, match=r"no message 'NetParameters' \(did you mean 'NetParameter'\?\)"):
        _ = schema.NetParameters
    with pytest.raises(RootgenError, match="no message 'Nonsense'"):
        schema.message("Nonsense")
    assert not hasattr(schema, "_nothing")


def test_defaults_and_packing_are_caffes():
    conv = schema.ConvolutionParameter()
    assert (conv.group, conv.bias_term, conv.axis, conv.engine) == (1, True, 1, 0)
    assert schema.SolverParameter().regularization_type == "L2"
    assert schema.TransformationParameter().scale == 1
    blob = schema.BlobProto(data=[1.0, 2.0])
    assert blob.SerializeToString() == b"\x2a\x08\x00\x00\x80\x3f\x00\x00\x00\x40"  # one packed run of field 5


def test_unknown_binary_fields_survive(tmp_path):
    layer = schema.LayerParameter(name="x")
    foreign = layer.SerializeToString() + b"\xa2\x4b\x03abc" + b"\xf8\x7f\x05"  # fields 1204 (bytes) and 2047 (varint)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06" + bytes([len(foreign)]) + foreign)
    net = schema.read_binary(path, schema.NetParameter)
    assert net.layer[0].name == "x"
    assert schema.to_bytes(net) == path.read_bytes()
    net.layer[0].name = "y"
    assert b"\xa2\x4b\x03abc" in schema.to_bytes(net)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file where a binary NetParameter was expected"),
        (b"name: 'text'", r"not a binary NetParameter, or cut short \(12 bytes read\)"),
        (schema.NetParameter(name="a" * 50).SerializeToString()[:-5], r"or cut short \(47 bytes read\)"),
        (
            schema.NetParameter(layer=[{"clip_param": {"min": 1}}]).SerializePartialToString(),
            "lacks the required field",
        ),
    ],
)
def test_broken_files_are_refused(content, message, tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(RootgenError, match=message) as caught:
        schema.read_binary(path, schema.NetParameter)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(RootgenError, match="cannot read"):
        schema.read_binary(tmp_path / "absent", schema.NetParameter)


PROBE = """
from google.protobuf import __version__, descriptor_pb2, descriptor_pool
from rootgen.net import read as net
from rootgen.proto import prototxt, schema

# Another caffe.proto, as pycaffe's caffe_pb2 registers it in the default pool.
other = descriptor_pb2.FileDescriptorProto()
other.CopyFrom(schema._file())
other.name = "caffe.proto"
descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
found = descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")
assert found is not schema.NetParameter.DESCRIPTOR

text = "name: 'n' input: 'd' input_dim: [1, 3, 4, 4] layer { name: 'r' type: 'ReLU' bottom: 'd' top: 'd' }"
msg = prototxt.parse(text, schema.NetParameter)
assert prototxt.parse(prototxt.format(msg), schema.NetParameter) == msg
assert schema.parse_bytes(schema.to_bytes(msg), schema.NetParameter, "x") == msg
assert [layer.type for layer in net.parse(text).layers] == ["Input", "ReLU"]
print(__version__)
"""


def test_lives_beside_another_caffe_proto_in_the_default_pool():
    command = [sys.executable, "-W", "error", "-c", PROBE]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(paths.PACKAGE.parent)}, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.21.12", "5.29.5", "6.33.0", "7.35.0"])
def test_protobuf_from_the_oldest_to_the_newest(version, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        f"--target={tmp_path}",
        f"protobuf=={version}",
    ]
    installed = subprocess.run(command, check=False, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install protobuf {version}: {installed.stderr.strip().splitlines()[-1]}")
    environment = {"PYTHONPATH": f"{tmp_path}:{paths.PACKAGE.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], check=True, env=environment, capture_output=True, text=True, timeout=60
    )
    assert re.match(version.split(".")[0], done.stdout)
