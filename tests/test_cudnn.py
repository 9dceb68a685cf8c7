"""All of `implementations/cudnn.py` but cuDNN's own arithmetic, for which JAX's reference of it stands in.

`jax.experimental.rnn` holds what these tests judge by: `unpack_lstm_weights`, which reads the packed weights, and
`lstm_ref`, the equations in cuDNN's layout.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.experimental import rnn
from trees import assert_close

import jaxlstm
from jaxlstm.cells import LSTM
from jaxlstm.implementations import cudnn, xla
from jaxlstm.implementations._protocol import Masks, Operands

T, B, I, H = 6, 4, 3, 5  # noqa: E741
LENGTHS = np.array([3, T, 0, 1], np.int8)
SIZE = 11  # of the reserve space, where no GPU tells it


def given(*, bias: bool = True, dtype: Any = jnp.float32) -> Operands:
    """Of one direction."""
    params = jaxlstm.init_lstm_cell(jax.random.key(0), I, H, bias=bias, dtype=dtype)
    x, h, c = (jax.random.normal(jax.random.key(k), s, dtype) for k, s in enumerate([(T, B, I), (B, H), (B, H)], 1))
    return Operands(params, x, jaxlstm.LSTMState(h, c))


def masked(lengths: Any = None) -> Masks:
    return Masks(None if lengths is None else jnp.asarray(lengths), None)


def reference_run(x, h_0, c_0, w, seq_lengths, input_size, hidden_size, num_layers, dropout, bidirectional):
    sizes = (input_size, hidden_size, num_layers)
    weights = rnn.unpack_lstm_weights(w, *sizes, bidirectional)
    return rnn.lstm_ref(x, h_0, c_0, *weights, seq_lengths, *sizes, dropout, bidirectional)


def poisoned(fine: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.where(fine, a, jnp.nan), tree)


def reference_fwd(x, h_0, c_0, w, seq_lengths, input_size, hidden_size, num_layers, dropout, bidirectional, precision):
    """`rnn.lstm_fwd` by `lstm_ref`, as touchy as cuDNN: NaN all over if any length is 0."""
    assert precision == lax.Precision.HIGHEST
    sizes = (input_size, hidden_size, num_layers, dropout, bidirectional)
    out = reference_run(x, h_0, c_0, w, seq_lengths, *sizes)
    y, h_n, c_n = poisoned((seq_lengths >= 1).all() & (seq_lengths <= x.shape[1]).all(), out)
    return (y, h_n, c_n), (x, h_0, c_0, w, seq_lengths, y, x.ravel())


def reference_bwd(input_size, hidden_size, num_layers, dropout, bidirectional, precision, residuals, gradients):
    """`rnn.lstm_bwd` by `lstm_ref`: all NaN if d_y at padding is not 0 or the record is wrong, and for d_x there."""
    assert precision == lax.Precision.HIGHEST
    x, h_0, c_0, w, seq_lengths, _, reserve = residuals
    sizes = (input_size, hidden_size, num_layers, dropout, bidirectional)
    (y, *_), pull = jax.vjp(lambda x, h_0, c_0, w: reference_run(x, h_0, c_0, w, seq_lengths, *sizes), x, h_0, c_0, w)
    padding = jnp.arange(y.shape[1], dtype=jnp.int32)[None, :, None] >= seq_lengths[:, None, None]
    fine = (seq_lengths >= 1).all() & (reserve == x.ravel()).all() & jnp.where(padding, gradients[0] == 0, True).all()
    d_x, *d_rest = poisoned(fine, pull(gradients))
    return jnp.where(padding, jnp.nan, d_x), *d_rest, jnp.zeros_like(seq_lengths)


@pytest.fixture
def reference(monkeypatch):
    """cuDNN's two calls, by reference functions of the same signature."""
    for name, function in (("lstm_fwd", reference_fwd), ("lstm_bwd", reference_bwd)):
        assert list(inspect.signature(getattr(rnn, name)).parameters) == list(inspect.signature(function).parameters)
        monkeypatch.setattr(rnn, name, function)


