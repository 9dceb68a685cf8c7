"""Every notebook, run from top to bottom, with no exclusions (02, which needs PyTorch, in against_torch)."""

import pytest
import run_notebook

# What is shortened where a run is long: (what stands in the notebook's code, what runs in its place).
REPLACEMENTS: dict[str, run_notebook.Replacements] = {
    "01_lstm_from_the_equations": [
        ("repeats=5", "repeats=1"),
        ("(100, 8, 32)", "(10, 8, 32)"),
        ("sequence_length = 600", "sequence_length = 60"),
        ("training_steps = 1500", "training_steps = 3"),
        ("width=20", "width=1"),
        ("goal = 0.02", "goal = 1.0"),
    ],
    "03_sequences_of_unequal_length": [
        ("epochs = 50", "epochs = 1"),
        ("members = 5", "members = 2"),
        ("required = 0.96", "required = 0.0"),
        ("level = 0.02", "level = 1.0"),
    ],
    "04_speed_and_scale": [
        ('SHAPES = ["32x64x128x128", "8x128x64x256"]', 'SHAPES = ["4x8x16x16"]'),
        ("ROUNDS = 3", "ROUNDS = 1"),
        ("CHOICE = []", 'CHOICE = ["--peers", "linen"]'),
        ("AT_LEAST = 0.2", "AT_LEAST = 0.0"),
        (
            'SWEEPS = {"T": [16, 64, 256, 1024], "B": [1, 4, 16, 64, 256], "H": [16, 32, 64, 128, 256, 512]}',
            'SWEEPS = {"T": [16, 64], "B": [1, 32], "H": [16, 128]}',
        ),
        ("NUM_STEPS, BATCH_SIZE, HIDDEN_SIZE = 128, 64, 128", "NUM_STEPS, BATCH_SIZE, HIDDEN_SIZE = 8, 4, 16"),
        ("LENGTHS = [128, 512, 2048, 4096]", "LENGTHS = [16, 64]"),
    ],
    "05_cells_of_your_own": [
        ("training_steps = 1500", "training_steps = 25"),
        ("numbers = [1, 2, 4, 6, 8, 12, 16]", "numbers = [1, 8]"),
    ],
}


@pytest.mark.parametrize("stem", REPLACEMENTS)
def test_runs_without_a_warning(stem):
    run_notebook.execute(stem, REPLACEMENTS[stem])


@pytest.mark.parametrize("stem", REPLACEMENTS)
def test_is_saved_with_its_outputs(stem):
    run_notebook.check_saved(stem)


def test_none_is_left_out():
    assert run_notebook.stems() == {*REPLACEMENTS, "02_coming_from_pytorch"}
