"""The statistics of transformations agree with those measured on the released code (reference: 6.2, 9.5)."""

import numpy as np
import pytest
import torch

from nas_lib.spaces.recurrent.edits import LEGACY, Edits, random_cell
from nas_lib.spaces.recurrent.statistics import drift, population, preservation


def test_released_initial_cells_have_the_published_sizes_and_drift_upwards() -> None:
    rng = np.random.default_rng(0)
    cells = [random_cell(rng, LEGACY) for _ in range(150)]
    first = population(cells)
    assert first.blocks == pytest.approx(15.6, abs=0.8)
    assert first.linear == pytest.approx(3.4, abs=0.4)
    assert first.state == pytest.approx(0.37, abs=0.12)
    assert first.dead == 0
    last = population(drift(cells[:60], 8, rng, LEGACY, clean=False)[-1])
    assert last.blocks == pytest.approx(22.6, abs=3)
    assert last.dead == pytest.approx(0.71, abs=0.17)
    assert last.without_input == pytest.approx(0.22, abs=0.15)
    assert last.without_state == pytest.approx(0.14, abs=0.12)


def test_cells_of_the_default_never_have_dead_blocks_nor_lose_their_inputs() -> None:
    rng = np.random.default_rng(0)
    last = population(drift([random_cell(rng) for _ in range(20)], 4, rng, Edits())[-1])
    assert (last.dead, last.without_input, last.without_state) == (0, 0, 0)


def test_one_released_transformation_changes_outputs_as_published() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    found = preservation("add_connection", rng, LEGACY, cells=10, trials=5, hidden=16)
    assert found.unchanged == pytest.approx(0.33, abs=0.17)
    assert 0.68 / 2 < found.median < 0.68 * 2
    assert found.renamed / found.tried == pytest.approx(36 / 198, abs=0.12)


def test_preserving_inheritance_leaves_more_outputs_unchanged() -> None:
    torch.manual_seed(0)
    shares = []
    for how in ("name", "preserving"):
        rng, edits = np.random.default_rng(0), Edits(weighted_connections=True)
        shares.append(preservation("add_connection", rng, edits, how, cells=6, trials=3, hidden=8).unchanged)
    assert shares[1] == 1 > shares[0]
