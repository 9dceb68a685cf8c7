"""How parameters start: whose initializer each one takes, and what `jaxlstm.initializers` draw."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.nn.initializers import constant, lecun_normal, orthogonal, zeros
from jax.sharding import PartitionSpec
from trees import assert_identical

import jaxlstm
import jaxlstm.linen
import jaxlstm.nnx
from jaxlstm.initializers import chrono, forget_bias, per_gate

IN, H, P = 8, 64, 32
KEY = jax.random.key(0)


def of_linen(kind, **options) -> dict[str, Any]:
    module = getattr(jaxlstm.linen, kind)(IN, H, **options)
    return module.init(KEY, jnp.ones((1, 1, IN) if kind == "LSTM" else (1, IN)))["params"]


def of_nnx(kind, **options) -> dict[str, Any]:
    module = getattr(jaxlstm.nnx, kind)(IN, H, **options, rngs=nnx.Rngs(0))
    return {name: leaf[...] for name, leaf in nnx.state(module, nnx.Param).items()}


def of_core(kind, param_dtype=jnp.float32, **options) -> dict[str, Any]:
    init = jaxlstm.init_lstm if kind == "LSTM" else jaxlstm.init_lstm_cell
    return jaxlstm.named_parameters(init(KEY, IN, H, dtype=param_dtype, **options))


everywhere = pytest.mark.parametrize("build", [of_core, of_linen, of_nnx])


def gates(leaf) -> np.ndarray:
    """`[4, H, K]`, or `[4, H]` of a bias."""
    return np.stack(np.split(np.asarray(leaf, np.float32), 4))


def assert_orthonormal(rows, atol=1e-5):
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=atol)


@everywhere
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize("own", [True, False], ids=["the state's own", "one for both"])
def test_each_parameter_takes_its_initializer(build, kind, own):
    options: dict[str, Any] = {"weight_init": constant(1), "bias_init": constant(2)}
    options |= {"weight_hh_init": constant(3), "bias_hh_init": constant(4)} if own else {}
    options |= {"num_layers": 2, "bidirectional": True, "proj_size": P} if kind == "LSTM" else {}
    leaves = build(kind, **options)
    assert len(leaves) == (20 if kind == "LSTM" else 4)
    expected = {"weight_ih": 1, "weight_hr": 1, "weight_hh": 3 if own else 1, "bias_ih": 2, "bias_hh": 4 if own else 2}
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, expected[name.partition("_l")[0]], err_msg=name)


@everywhere
@pytest.mark.parametrize("alone", ["weight_hh_init", "bias_hh_init"])
def test_the_rest_starts_as_pytorch_does(build, alone):
    plain, leaves = build("LSTMCell"), build("LSTMCell", **{alone: zeros})
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf) if name == alone[:-5] else plain[name])


@everywhere
def test_per_gate_has_the_fan_in_of_what_a_gate_reads(build):
    leaves = build("LSTM", weight_init=per_gate(lecun_normal()), proj_size=P)
    # Truncated normal draws; the least of these leaves has 2048 of them, whose deviation is within 10 % almost surely.
    for name, fan_in in {"weight_ih_l0": IN, "weight_hh_l0": P, "weight_hr_l0": H}.items():
        np.testing.assert_allclose(np.std(leaves[name]), fan_in**-0.5, rtol=0.1, err_msg=name)
    assert len(np.unique(leaves["weight_ih_l0"])) > 0.99 * leaves["weight_ih_l0"].size  # each gate by a key of its own


@everywhere
def test_per_gate_orthogonal(build):
    leaves = build("LSTM", weight_init=per_gate(orthogonal()), proj_size=P)
    for gate in gates(leaves["weight_hh_l0"]):
        assert_orthonormal(gate.T)  # [P, H]: its columns
    for gate in gates(leaves["weight_ih_l0"]):
        assert_orthonormal(gate.T)
    assert_orthonormal(np.asarray(leaves["weight_hr_l0"]))  # which has no gates, though 4 divides its rows


@everywhere
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_per_gate_draws_in_half_precision(build, dtype):
    leaf = build("LSTMCell", param_dtype=dtype, weight_init=per_gate(orthogonal()))["weight_hh"]
    assert leaf.dtype == dtype
    for gate in gates(leaf):
        assert_orthonormal(gate, atol=0.05)


def test_per_gate_starts_as_flaxs_cell_does():
    """Gate by gate, what Flax's `lecun_normal` and `orthogonal` kernels draw from the same keys, transposed."""
    shape, keys = (4 * H, IN), jax.random.split(KEY, 4)
    ours = gates(per_gate(lecun_normal())(KEY, shape))
    for gate, key in zip(ours, keys, strict=True):
        np.testing.assert_array_equal(gate, lecun_normal()(key, (IN, H)).T)
    np.testing.assert_array_equal(per_gate(constant(3))(KEY, (4 * H,)), np.full(4 * H, 3))


