"""Rows of an answer as bytes, and back: one safetensors file for each sample."""

import json
from collections.abc import Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lkd.edge.cache.layout import AnswerLayout, Columns, SampleRows


def written(rows: SampleRows, count: int, layout: AnswerLayout) -> list[bytes]:
    """Returns the bytes of every sample.

    Args:
        rows: Rows of an answer, reduced or not.
        count: Number of samples.
        layout: Layout of the answer.
    """
    columns = {name: tensor.detach().cpu().contiguous() for name, tensor in rows.columns.items()}
    if not layout.uniform:
        return [save(_one(columns, rows.each, place)) for place in range(count)]
    first = save({name: tensor[0].clone() for name, tensor in columns.items()})
    data = _data(first)
    head, places = first[:data], _places(first)
    raw = np.empty((count, len(first) - data), np.uint8)
    for name, tensor in columns.items():
        start, end = places[name]
        raw[:, start:end] = tensor.reshape(-1).view(torch.uint8).reshape(count, -1).numpy()
    return [head + row.tobytes() for row in raw]


def read(answers: Sequence[bytes], layout: AnswerLayout) -> SampleRows | None:
    """Reads rows of samples, on the CPU; None if there are none, or they cannot belong to one answer.

    Args:
        answers: The bytes of every sample.
        layout: Layout of the answer.
    """
    try:
        if not layout.uniform:
            return _split([load(answer) for answer in answers], layout)
        tensors = load(answers[0])
        data = _data(answers[0])
        head, places = answers[0][:data], _places(answers[0])
        if {name.partition(".")[0] for name in tensors} != {row.name for row in layout.row_leaves}:
            return None
        if any(len(answer) != len(answers[0]) or not answer.startswith(head) for answer in answers):
            return None
    except (SafetensorError, ValueError, KeyError):
        return None
    raw = np.frombuffer(b"".join(answers), np.uint8).reshape(len(answers), -1)
    columns: Columns = {}
    for name, like in tensors.items():
        start, end = places[name]
        values = torch.from_numpy(raw[:, data + start : data + end].copy())
        columns[name] = values.reshape(-1).view(like.dtype).reshape(len(answers), *like.shape)
    return SampleRows(columns, {})


def _one(columns: Columns, each: dict[str, list[Columns]], place: int) -> Columns:
    """Returns one sample's tensors: rows have plain names, and entries of dicts their key after a colon."""
    entries = {
        f"{n}:{k}": v.detach().cpu().contiguous()
        for n, found in each.items()
        for k, v in found[place].items()
    }
    return {name: tensor[place].clone() for name, tensor in columns.items()} | entries


def _split(samples: Sequence[dict[str, Tensor]], layout: AnswerLayout) -> SampleRows | None:
    each = {
        name: [{k[len(name) + 1 :]: v for k, v in s.items() if k.startswith(f"{name}:")} for s in samples]
        for name in layout.each_names
    }
    names = [name for name in samples[0] if ":" not in name]
    if any(sample[name].shape != samples[0][name].shape for sample in samples for name in names):
        return None
    return SampleRows({name: torch.stack([s[name] for s in samples]) for name in names}, each)


def _data(answer: bytes) -> int:
    """Returns where the numbers begin: safetensors has the length of its header first, in 8 bytes."""
    return 8 + int.from_bytes(answer[:8], "little")


def _places(answer: bytes) -> dict[str, tuple[int, int]]:
    header = json.loads(answer[8 : _data(answer)])
    return {name: tuple(entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"}