@pytest.fixture
def traceable(monkeypatch):
    """An answer to the question for buffer sizes that only a GPU can answer, so that JAX traces its own two calls."""
    size = "jax.experimental.rnn.gpu_rnn.compute_rnn_workspace_reserve_space_sizes"
    monkeypatch.setattr(size, lambda *_: (SIZE, SIZE), raising=False)
    monkeypatch.setattr(cudnn, "_has_gpu", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
def test_packing_is_read_by_jax_and_its_transpose_undoes_it(bias):
    params, *_ = given(bias=bias)
    packed = cudnn.pack(params)
    assert packed.shape == (rnn.get_num_params_in_lstm(I, H, 1, False),)
    leaves = [np.zeros(4 * H, np.float32) if leaf is None else leaf for leaf in params[:4]]
    for unpacked, leaf in zip(rnn.unpack_lstm_weights(packed, I, H, 1, False), leaves, strict=True):
        np.testing.assert_array_equal(unpacked[0], leaf)
    (undone,) = jax.linear_transpose(cudnn.pack, params)(packed)
    assert_close(undone, params, 0)


def test_flip_turns_the_valid_steps_around():
    steps = jnp.arange(5)[:, None, None] + jnp.array([[[10], [20], [30]]])
    flipped = cudnn.flip(steps, jnp.array([5, 3, 0]))
    np.testing.assert_array_equal(
        flipped[:, :, 0].T, [[14, 13, 12, 11, 10], [22, 21, 20, 23, 24], [30, 31, 32, 33, 34]]
    )
    np.testing.assert_array_equal(cudnn.flip(steps, None), steps[::-1])


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(
    ("reverse", "lengths", "bias", "dtype", "atol"),
    [
        (True, None, True, np.float32, 1e-5),
        (False, LENGTHS, True, np.float64, 1e-12),
        # Lengths known only when the program runs may be out of range: beyond it, cuDNN would leave its buffers.
        (True, LENGTHS + np.array([0, 3, -2, 0], np.int8), False, np.float64, 1e-12),
    ],
)
def test_values_and_gradients_are_those_of_xla(reverse, lengths, bias, dtype, atol):
    with jax.enable_x64(dtype == np.float64):
        masks = masked(lengths)

        @jax.jit
        def both(operands):
            layer = functools.partial(xla.layer, LSTM, **masks._asdict(), reverse=reverse)
            wanted, pull = jax.vjp(layer, *operands)
            outputs, residuals = cudnn.forward(operands, masks, reverse=reverse, keep=True)
            assert residuals is not None
            cotangents = jax.tree.map(lambda a: jax.random.normal(jax.random.key(4), a.shape, a.dtype), wanted)
            gradients = cudnn.backward(operands, masks, outputs, residuals, cotangents, reverse=reverse)
            return (outputs, gradients), (wanted, Operands(*pull(cotangents)))

        got, wanted = both(given(bias=bias, dtype=dtype))
        assert_close(got, wanted, atol)
        assert [a.dtype for a in jax.tree.leaves(got)] == [a.dtype for a in jax.tree.leaves(wanted)]


BATCH, TIME = export.symbolic_shape("batch, time")


@pytest.mark.usefixtures("traceable")
@pytest.mark.parametrize(
    ("reason", "operands"),
    [
        (None, given(bias=False)),
        ("float32 only, not bfloat16", given(dtype=jnp.bfloat16)),
        ("no empty batch", jax.tree.map(lambda a: a[:, :0] if a.ndim == 3 else a, given())),
        (
            "as known numbers, not x as [time, batch, 3]",
            given()._replace(x=jax.ShapeDtypeStruct((TIME, BATCH, I), jnp.float32)),
        ),  # pyright: ignore[reportArgumentType]
    ],
)
def test_why_not(reason, operands):
    said = cudnn.why_not(operands)
    assert said is None if reason is None else reason in said


def test_why_not_without_a_gpu(monkeypatch):
    def no_backend(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_backend)
    assert "finds none here" in str(cudnn.why_not(given()))
    monkeypatch.setattr(jax, "local_devices", lambda backend: [backend])
    assert cudnn.why_not(given()) is None


@pytest.mark.usefixtures("traceable")
def test_a_program_with_a_branch_for_cuda_runs_on_cpu():
    masks = masked(LENGTHS)

    def train(operands):
        outputs, residuals = cudnn.forward(operands, masks, reverse=True, keep=True)
        assert residuals is not None
        return outputs, cudnn.backward(operands, masks, outputs, residuals, outputs, reverse=True)

    def by_xla(operands):
        return xla.layer(LSTM, *operands, **masks._asdict(), reverse=True), operands

    with jax.default_device(jax.devices("cpu")[0]):
        run = jax.jit(lambda operands: lax.platform_dependent(operands, cuda=train, default=by_xla))
        assert_close(run(given()), by_xla(given()), 1e-6)


@pytest.mark.usefixtures("traceable")
def test_calls_of_cudnn_as_traced():
    """The real calls: without TF32, and with the reserve space first as it was left, then as a copy."""
    operands, masks = given(), masked(LENGTHS)
    forward = functools.partial(cudnn.forward, masks=masks, reverse=False)
    (y, end), reserve = jax.eval_shape(functools.partial(forward, keep=True), operands)
    assert (y.shape, end.h.shape, end.c.shape, reserve.shape) == ((T, B, H), (B, H), (B, H), (SIZE,))
    assert jax.eval_shape(functools.partial(forward, keep=False), operands)[1] is None

    outputs = (jnp.zeros((T, B, H)), operands.state)
    backward = functools.partial(cudnn.backward, reverse=False)
    program = jax.make_jaxpr(backward)(operands, masks, outputs, jnp.zeros(SIZE), outputs)
    call = the_call(program, "rnn_bwd")
    (reserve,) = (variable for variable in call.invars if variable.aval.shape == (SIZE,))
    assert reserve not in program.jaxpr.invars
    the_call(jax.make_jaxpr(functools.partial(forward, keep=True))(operands), "rnn_fwd")


def the_call(program, name):
    """The one equation of the program that calls cuDNN, once, without TF32."""
    (call,) = (equation for equation in program.eqns if name in str(equation))
    assert str(call).count(f"{name}[") == 1
    assert "cudnn_allow_tf32=False" in str(call)
    return call


@pytest.mark.usefixtures("reference")
def test_maps_over_parameters():
    params, x, state = given()
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)

    @jax.jit
    def run(params):
        return cudnn.forward(Operands(params, x, state), masked(LENGTHS), reverse=True, keep=False)[0]

    got = jax.vmap(run)(many)
    for k in range(2):
        one = jax.tree.map(lambda a, k=k: a[k], (got, many))
        assert_close(one[0], run(one[1]), 1e-6)


@pytest.mark.usefixtures("traceable")
def test_maps_what_has_no_rule_for_it():
    params, x, state = given()
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)

    def run(params):
        return cudnn.forward(Operands(params, x, state), masked(), reverse=False, keep=False)

    (y, _), _ = jax.eval_shape(jax.vmap(run), many)
    assert y.shape == (2, T, B, H)
