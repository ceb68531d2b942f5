"""Files are written completely or not at all, and errors say why."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from openmm_duality.container import write_container
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write


@pytest.mark.parametrize("old", ["precious", None])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, old):
    target = tmp_path / "a.txt"
    if old is not None:
        target.write_text(old)

    def write():
        with atomic_write(target, overwrite=True) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DualityError, match=r"a\.txt cannot be written.*No space left"):
        write()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == ([] if old is None else [("a.txt", old)])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_refused_as_a_file(tmp_path, overwrite):
    (tmp_path / "there").mkdir()
    with pytest.raises(DualityError, match="is a folder"), atomic_write(tmp_path / "there", overwrite):
        pass
    with pytest.raises(DualityError, match="is a folder"):
        write_container(tmp_path / "there", "test 1", {"x": np.zeros(2)}, {}, overwrite)
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DualityError, match="cannot create the folder"), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_a_container_that_cannot_be_written(tmp_path):
    with pytest.raises(DualityError, match="cannot be written"):
        write_container(tmp_path / f"{240 * 'x'}.safetensors", "test 1", {"x": np.zeros(2)}, {}, overwrite=False)
    assert not list(tmp_path.iterdir())
