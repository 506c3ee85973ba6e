"""How do vectors lie in a file with their keys, and are they as they were written?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlm2vec.errors import DataError
from vlm2vec.files import atomic_writer
from vlm2vec.vectors.keys import KEY_BYTES

_CHECKSUM_BYTES = 16


class Shard(NamedTuple):
    """A file of vectors, which never changes.

    It consists of arrays as `np.save` writes them: uint8 keys [N, 16], where a key has several rows their int64 numbers
    [N], float32 rows [T, dim], and uint8 checksums [2, 16] of what stands before the rows and of the rows. The first is
    compared by `open_shard`, the second by `rows`. A shard without checksums, as older versions wrote them, is read
    unverified.

    Args:
        path: the file.
        dim: of its vectors.
        bounds: int64 [N + 1], at which row those of each of its N keys begin, and how many rows there are.
        offset: where the rows begin, in bytes.
        checksum: of the rows; None if none was written.
    """

    path: Path
    dim: int
    bounds: NDArray[np.int64]
    offset: int
    checksum: bytes | None

    def rows(self, *, verify: bool) -> NDArray[np.float32]:
        """All rows, mapped from the file.

        Args:
            verify: compare them with their checksum.

        Raises:
            DataError: the file has gone or is damaged.
        """
        shape = (int(self.bounds[-1]), self.dim)
        try:
            rows = np.memmap(self.path, dtype="<f4", mode="r", offset=self.offset, shape=shape)
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        if verify and self.checksum is not None and _checksum(rows.data) != self.checksum:
            raise _damaged(self.path, "its vectors are not those that were written")
        return rows


def write_shard(
    path: Path, keys: Iterable[bytes], rows: Sequence[NDArray[np.float32]], dim: int, *, counted: bool
) -> None:
    """Write a shard, whole or not at all.

    Args:
        rows: one array [n, dim] for each key where they are counted, otherwise arrays with a row for each key, end to
            end.

    Raises:
        OSError: it cannot be written.
    """
    counts = np.array([len(array) for array in rows], dtype="<i8")
    head = BytesIO()
    key_bytes = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
    npy.write_array(head, key_bytes, allow_pickle=False)
    if counted:
        npy.write_array(head, counts, allow_pickle=False)
    shape = (int(counts.sum()), dim)
    npy.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with atomic_writer(path) as stream:
        stream.write(head.getbuffer())
        # Array by array, so that they need not lie in memory a second time.
        written = blake2b(digest_size=_CHECKSUM_BYTES)
        for array in rows:
            part = np.ascontiguousarray(array, dtype="<f4").data
            written.update(part)
            stream.write(part)
        stream.write(_footer(_checksum(head.getbuffer()), written.digest()))


def open_shard(path: Path, dim: int, *, counted: bool) -> tuple[Shard, list[bytes]]:
    """A shard and its keys, without its rows.

    Raises:
        DataError: the file has gone, is damaged, or holds something else.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            keys = _read_array(stream, size)
            if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
                raise ValueError(f"its keys are {keys.dtype} {keys.shape}")
            bounds = _read_bounds(stream, size, len(keys)) if counted else np.arange(len(keys) + 1)
            shape, dtype = _read_header(stream)
            num_rows, offset = int(bounds[-1]), stream.tell()
            if (shape, dtype) != ((num_rows, dim), np.dtype("<f4")):
                raise ValueError(f"its vectors are {dtype} {shape}")
            end = offset + num_rows * dim * 4
            checksum = None if size == end else _read_checksums(stream, offset, end)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return Shard(path, dim, bounds, offset, checksum), [row.tobytes() for row in keys]


def _checksum(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def _footer(*checksums: bytes) -> bytes:
    """The last array of a shard, in bytes."""
    stream = BytesIO()
    array = np.frombuffer(b"".join(checksums), dtype=np.uint8).reshape(len(checksums), _CHECKSUM_BYTES)
    npy.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _read_checksums(stream: BinaryIO, offset: int, end: int) -> bytes:
    """The checksum of the rows, which lie from `offset` to `end`; that of what stands before them is compared."""
    stream.seek(end)
    footer = stream.read()
    stream.seek(0)
    of_rows = footer[-_CHECKSUM_BYTES:]
    if footer != _footer(_checksum(stream.read(offset)), of_rows):
        raise ValueError("its keys, its sizes or its checksums are not those that were written")
    return of_rows


def _read_bounds(stream: BinaryIO, size: int, num_keys: int) -> NDArray[np.int64]:
    stored = _read_array(stream, size)
    if stored.dtype != np.dtype("<i8") or stored.shape != (num_keys,):
        raise ValueError(f"its {num_keys} keys have counts {stored.dtype} {stored.shape}")
    counts = stored.astype(np.int64, copy=False)
    if (counts < 1).any():
        raise ValueError("a key of it has a count below 1")
    # More rows than bytes; their sum may not fit into 64 bits.
    if num_keys and int(counts.max()) > size:
        raise ValueError(f"a key of it has {counts.max()} rows, and the file {size} bytes")
    return np.concatenate([[0], np.cumsum(counts)])


def _read_array(stream: BinaryIO, size: int) -> NDArray[np.generic]:
    """The next array of a file of `size` bytes.

    Raises:
        ValueError: there is none, or not all of it.
    """
    shape, dtype = _read_header(stream)
    wanted = prod(shape) * dtype.itemsize
    if wanted > size - stream.tell():
        raise ValueError(f"an array of {wanted} bytes is to follow byte {stream.tell()} of {size}")
    return np.frombuffer(stream.read(wanted), dtype).reshape(shape)


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the next array, which must be as `write_shard` writes them: by rows, and no Python objects.

    Raises:
        ValueError: the bytes say no such thing.
    """
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("its format is unknown")
    try:
        # numpy evaluates the header as a Python literal: a damaged one fails in every way that literals do, or warns.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape, by_columns, dtype = npy.read_array_header_1_0(stream)
    except Exception as error:
        raise ValueError(f"an array's header is damaged: {error}") from error
    if by_columns or dtype.hasobject or dtype.itemsize == 0 or any(length < 0 for length in shape):
        raise ValueError(f"an array of {dtype} {shape} was not written by this package")
    return shape, dtype


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"the stored vectors {path} cannot be read: {reason}; delete the file, and its vectors are made anew"
    )
