"""HDF5 files, read without trust in what their headers say, and never outside of themselves."""

import io
import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlstm.interop._cells import need, reading

_DEEPEST = 64
_LEAST_HEADER = 32
"""Bytes that any object of an HDF5 file takes in it, at the least."""
_SLACK, _MOST_EXPANSION = 2**24, 16
_DEFLATE, _SHUFFLE = 1, 2
_VARIABLE_LENGTH = 9
"""The class of a datatype whose values lie apart, behind their length and address."""


class H5File:
    """An open file and how much may still be read from it.

    Args:
        source: a path or an open binary file.
        size: its size in bytes.
    """

    def __init__(self, source: Any, size: int) -> None:
        self.h5py = need("h5py", "a Keras file", "'jaxlstm[keras]'")
        self.file = self.h5py.File(source, "r")
        self._source, self._size = source, size
        self._longest_texts: dict[str, int] = {}
        self._bytes_left = _SLACK + _MOST_EXPANSION * size

    def __enter__(self) -> "H5File":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def items(self) -> Iterator[tuple[str, Any]]:
        """All groups and datasets by path: those that the file itself holds, not what its soft links lead to."""
        pending, left = [("", self.file, 0)], self._size // _LEAST_HEADER
        while pending:
            path, item, depth = pending.pop()
            if path:
                yield path, item
            if not isinstance(item, self.h5py.Group):
                continue
            children = [name for name in item if isinstance(item.get(name, getlink=True), self.h5py.HardLink)]
            left -= len(children)
            if depth == _DEEPEST or left < 0:
                raise ValueError(f"groups more than {_DEEPEST} deep, or that hold each other.")
            pending += [(f"{path}/{name}".lstrip("/"), item[name], depth + 1) for name in reversed(children)]

    def text(self, item: Any, key: str) -> str | None:
        """An attribute that is text, or None."""
        name = key.encode()
        if not self.h5py.h5a.exists(item.id, name):
            return None
        attribute = self.h5py.h5a.open(item.id, name)
        if attribute.shape != () or attribute.get_storage_size() > self._size:
            return None
        if attribute.get_type().is_variable_str() and self._longest_text(key) > self._size:
            raise ValueError(f"its {key} claims to be a text of {self._longest_text(key)} bytes.")
        value = item.attrs[key]
        return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None

    def _longest_text(self, key: str) -> int:
        """What attributes of this name claim, at the most: libhdf5 takes that much memory before it looks for it."""
        if key not in self._longest_texts:
            with self._bytes() as data:
                self._longest_texts[key] = max(claimed_lengths(data, key), default=0)
        return self._longest_texts[key]

    def _bytes(self) -> memoryview | mmap.mmap:
        """The file's, not copied."""
        if isinstance(self._source, io.BytesIO):
            return self._source.getbuffer()
        with open(self._source, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def array(self, dataset: Any) -> np.ndarray:
        """A dataset's values, all of which the file holds."""
        with reading(dataset.name):
            if dataset.is_virtual or dataset.external:
                raise ValueError("its values are kept in another file.")
            if dataset.dtype.hasobject:
                raise ValueError("its values are texts or lists: expected numbers.")
            plist = dataset.id.get_create_plist()
            filters = [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]
            stored = dataset.id.get_storage_size()
            claimed = dataset.nbytes
            if not filters and claimed > min(stored, self._size):
                raise ValueError(f"claims {claimed} bytes, of which the file holds {stored}.")
            self._bytes_left -= claimed
            if self._bytes_left < 0:
                raise ValueError(f"claims {claimed} bytes, far more than a file of {self._size} bytes holds.")
            values = self._inflated(dataset, filters) if filters else dataset[()]
            if values.dtype == "V2" and self.text(dataset, "dtype") == "bfloat16":
                values = values.view(jnp.bfloat16)
            return values

    def _inflated(self, dataset: Any, filters: list[int]) -> np.ndarray:
        """Of compressed chunks. libhdf5 would let one grow to whatever its bytes say."""
        if not set(filters) <= {_DEFLATE, _SHUFFLE}:
            raise ValueError("compressed otherwise than by gzip. Write it anew without compression.")
        size, itemsize = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize, dataset.dtype.itemsize
        if size > max(dataset.nbytes, _SLACK):
            raise ValueError(f"claims chunks of {size} bytes for {dataset.nbytes} in all.")
        values = np.zeros(dataset.shape, dataset.dtype)
        for k in range(dataset.id.get_num_chunks()):
            start = dataset.id.get_chunk_info(k).chunk_offset
            mask, data = dataset.id.read_direct_chunk(start)
            for place, each in reversed(list(enumerate(filters))):
                if mask & 1 << place:
                    continue
                if each == _DEFLATE:
                    data = zlib.decompressobj().decompress(data, size)
                else:
                    data = np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()
            chunk = np.frombuffer(data, dataset.dtype).reshape(dataset.chunks)
            place = tuple(slice(s, s + n) for s, n in zip(start, dataset.chunks, strict=True))
            target = values[place]
            target[...] = chunk[tuple(slice(n) for n in target.shape)]
        return values


def claimed_lengths(data: bytes | memoryview | mmap.mmap, key: str) -> Iterator[int]:
    """The length that each text of variable length claims among the attributes of this name in a file's bytes.

    An attribute message is a header, its name, a datatype, a dataspace and the value, here a length and an address.

    Source: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html#AttributeMessage
    """
    for match in re.finditer(re.escape(key.encode() + b"\0"), data):
        for version, header, unit in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
            if match.start() < header:
                continue
            found_version, _, *sizes = struct.unpack_from("<BBHHH", data, match.start() - header)
            name, datatype, dataspace = (-(-size // unit) * unit for size in sizes)
            kind, value = match.start() + name, match.start() + name + datatype + dataspace
            fits = found_version == version and sizes[0] == len(match[0]) and value + 4 <= len(data)
            if fits and data[kind] & 0xF == _VARIABLE_LENGTH:
                yield struct.unpack_from("<I", data, value)[0]