def test_per_gate_takes_partitioned_parameters_from_outside():
    names = ("gates", None)
    spec = PartitionSpec(*names)
    leaves = of_linen("LSTM", weight_init=nn.with_partitioning(per_gate(orthogonal()), names), proj_size=P)
    specs: Any = nn.get_partition_spec(leaves)
    assert [specs[name] for name in ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0")] == [spec] * 3
    assert_orthonormal(np.asarray(nn.unbox(leaves)["weight_hr_l0"]))  # the shape tells through it, too

    mesh = jax.make_mesh((1,), ("gates",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        init = nnx.with_partitioning(per_gate(orthogonal()), names)
        module: Any = jaxlstm.nnx.LSTM(IN, H, weight_init=init, proj_size=P, rngs=nnx.Rngs(0))
        specs = nnx.get_partition_spec(nnx.state(module))
    assert specs["weight_hr_l0"].get_value() == spec
    assert_orthonormal(np.asarray(module.weight_hr_l0[...]))

    for partitioned in (nn.with_partitioning(orthogonal(), names), nnx.with_partitioning(orthogonal(), names)):
        with pytest.raises(TypeError, match=r"per_gate: .* with_partitioning\(per_gate\(init\), names\)"):
            per_gate(partitioned)(KEY, (4 * H, IN))


@everywhere
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_forget_bias_counts_once(build, kind):
    leaves = build(kind, bias_init=forget_bias(1.0))
    biases = [gates(leaf) for name, leaf in leaves.items() if name.startswith("bias")]
    assert len(biases) == 2
    np.testing.assert_array_equal(biases[0], biases[1])
    np.testing.assert_array_equal(sum(biases), [np.zeros(H), np.ones(H), np.zeros(H), np.zeros(H)])


@everywhere
def test_chrono(build):
    leaves = build("LSTMCell", bias_init=chrono(1000), bias_hh_init=zeros)
    i, f, g, o = gates(leaves["bias_ih"])
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal([g, o, *gates(leaves["bias_hh"])], np.zeros((6, H)))
    # U(1, 999): 64 draws have their mean within a third of 500, and spread over the range.
    spans = np.exp(f)
    assert 1 <= spans.min() < 250
    assert 750 < spans.max() <= 999
    assert 333 < spans.mean() < 667


@pytest.mark.parametrize("init", [forget_bias(1.0), chrono(10)])
def test_biases_are_for_biases(init):
    assert init(KEY, (4 * H,), jnp.bfloat16).dtype == jnp.bfloat16
    for shape in ((4 * H, IN), (6,)):
        with pytest.raises(ValueError, match=r"expected the shape of an LSTM's bias, \[4H\], got"):
            init(KEY, shape)


@pytest.mark.parametrize("longest", [2, 0, float("nan")])
def test_chrono_refuses_a_span_that_is_none(longest):
    with pytest.raises(ValueError, match="longest: expected more than 2 steps, got"):
        chrono(longest)


def test_per_gate_refuses_rows_that_are_no_gates():
    with pytest.raises(ValueError, match=r"per_gate: expected a shape of \[4H, K\] or \[4H\], got \[6, 3\]"):
        per_gate(zeros)(KEY, (6, 3))


@pytest.mark.parametrize("flag", ["bias", "bidirectional"])
def test_flags_are_flags(flag):
    def built(value: Any):
        options: dict[str, Any] = {flag: value}
        return jaxlstm.init_lstm(KEY, IN, H, **options)

    with pytest.raises(TypeError, match=f"{flag}: expected True or False, got 2"):
        built(2)
    assert_identical(built(np.True_), built(True))
