"""Fixtures: small models with their data, and the sample models."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Helpers of the graph tests (``small``) serve the others, too, whichever file is run alone.
sys.path.insert(0, str(Path(__file__).parent / "graph"))

from networks import Files, mlp, save_data, save_model

settings.register_profile("nettrim", deadline=None)  # machines are busy; no test is timed
settings.load_profile("nettrim")

SAMPLE_MODELS = Path(__file__).parents[1] / "sample_models"
SAMPLES = ("lenet", "mlp", "resnet", "transformer")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A folder with a small model, labelled calibration data, and nothing else."""
    proto = mlp()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 120)
    )


@pytest.fixture
def sample_model(request: pytest.FixtureRequest) -> Files:
    """One of the repository's sample models, by name."""
    folder = SAMPLE_MODELS / request.param
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{folder} is not here")
    return Files(folder / "model.onnx", folder / "calib.h5")
