"""Answers in fewer bytes: other number types, or only the largest class scores."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.edge.cache.layout import AnswerLayout, Columns, SampleRows

Kept = Literal["float16", "bfloat16", "uint8"]


class AnswerReduction:
    """What is kept of an answer, and how the answer is rebuilt from it.

    Args:
        dtype: Type that floating-point numbers are kept in; None keeps theirs. `"uint8"` maps the values of
            every sample's tensor to 256 steps between its smallest and its largest.
        top_k: How many of the largest class scores `(B, C)` are kept; the others share the rest of the
            softmax equally (marginal smoothing: Shen and Xing, FKD, ECCV 2022, arXiv:2112.01528).

    Raises:
        ValueError: If the type is unknown, or the number is below 1.

    Example:
        >>> scores = torch.tensor([[4.0, 1.0, 0.0, -1.0]])
        >>> layout, two = AnswerLayout(scores.repeat(2, 1), scores, 2, 1e-3), AnswerReduction(top_k=2)
        >>> back = two.back(two.kept(layout.rows(scores, 1), layout), layout)
        >>> [round(p, 3) for p in back.columns["0"].softmax(1)[0].tolist()]
        [0.93, 0.046, 0.012, 0.012]
    """

    def __init__(self, dtype: Kept | None = None, top_k: int | None = None) -> None:
        if dtype not in (None, *get_args(Kept)):
            raise ValueError(
                f"dtype={dtype!r} must be one of {', '.join(get_args(Kept))}, or None to keep answers as they are."
            )
        expect(top_k=top_k, ge=1, none="all classes")
        self.dtype, self.top_k = dtype, top_k

    def __repr__(self) -> str:
        return f"dtype={self.dtype}, top_k={self.top_k}"

    @property
    def lossless(self) -> bool:
        """Whether what is read is what the teacher answered, bit for bit."""
        return self.dtype is None and self.top_k is None

    def kept(self, rows: SampleRows, layout: AnswerLayout) -> SampleRows:
        """Returns rows in the form in which they are kept.

        Raises:
            ValueError: If the type cannot hold a value, or there are no more classes than `top_k`.
        """
        columns: Columns = {}
        for name, tensor in rows.columns.items():
            columns |= self._largest(name, tensor) if self.top_k is not None else self._smaller(name, tensor)
        if rows.each and self.dtype == "uint8":
            raise ValueError("dtype='uint8' is too coarse for boxes in pixels; take 'float16', or None.")
        each = {n: [self._cast(found) for found in samples] for n, samples in rows.each.items()}
        return SampleRows(columns, each)

    def back(self, kept: SampleRows, layout: AnswerLayout) -> SampleRows:
        """Returns rows as the teacher gave them, up to what was lost."""
        columns = {
            row.name: self._whole(row.name, kept.columns, row.shape).to(row.dtype)
            for row in layout.row_leaves
        }
        each = kept.each
        if self.dtype is not None:
            types = (torch.float16, torch.bfloat16)
            each = {
                n: [{k: v.float() if v.dtype in types else v for k, v in one.items()} for one in found]
                for n, found in each.items()
            }
        return SampleRows(columns, each)

    def _smaller(self, name: str, tensor: Tensor) -> Columns:
        if self.dtype is None or not tensor.is_floating_point():
            return {name: tensor}
        if self.dtype != "uint8":
            return self._cast({name: tensor})
        flat = tensor.float().flatten(1) if tensor.ndim > 1 else tensor.float()[:, None]
        low, high = flat.amin(1), flat.amax(1)
        if not bool((high - low).isfinite().all()):
            raise ValueError(
                "dtype='uint8': the teacher says infinity or NaN, or numbers too far apart; leave dtype out."
            )
        step = (high - low) / 255
        steps = (flat - low[:, None]) / torch.where(step > 0, step, 1.0)[:, None]
        return {
            name: steps.round().to(torch.uint8).reshape(tensor.shape),
            f"{name}.low": low,
            f"{name}.step": step,
        }

    def _cast(self, found: Columns) -> Columns:
        if self.dtype is None:
            return found
        kind: torch.dtype = getattr(torch, self.dtype)
        cast = {k: v.to(kind) if v.is_floating_point() else v for k, v in found.items()}
        for key, value in cast.items():
            if value.dtype == kind and bool((value.isfinite() != found[key].isfinite()).any()):
                raise ValueError(
                    f"dtype={self.dtype!r} cannot hold {float(found[key].abs().max()):.3g}, which the teacher says; take 'bfloat16', or None."
                )
        return cast

    def _largest(self, name: str, scores: Tensor) -> Columns:
        assert self.top_k is not None
        if scores.ndim != 2 or not scores.is_floating_point():
            raise ValueError(
                f"top_k={self.top_k} keeps class scores (B, C), and the teacher gives a tensor {tuple(scores.shape)} of "
                f"{scores.dtype}; name the scores, as in teacher_layer=':logits', or leave top_k out."
            )
        classes = scores.shape[1]
        if self.top_k >= classes:
            raise ValueError(
                f"top_k={self.top_k} of {classes} classes leaves none out; give less, or leave it out."
            )
        top, places = scores.float().topk(self.top_k, 1)
        others = scores.float().scatter(1, places, -torch.inf).logsumexp(1) - math.log(classes - self.top_k)
        kind = torch.uint8 if classes <= 256 else torch.int32
        numbers = self._smaller(f"{name}.top", torch.cat([top, others[:, None]], 1))
        return {**numbers, f"{name}.places": places.to(kind)}

    def _whole(self, name: str, kept: Columns, shape: torch.Size) -> Tensor:
        if self.top_k is not None:
            numbers = _unstepped(f"{name}.top", kept)
            whole = numbers[:, -1:].repeat(1, shape[0])
            return whole.scatter(1, kept[f"{name}.places"].long(), numbers[:, :-1])
        return _unstepped(name, kept)


def _unstepped(name: str, kept: Columns) -> Tensor:
    tensor = kept[name]
    if f"{name}.low" not in kept:
        return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    low, step = (kept[f"{name}.{part}"].reshape(-1, *[1] * (tensor.ndim - 1)) for part in ("low", "step"))
    return low + step * tensor.float()
