"""Every implementation gives the same values and derivatives, and each runs where it can or says why it can't."""

import functools
import types
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import everything, loss_of, plain_layer, problem
from jax import export

import jaxlstm
from jaxlstm import _stack
from jaxlstm.implementations import KERNELS, LAYERS, _kernel, pallas, xla
from jaxlstm.implementations._platform import zeros_like

INTERPRETED = types.SimpleNamespace(
    why_not=pallas.why_not,
    forward=functools.partial(pallas.forward, interpret=True),
    backward=functools.partial(pallas.backward, interpret=True),
)


def interpreted(params, x, state, *, lengths, begins, reverse):
    """`pallas`, run by Pallas's interpreter in place of a TPU."""
    run = _kernel.Run(cast(_kernel.Kernel, INTERPRETED), "cpu", zeros_like, xla.layer, reverse)
    return _kernel.layer(run, _kernel.Operands(params, x, state), _kernel.Masks(lengths, begins))


IMPLEMENTATIONS = {"xla": xla.layer, "pallas": interpreted}


def test_none_is_left_out():
    assert set(LAYERS) == {None, *IMPLEMENTATIONS, "cudnn"}  # tests/test_cudnn.py runs what of cuDNN a CPU can.


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", [{"bias": False}, {"bidirectional": True, "ragged": True, "resets": True}])
def test_value_and_gradient_are_those_of_the_plain_scan_in_float64(name, options):
    def value_and_gradient(layer, args, kwargs):
        run = functools.partial(_stack.stack, layer, **kwargs)
        return jax.jit(lambda args: (run(*args), jax.grad(loss_of(run), argnums=(0, 1, 2))(*args)))(args)

    with jax.enable_x64(True):
        args, _, kwargs = problem(**options)
        wanted = value_and_gradient(plain_layer, args, kwargs)
    got = value_and_gradient(IMPLEMENTATIONS[name], in_float32(args), kwargs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, wanted)


def test_kernels_have_all_other_derivatives():
    with jax.enable_x64(True):
        args, direction, _ = problem(num_layers=1)
        wanted = everything(functools.partial(_stack.stack, plain_layer), args, direction)
    got = everything(functools.partial(_stack.stack, interpreted), *in_float32((args, direction)))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))


def in_float32(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_maps_over_parameters_and_inputs(name):
    with jax.enable_x64(True):
        args, _, kwargs = problem(num_layers=1, ragged=True)
    args = in_float32(args)
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 2 * a]), args)

    def gradient(params, x, state):
        loss = lambda *args: sum(map(jnp.sum, jax.tree.leaves(_stack.stack(IMPLEMENTATIONS[name], *args, **kwargs))))  # noqa: E731
        return jax.grad(loss, argnums=(0, 1, 2))(params, x, state)

    got = jax.jit(jax.vmap(gradient, in_axes=(0, None, 0)))(many[0], args[1], many[2])
    for k in range(3):
        one = jax.tree.map(lambda a, k=k: a[k], (many[0], many[2]))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            jax.tree.map(lambda a, k=k: a[k], got),
            jax.jit(gradient)(one[0], args[1], one[1]),
        )


PARAMS = jaxlstm.init_lstm(jax.random.key(0), 24, 40)
X = jax.random.normal(jax.random.key(1), (6, 8, 24))


def value_and_gradient(implementation):
    def loss(params, x):
        output, state = jaxlstm.lstm(params, x, implementation=implementation)
        return jnp.sum(output**2) + jnp.sum(state.c)

    return jax.value_and_grad(loss, argnums=(0, 1))


def test_one_program_holds_the_best_for_each_platform():
    exported = export.export(jax.jit(value_and_gradient(None)), platforms=["cpu", "cuda", "tpu"])(PARAMS, X)
    assert exported.mlir_module().count("tpu_custom_call") == 2  # Forward and backward.
    again = export.deserialize(exported.serialize())
    wanted = value_and_gradient("xla")(PARAMS, X)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), again.call(PARAMS, X), wanted)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_none_decides_by_the_platform_compiled_for(platform):
    text = export.export(jax.jit(value_and_gradient(None)), platforms=[platform])(PARAMS, X).mlir_module()
    assert ("tpu_custom_call" in text) == (platform == "tpu")


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_named_kernel_says_why_it_cannot_serve_here(name, transform):
    reason = rf'implementation="{name}": .*(TPU|NVIDIA GPU).* Use "xla" or None\.'
    with pytest.raises(NotImplementedError, match=reason):
        transform(lambda: jaxlstm.lstm(PARAMS, X, implementation=name))()
    with pytest.raises(NotImplementedError, match=reason):
        transform(lambda: value_and_gradient(name)(PARAMS, X)[1])()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"checkpoint_every": 2}, "checkpoint_every must be None"),
        ({"unroll": 2}, "unroll must be None"),
        ({"params": jaxlstm.init_lstm(jax.random.key(0), 24, 40, proj_size=8)}, "projection"),
        ({"x": X[:, :0]}, "B = 0|at least one row"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", KERNELS)
def test_a_named_kernel_says_which_option_it_lacks(name, options, reason):
    arguments = {"params": PARAMS, "x": X} | options
    with pytest.raises(NotImplementedError, match=rf'^implementation="{name}": .*({reason})'):
        jax.eval_shape(functools.partial(jaxlstm.lstm, implementation=name, **arguments))
    output, _ = jax.eval_shape(functools.partial(jaxlstm.lstm, **arguments))
    assert output.shape[:2] == arguments["x"].shape[:2]


def test_only_the_first_gradient_of_cudnn():
    """As on a GPU: `implementation="cudnn"` has no reference to take other derivatives from."""
    reference = KERNELS["cudnn"].reference
    run = _kernel.Run(cast(_kernel.Kernel, INTERPRETED), "cpu", zeros_like, reference, False)

    def layer(x):
        state = jaxlstm.LSTMState(jnp.zeros((8, 40)), jnp.zeros((8, 40)))
        return jnp.sum(_kernel.layer(run, _kernel.Operands(PARAMS[0][0], x, state), _kernel.Masks(None, None))[0] ** 2)

    jax.grad(layer)(X)
    for derivative in (lambda: jax.jvp(layer, (X,), (X,)), lambda: jax.hessian(layer)(X)):
        with pytest.raises(NotImplementedError, match=r'^implementation="cudnn": .* Use "xla" or None\.'):
            derivative()
