"""BlobProto and NumPy arrays.

The floats are moved as one block of bytes in protobuf's wire form: element by element, as the Python
classes offer it, a ResNet-50 takes ten seconds to write.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from rootgen.errors import RootgenError
from rootgen.net.layers.checks import stored_shape
from rootgen.proto import schema
from rootgen.text import shape_text

_FIELDS = {"data": "<f4", "diff": "<f4", "double_data": "<f8", "double_diff": "<f8"}


def to_array(blob: Any, where: object) -> np.ndarray:
    """Values of a BlobProto, float32 or float64, in its own shape."""
    name = "double_data" if blob.double_data else "data"
    kind = np.dtype(_FIELDS[name])
    count = len(getattr(blob, name))
    only = type(blob)()
    only.CopyFrom(blob)
    for other in [field.name for field, _ in blob.ListFields() if field.name != name]:
        only.ClearField(other)
    raw = only.SerializePartialToString()
    values = np.frombuffer(raw, kind, count, offset=len(raw) - count * kind.itemsize)
    shape = stored_shape(blob)
    if min(shape, default=0) < 0 or count != prod(shape):
        raise RootgenError(f"blob of shape {shape_text(shape)} holds {count} values", where=where)
    return values.reshape(shape)


def from_array(values: np.ndarray) -> Any:
    """A BlobProto with the shape and values of an array, as float32."""
    blob = schema.BlobProto()
    blob.shape.dim.extend(values.shape)
    payload = np.ascontiguousarray(values, "<f4").tobytes()
    tag = schema.BlobProto.DESCRIPTOR.fields_by_name["data"].number << 3 | 2  # wire type 2: length, then bytes
    blob.MergeFromString(bytes([tag]) + _varint(len(payload)) + payload)
    return blob


def _varint(number: int) -> bytes:
    """An unsigned integer in protobuf's base-128 form."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
