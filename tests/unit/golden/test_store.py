"""The file of a golden trace: equal content, equal bytes; whatever is wrong with it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from parity.compare.verdict import Misuse
from parity.golden.encoding import NotKept, decode, encode
from parity.golden.store import Keep, Kept
from parity.report.files import ReportError

VALUES = [
    torch.arange(6.0).reshape(2, 3).T,
    torch.tensor([True, False]),
    torch.tensor(float("nan"), dtype=torch.float64),
    torch.zeros(0, 3, dtype=torch.bfloat16),
    torch.tensor([[255]], dtype=torch.uint8),
    torch.arange(12.0).reshape(2, 6)[:1, -1],  # a row's last number: of stride 6, and contiguous
]


def written(path: Path, **description: object) -> Path:
    keep = Keep()
    keep.write(path, {"values": [keep.tensor(value) for value in VALUES], **description})
    return path


def test_tensors_come_back_to_the_bit_and_equal_ones_are_kept_once(tmp_path: Path):
    keep = Keep()
    names = [keep.tensor(value) for value in [*VALUES, *VALUES]]
    size = keep.write(tmp_path / "a.safetensors", {})
    assert size == (tmp_path / "a.safetensors").stat().st_size
    assert len(load_file(tmp_path / "a.safetensors")) == len(VALUES)
    kept = Kept(tmp_path / "a.safetensors")
    for name, value in zip(names, VALUES, strict=False):
        found = kept.tensor(name)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert torch.equal(found.nan_to_num(7.0), value.nan_to_num(7.0))


def test_equal_recordings_are_equal_files(tmp_path: Path):
    first, second = (written(tmp_path / name, pair="a").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "text", (1, ("a", None)), [1, (2,)], {"a"}, {"k": (1,), 2: [None]}, torch.float32],
    ids=repr,
)
def test_facts_come_back_as_they_were(tmp_path: Path, value: object):
    keep = Keep()
    content = encode(value, keep)
    keep.write(tmp_path / "a", {})
    assert decode(json.loads(json.dumps(content)), Kept(tmp_path / "a")) == value


def test_what_cannot_be_kept_is_named_and_equals_nothing(tmp_path: Path):
    with pytest.raises(Misuse, match=r"of type \w*Path, which a golden trace cannot hold"):
        encode(tmp_path, Keep())
    assert NotKept("TensorDict") != NotKept("TensorDict")


def broken(path: Path, kind: str) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[:-3])
    elif kind == "no safetensors":
        path.write_text("golden")
    elif kind == "a changed byte":
        path.write_bytes(content[: 8 + size] + bytes([content[8 + size] ^ 1]) + content[9 + size :])
    elif kind == "a changed description":
        path.write_bytes(content.replace(b'\\"pair\\": \\"a\\"', b'\\"pair\\": \\"b\\"'))
    elif kind == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
    elif kind == "another format":
        path.write_bytes(save({}, metadata={"golden": json.dumps({"format": "something", "version": 1})}))
    else:
        path.write_bytes(save({}, metadata={"golden": json.dumps({"format": "parity-golden", "version": 99})}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"cannot read .*: No such file or directory; check the path"),
        ("truncated", r"is truncated or no safetensors file \(.*\); record it again with"),
        ("no safetensors", r"is truncated or no safetensors file \(.*\); record it again with"),
        ("a changed byte", r"is corrupt: tensor [0-9a-f]{32} does not hold what its name says; record it again"),
        ("a changed description", r"is corrupt: its description does not match its checksum; record it again"),
        ("foreign", r"is a safetensors file and no golden trace of parity; record it again"),
        ("another format", r"is no golden trace of parity; record it again"),
        ("too new", r"has version 99 of the format and this parity reads up to 1: a newer parity wrote it; install"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, kind: str, message: str):
    path = written(tmp_path / "golden.safetensors", pair="a")
    broken(path, kind)
    with pytest.raises(ReportError, match=message) as error:
        Kept(path)
    assert str(path) in str(error.value)


def test_a_description_that_names_a_tensor_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ReportError, match="is corrupt: it lacks tensor 0123"):
        Kept(written(tmp_path / "a")).tensor("0123")
