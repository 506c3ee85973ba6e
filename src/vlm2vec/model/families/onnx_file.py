"""How is a graph written down as an ONNX file, without the package that usually does it?

An ONNX file is one message of protocol buffers. The few kinds of fields that a graph of constants and nodes needs are
written here; numbers of fields and types are those of onnx.proto (https://github.com/onnx/onnx, IR version 10).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Attribute: TypeAlias = int | float | str | Sequence[int]
Port: TypeAlias = tuple[str, type[np.generic], Sequence[int | str]]
"""Name, type and shape of an input or output; a dimension with a name may have any size."""

_IR_VERSION = 10
# Has Gelu and LayerNormalization.
_OPSET = 20
_TYPES: dict[str, int] = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "float16": 10}
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


class OnnxGraph:
    """A graph that is being written: every method gives the name of a value, which later nodes take as an input."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._count = 0

    def constant(self, value: NDArray[np.generic]) -> str:
        """A value that is stored in the file."""
        name = self._name("c")
        dims = b"".join(_number(1, size) for size in value.shape)
        stored = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        head = dims + _number(2, _TYPES[value.dtype.name]) + _text(8, name)
        self._constants.append(_block(5, head + _block(9, stored)))
        return name

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """The first output of an operator of the standard."""
        name = self._name("v")
        written = b"".join(_text(1, one) for one in inputs) + _text(2, name) + _text(4, op)
        for key, value in attributes.items():
            written += _block(5, _text(1, key) + _attribute(value))
        self._nodes.append(_block(1, written))
        return name

    def to_bytes(self, inputs: Iterable[Port], output: Port, value: str) -> bytes:
        """The file.

        Args:
            inputs: of the graph; nodes know them by these names.
            output: of the graph.
            value: that is given as the output.
        """
        last = _block(1, _text(1, value) + _text(2, output[0]) + _text(4, "Identity"))
        graph = b"".join([*self._nodes, last, _text(2, "vlm2vec"), *self._constants])
        graph += b"".join(_block(11, _port(port)) for port in inputs) + _block(12, _port(output))
        return _number(1, _IR_VERSION) + _text(2, "vlm2vec") + _block(8, _number(2, _OPSET)) + _block(7, graph)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"


def _port(port: Port) -> bytes:
    name, kind, shape = port
    dims = b"".join(_block(1, _number(1, one) if isinstance(one, int) else _text(2, one)) for one in shape)
    tensor = _number(1, _TYPES[np.dtype(kind).name]) + _block(2, dims)
    return _text(1, name) + _block(2, _block(1, tensor))


def _attribute(value: Attribute) -> bytes:
    if isinstance(value, float):
        return b"\x15" + np.array(value, "<f4").tobytes() + _number(20, _FLOAT)
    if isinstance(value, int):
        return _number(3, value) + _number(20, _INT)
    if isinstance(value, str):
        return _text(4, value) + _number(20, _STRING)
    return b"".join(_number(8, one) for one in value) + _number(20, _INTS)


def _text(field: int, value: str) -> bytes:
    return _block(field, value.encode())


def _block(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    # Negative numbers are written as 64 bits in two's complement.
    value &= (1 << 64) - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
