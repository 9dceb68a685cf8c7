"""The TPU kernels, run by Pallas's interpreter: values and gradients against `xla` in float64; and made for a TPU."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from trees import assert_identical, assert_within_rounding

import jaxlstm
from jaxlstm._stack import valid_steps
from jaxlstm.cells import LSTM
from jaxlstm.implementations import pallas, xla
from jaxlstm.implementations._protocol import Masks, Operands

ROUNDING = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}  # of the largest value


def problem(num_steps, batch, num_inputs, hidden, dtype, *, lengths=False, resets=False, bias=True):
    """Operands of a layer, its masks, and a cotangent of its result."""
    random = np.random.default_rng(0)

    def normal(*shape, dtype=dtype):
        return jnp.asarray(random.normal(size=shape), dtype)

    def state():
        return jaxlstm.LSTMState(normal(batch, hidden, dtype=jnp.float32), normal(batch, hidden, dtype=jnp.float32))

    params = jaxlstm.LSTMCellParams(
        weight_ih=normal(4 * hidden, num_inputs),
        weight_hh=normal(4 * hidden, hidden) / hidden**0.5,
        bias_ih=normal(4 * hidden) if bias else None,
        bias_hh=normal(4 * hidden) if bias else None,
        weight_hr=None,
    )
    masks = Masks(None, None)
    if lengths:
        masks = Masks(jnp.maximum(num_steps - random.permutation(batch), 0), None)  # T, T-1, ..., 0, 0
    if resets:
        valid = np.ones((num_steps, batch), bool) if masks.lengths is None else valid_steps(masks.lengths, num_steps)
        masks = masks._replace(resets=jnp.asarray(random.random((num_steps, batch)) < 0.3) & valid)
    operands = Operands(params, normal(num_steps, batch, num_inputs), state())
    return operands, masks, (normal(num_steps, batch, hidden), state())


def by_kernels(operands, masks, cotangents, **options: Any):
    outputs, residuals = pallas.forward(operands, masks, keep=True, **options)
    assert residuals is not None
    return outputs, pallas.backward(operands, masks, outputs, residuals, cotangents, **options)


def by_xla_in_float64(operands, masks, cotangents, *, reverse):
    with jax.enable_x64(True):
        operands, cotangents = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (operands, cotangents))

        @jax.jit
        def run(operands, masks, cotangents):
            outputs, pullback = jax.vjp(
                functools.partial(xla.layer, LSTM, **masks._asdict(), reverse=reverse), *operands
            )
            return outputs, Operands(*pullback(cotangents))

        return run(operands, masks, cotangents)


def check(operands, masks, cotangents, *, reverse):
    dtype = operands.x.dtype
    assert pallas.why_not(operands) is None
    run = jax.jit(functools.partial(by_kernels, reverse=reverse, interpret=True))
    got = outputs, gradients = run(operands, masks, cotangents)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert jax.tree.all(jax.tree.map(same, (outputs, gradients), (cotangents, operands)))
    wanted = by_xla_in_float64(operands, masks, cotangents, reverse=reverse)
    assert_within_rounding(got, wanted, ROUNDING[dtype.type], least=0.0)


@pytest.mark.parametrize(
    ("dtype", "reverse", "lengths", "resets"),
    # Masks and direction do not ask for the dtype.
    [
        *itertools.product([jnp.float32], *[(False, True)] * 3),
        (jnp.bfloat16, False, False, False),
        (jnp.bfloat16, True, True, True),
    ],
)
def test_values_and_gradients(dtype, reverse, lengths, resets):
    check(*problem(5, 9, 3, 5, dtype, lengths=lengths, resets=resets), reverse=reverse)


@pytest.mark.parametrize(
    ("num_steps", "batch", "hidden"),
    [(1, 1, 1), (3, 8, 128), (3, 16, 130), (131, 2, 4)],
    ids=["one of everything", "on the tiling", "two tiles of lanes", "marks past 128 steps"],
)
def test_sizes_on_and_off_the_tiling(num_steps, batch, hidden):
    check(*problem(num_steps, batch, 2, hidden, jnp.float32, lengths=True, resets=True), reverse=True)


def test_no_bias():
    check(*problem(3, 2, 3, 4, jnp.float32, bias=False), reverse=False)


def test_batch_in_several_tiles(monkeypatch):
    """What one tile can't hold is run tile by tile."""
    operands, masks, cotangents = problem(3, 20, 3, 4, jnp.float32, lengths=True, resets=True)
    budget = pallas._weight_bytes(4, operands.x.dtype) + 8 * pallas._row_bytes(4, operands.x.dtype)
    monkeypatch.setattr(pallas, "VMEM_BUDGET", budget)
    monkeypatch.setattr(pallas, "FULL_TILE", 8)
    assert pallas._padded(20, 4, operands.x.dtype)[:2] == (8, 24)
    check(operands, masks, cotangents, reverse=False)


