"""What JAX lacks, and modules on its inner parts are there for; once one of these fails, that module may go or shrink.

That XLA gathers the operands of a kernel on every device, tests/test_fold_devices.py shows.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.custom_derivatives import linear_call


def test_platform_dependent_traces_only_the_platform_asked_for():
    """`implementations/_platform.py`."""
    traced = []

    def branch(name):
        def run(x):
            traced.append(name)
            return x

        return run

    jax.jit(lambda x: lax.platform_dependent(x, cpu=branch("cpu"), tpu=branch("tpu"))).lower(jnp.ones(3))
    assert set(traced) == {"cpu", "tpu"}


def test_vmap_of_linear_call():
    """`implementations/_linear.py`."""

    def double(_, x):
        return 2 * x

    with pytest.raises(NotImplementedError, match="Batching rule"):
        jax.vmap(lambda x: linear_call(double, double, (), x))(jnp.ones(3))


def test_forward_mode_of_a_function_with_a_gradient_of_its_own():
    """`implementations/_differentiable.py`."""

    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, d: (2 * x * d,))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(square, (1.0,), (1.0,))
