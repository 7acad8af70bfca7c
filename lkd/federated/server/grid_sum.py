"""Sums of numbers of up to 32 bits that do not depend on the order: additions in float64 that never round."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lkd.federated.server.grid_level import STEP, Level

CHUNK = 1 << 17
"""Numbers that are added at once: fewer cost calls, more do not stay in a processor's cache."""
HELD, MEMORY = 4, 1 << 27
"""Clients whose numbers are added chunk by chunk together, and bytes of them at most: the sum is read only once then."""
LOWEST, HIGHEST = -62, 241
"""Levels that there are: those of 2**-248 and less, and of 2**964, where a float32 has long been infinite."""
WORDS = 5
"""Numbers of 62 bits each in which a process tells which of these levels it has."""


class _Chunk:
    """A part of the numbers, with its levels."""

    def __init__(self, value: Tensor) -> None:
        self.value = value  # for what is added next; all chunks share its memory
        self.places: list[Tensor] = []
        self.levels: dict[int, Level] = {}
        self.idle: dict[int, Level] = {}  # of an earlier sum
        self.spoiled: Tensor | None = None  # a sum of what is not finite

    def add(self, weight: float) -> None:
        size = abs(weight) * float(torch.linalg.vector_norm(self.value))
        if not size:
            return
        level = max(LOWEST, -(-math.frexp(size)[1] // STEP)) if math.isfinite(size) else HIGHEST + 1
        if level > HIGHEST:
            term = self.value * weight
            self.spoiled = term if self.spoiled is None else self.spoiled + term
        else:
            self.of(level).add(self.value, weight)

    def of(self, level: int) -> Level:
        if level not in self.levels:
            found = self.idle.pop(level, None)
            self.levels[level] = found or Level(len(self.value), level, self.value.device)
        return self.levels[level]

    def clear(self) -> None:
        self.idle, self.levels = self.levels, {}  # those that two sums did without are freed
        for level in self.idle.values():
            level.clear()
        self.spoiled = None


class GridSum:
    """Sum of `weight * tensors` of up to 32 bits, the same for any order of clients and any split over ranks.

    Each client's numbers are rounded once, to multiples of a power of two that follows from their own norm; their sums
    in float64 are then exact (Demmel, Nguyen, "Fast reproducible floating-point summation", ARITH 2013, whose grid
    follows from the largest of all numbers, which is not known while replies arrive). Clients whose norms are within
    the same four binary orders of magnitude share a grid, and others have a sum of their own, which are added at the
    end. So an error is at most 2**-42 of the norm of what a client adds, over up to 131,072 numbers that lie together,
    and a small client is not lost beside a large one.

    Args:
        shapes: Shapes of the tensors.
        device: Where they are.

    Example:
        >>> total = GridSum([torch.Size([1])], torch.device("cpu"))
        >>> for value in (1e16, 1.0, -1e16):
        ...     total.add([torch.tensor([value])], 3.0)
        >>> total.write([found := torch.zeros(1)])
        >>> found
        tensor([3.])
    """

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        sizes = [shape.numel() for shape in shapes]
        total = sum(sizes)
        self._device = device
        value = torch.zeros(min(CHUNK, total), dtype=torch.float64, device=device)
        self._chunks = [_Chunk(value[: total - start]) for start in range(0, total, CHUNK)]
        self._cuts: list[list[int]] = []
        self._held: list[tuple[list[Tensor], float]] = []
        self._most = max(1, min(HELD, MEMORY // max(1, 4 * total)))
        start = 0
        for shape, size in zip(shapes, sizes, strict=True):
            ends = [start, *range((start // CHUNK + 1) * CHUNK, start + size, CHUNK), start + size]
            cut = [b - a for a, b in itertools.pairwise(ends)] if size else []
            for begin, length in zip(ends, cut, strict=False):
                chunk, at = self._chunks[begin // CHUNK], begin % CHUNK
                place = chunk.value[at : at + length]
                chunk.places.append(place.view(shape) if len(cut) == 1 else place)
            self._cuts.append(cut)
            start += size
        self._whole = [len(cut) == 1 for cut in self._cuts]

    def reset(self) -> None:
        """Sets the sum to zero, and keeps its memory."""
        self._held.clear()
        for chunk in self._chunks:
            chunk.clear()

    def add(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Adds the tensors of one client.

        Args:
            tensors: Tensors of the shapes, which nobody changes later.
            weight: Their weight.
        """
        self._held.append((self._pieces(tensors), weight))
        if len(self._held) == self._most:
            self.flush()

    def _pieces(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Cuts tensors where chunks end."""
        if all(self._whole):
            return list(tensors)
        found: list[Tensor] = []
        for tensor, cut in zip(tensors, self._cuts, strict=True):
            found += tensor.reshape(-1).split(cut) if len(cut) > 1 else [tensor] * len(cut)
        return found

    def flush(self) -> None:
        """Adds what is held."""
        held, self._held = self._held, []
        start = 0
        for chunk in self._chunks if held else ():
            end = start + len(chunk.places)
            for pieces, weight in held:
                torch._foreach_copy_(chunk.places, pieces[start:end])
                chunk.add(weight)
            start = end

    def marks(self) -> Tensor:
        """Returns which levels each chunk has, `(chunks, WORDS)`, and in a last row whether there is what is spoiled."""
        self.flush()
        found = torch.zeros(len(self._chunks) + 1, WORDS, dtype=torch.int64)
        for row, chunk in zip(found, self._chunks, strict=False):
            for level in chunk.levels:
                word, bit = divmod(level - LOWEST, 62)
                row[word] |= 1 << bit
        found[-1, 0] = int(any(chunk.spoiled is not None for chunk in self._chunks))
        return found

    def open(self, marks: Tensor) -> None:
        """Makes the levels that are marked, so that all processes have the same."""
        for row, chunk in zip(marks.tolist(), self._chunks, strict=False):
            for word, bits in enumerate(row):
                for bit in range(bits.bit_length()):
                    if bits >> bit & 1:
                        chunk.of(LOWEST + 62 * word + bit)
            if marks[-1, 0] and chunk.spoiled is None:
                chunk.spoiled = torch.zeros_like(chunk.value)

    def parts(self) -> Tensor:
        """Returns all that another process needs to add this sum to its own, once the levels are the same."""
        found = [torch.zeros(0, dtype=torch.float64, device=self._device)]
        for chunk in self._chunks:
            for level in sorted(chunk.levels):
                found += chunk.levels[level].settle()
            found += [] if chunk.spoiled is None else [chunk.spoiled]
        return torch.cat(found)

    def add_parts(self, parts: Tensor) -> None:
        """Adds the sum of another process, as `parts` gave it."""
        start = 0
        for chunk in self._chunks:
            size = len(chunk.value)
            for level in sorted(chunk.levels):
                carry, rest = parts[start : start + 2 * size].split(size)
                chunk.levels[level].join(carry, rest)
                start += 2 * size
            if chunk.spoiled is not None:
                chunk.spoiled = chunk.spoiled + parts[start : start + size]
                start += size

    def write(self, tensors: Sequence[Tensor], weight: Tensor | None = None) -> None:
        """Writes the sum, divided by a weight if there is one, into tensors of the shapes."""
        self.flush()
        pieces, start = self._pieces(tensors), 0
        for chunk in self._chunks:
            total = chunk.value.zero_()
            for level in sorted(chunk.levels):
                chunk.levels[level].add_to(total)
            if chunk.spoiled is not None:
                total.add_(chunk.spoiled)
            if weight is not None:
                total.div_(weight)
            end = start + len(chunk.places)
            torch._foreach_copy_(pieces[start:end], chunk.places)
            start = end
