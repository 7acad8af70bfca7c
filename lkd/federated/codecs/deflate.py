"""`Deflate`: the parts of another codec, compressed without loss."""

import zlib

import numpy as np
import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.codecs.base import Codec, Form
from lkd.federated.protocol.tensors import Tensors

BYTES = -1
"""Stands in a form for a length that is not known before."""


class Deflate(Codec):
    """Compresses the parts of another codec by DEFLATE (zlib), without loss.

    That pays for whole numbers with many small ones among them, such as those of `Int8`; numbers of 16 or 32
    bits hardly become smaller.

    Args:
        codec: The other codec.
        level: 1 is fastest, 9 smallest.

    Example:
        >>> from lkd.federated.codecs.int8 import Int8
        >>> codec, tensor = Deflate(Int8()), torch.zeros(100, 100)
        >>> sum(part.nbytes for part in codec.encode(tensor).values()) < 100
        True
    """

    def __init__(self, codec: Codec, level: int = 6) -> None:
        if not isinstance(codec, Codec) or isinstance(codec, Deflate):
            raise TypeError(f"Deflate(codec={type(codec).__name__}) takes another codec, such as Int8().")
        expect(level=level, ge=1, le=9)
        super().__init__(codec.error_feedback)
        self.codec, self.level = codec, level

    def __repr__(self) -> str:
        return f"Deflate({self.codec!r}, level={self.level})"

    def form(self, like: Tensor) -> Form:
        """Returns the names of the other codec's parts, as bytes."""
        return {name: ((BYTES,), torch.uint8) for name in self.codec.form(like)}

    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Encodes by the other codec, and compresses each part."""
        found = {}
        for name, part in self.codec.encode(tensor, start).items():
            raw = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            found[name] = torch.from_numpy(np.frombuffer(zlib.compress(raw, self.level), np.uint8).copy())
        return found

    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Restores the parts, never more bytes than they may have, and decodes them.

        Raises:
            ValueError: If they are no parts of such a tensor.
        """
        return self.codec.decode(self._restored(parts, like), like)

    def start(self, parts: Tensors, like: Tensor) -> Tensor | None:
        """Returns what the other codec does."""
        return self.codec.start(self._restored(parts, like), like)

    def _restored(self, parts: Tensors, like: Tensor) -> Tensors:
        found = {}
        for name, (shape, dtype) in self.codec.form(like).items():
            size = torch.Size(shape).numel() * dtype.itemsize
            reader = zlib.decompressobj()
            try:
                raw = reader.decompress(parts[name].cpu().numpy().tobytes(), size + 1)
            except zlib.error as error:
                raise ValueError(f"{name} is not compressed by zlib ({error})") from error
            if len(raw) != size or not reader.eof:
                raise ValueError(f"{name} holds more or less than {size} bytes")
            flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            found[name] = flat.view(shape).to(like.device)
        return found
