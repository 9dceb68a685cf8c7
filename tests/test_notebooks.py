"""Every notebook, run from top to bottom, with no exclusions (02, which needs PyTorch, in against_torch)."""

import re

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
    ],
    "03_sequences_of_unequal_length": [
        ("epochs = 50", "epochs = 1"),
        ("members = 5", "members = 2"),
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


def numbers(stem: str, pattern: str) -> list[float]:
    """The number in each place where the saved notebook prints the pattern, in which `#` stands for one."""
    number = r"\s*([\d.]+(?:e[-+]\d+)?)"
    found = list(re.finditer(re.escape(pattern).replace(r"\#", number), run_notebook.printed(stem)))
    assert found, f"{stem} does not print {pattern!r}"
    return [float(text) for match in found for text in match.groups()]


def test_saved_figures_bear_out_the_text_of_the_equations():
    """Where the gradient reaches the first step, and what each start of the biases learns."""
    stem = "01_lstm_from_the_equations"
    *closed, open_gate = numbers(stem, "first over last:#")
    assert len(closed) == 3
    assert max(closed) < 1e-6
    assert open_gate > 1e-2
    (default,) = numbers(stem, "held-out error with default biases:#")
    (chrono,) = numbers(stem, "held-out error with chrono biases:#")
    guess, _ = numbers(stem, "constant guess:#")
    assert default > 0.9 * guess
    assert chrono < 0.02


def test_saved_figures_bear_out_the_text_of_unequal_lengths():
    """What padding without `lengths` does, and an accuracy like PyTorch's."""
    stem = "03_sequences_of_unequal_length"
    (forward,) = numbers(stem, "final forward states off by up to#")
    (reverse,) = numbers(stem, "reverse ones at the last frame by#")
    assert min(forward, reverse) > 0.01
    for way in ("one way", "both ways"):
        ours, theirs = (numbers(stem, f"{way}, {library}#%#%#%#%") for library in ("jaxlstm", "PyTorch"))
        assert abs(ours[-1] - theirs[-1]) < 2


def test_none_is_left_out():
    assert run_notebook.stems() == {*REPLACEMENTS, "02_coming_from_pytorch"}