def test_nothing_is_kept_without_a_derivative():
    operands, masks, _ = problem(3, 2, 3, 4, jnp.float32, lengths=True)
    run = functools.partial(pallas.forward, operands, masks, reverse=True, interpret=True)
    outputs, residuals = run(keep=False)
    assert residuals is None
    assert_identical(outputs, run(keep=True)[0])


def shapes_of(batch, hidden, dtype, *, num_steps: Any = 5, x_dtype=None):
    params = functools.partial(jaxlstm.init_lstm_cell, input_size=3, hidden_size=hidden, dtype=dtype)
    params = jax.eval_shape(params, jax.random.key(0))
    state: Any = jax.ShapeDtypeStruct((batch, hidden), jnp.float32)
    x: Any = jax.ShapeDtypeStruct((num_steps, batch, 3), x_dtype or dtype)
    return Operands(params, x, jaxlstm.LSTMState(state, state))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (shapes_of(2, 4, jnp.float16), "float32 or bfloat16, not float16"),
        (shapes_of(2, 4, jnp.bfloat16, x_dtype=jnp.float32), "not bfloat16 with float32"),
        (shapes_of(2, 4, jnp.float32, num_steps=export.symbolic_shape("T")[0]), r"x is \[T, B, I\] = \[T, 2, 3\]"),
        (shapes_of(0, 4, jnp.float32), "B = 0"),
        (shapes_of(2, 1024, jnp.float32), "H = 1024 in float32 and a tile of 8 rows need 17.2 MiB"),
        (shapes_of(2, 1024, jnp.bfloat16), None),
        (shapes_of(512, 512, jnp.float32), None),
        (shapes_of(24, 896, jnp.float32), None),
        (shapes_of(512, 896, jnp.float32), "a tile of 128 rows"),  # it would take W_hh through the chip for each 24
    ],
)
def test_why_not(given, reason):
    got = pallas.why_not(given)
    if reason is None:
        assert got is None
    else:
        with pytest.raises(NotImplementedError, match=reason):
            raise NotImplementedError(got)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_program_for_a_tpu_holds_both_kernels(dtype, masked):
    operands, masks, cotangents = problem(130, 3, 3, 5, dtype, lengths=masked, resets=masked)
    run = jax.jit(functools.partial(by_kernels, reverse=masked))
    text = export.export(run, platforms=["tpu"])(operands, masks, cotangents).mlir_module()
    assert text.count("@tpu_custom_call") == 2
    for kernel in ("lstm_forward", "lstm_backward"):
        assert text.count(f'kernel_name = "{kernel}"') == 1


@pytest.mark.parametrize("setting", ["default", "bfloat16", "high", "highest"])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_precision_that_jax_is_set_to(dtype, setting):
    """The TPU's compiler refuses more than one pass for bfloat16, and older JAX three passes."""
    x = jax.ShapeDtypeStruct((8, 128), dtype)
    with jax.default_matmul_precision(setting):
        kernels_own = str(jax.make_jaxpr(pallas._multiply_inside)(x, jax.ShapeDtypeStruct((128, 512), dtype)))
        operands, masks, cotangents = problem(3, 2, 3, 4, dtype)
        run = jax.jit(functools.partial(by_kernels, reverse=False))
        assert "@tpu_custom_call" in export.export(run, platforms=["tpu"])(operands, masks, cotangents).mlir_module()
    assert ("HIGHEST" in kernels_own) == (dtype == jnp.float32 and setting in ("high", "highest"))


def test_program_for_a_tpu_while_float64_is_on():
    operands, masks, cotangents = problem(3, 2, 3, 4, jnp.float32, lengths=True, resets=True)
    with jax.enable_x64(True):
        run = jax.jit(functools.partial(by_kernels, reverse=True))
        text = export.export(run, platforms=["tpu"])(operands, masks, cotangents).mlir_module()
    assert text.count("@tpu_custom_call") == 2
