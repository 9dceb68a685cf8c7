"""Every implementation gives the same values and derivatives, and each runs where it can or says why it can't.

All run through `jaxlstm.lstm` and the table's own dispatch; Pallas's kernels by its interpreter, as kernels of the CPU.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import MIXED, everything, everything_of_reference, loss_of, plain_layer, problem
from jax import export
from table import interpreted, recording, table_of
from trees import assert_within_rounding

import jaxlstm
from jaxlstm import _stack
from jaxlstm.cells import LSTM
from jaxlstm.implementations._choice import KERNELS

NAMES = [entry.name for entry in KERNELS]
ON_CPU = {"xla": "xla", "pallas": "pallas", "native": "native", "None": None}


@pytest.fixture(params=ON_CPU)
def lstm(request):
    """`jaxlstm.lstm` by one implementation; None finds Pallas's kernels proven for the CPU."""
    with table_of(interpreted("cpu"), *(entry for entry in KERNELS if entry.name == "native")):
        yield functools.partial(jaxlstm.lstm, implementation=ON_CPU[request.param])


def in_float32(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


def test_none_is_left_out():
    assert set(NAMES) == set(ON_CPU) - {"xla", "None"} | {"cudnn"}  # tests/test_cudnn.py runs what of it a CPU can.


PROBLEMS = {
    "without bias": {"bias": False},
    "both directions": {"bidirectional": True, "ragged": True, "resets": True},
    "one layer": {"num_layers": 1, "ragged": True, "resets": True},
}


@functools.cache
def reference(name, derivatives):
    """A problem in float64, and what the plain scan makes of it, once for all implementations."""
    with jax.enable_x64(True):
        args, direction, kwargs = problem(**PROBLEMS[name])
        plain = functools.partial(_stack.stack, plain_layer, LSTM, **kwargs)
        return args, direction, kwargs, derivatives(plain, args, direction)


def value_and_gradients(run, args, direction):
    del direction
    return jax.jit(lambda args: (run(*args), jax.grad(loss_of(run), argnums=(0, 1, 2))(*args)))(args)


@pytest.mark.parametrize("name", ["without bias", "both directions"])
def test_value_and_gradient_are_those_of_the_plain_scan_in_float64(lstm, name):
    args, _, kwargs, wanted = reference(name, value_and_gradients)
    assert_within_rounding(value_and_gradients(functools.partial(lstm, **kwargs), in_float32(args), None), wanted)


def test_all_other_derivatives(lstm):
    args, direction, kwargs, wanted = reference("one layer", everything_of_reference)
    assert_within_rounding(everything(functools.partial(lstm, **kwargs), *in_float32((args, direction))), wanted)


@pytest.mark.parametrize("mapped", [(0, None, 0), (None, 0, None), (0, 0, 0)])
def test_maps_over_parameters_and_inputs(lstm, mapped):
    with jax.enable_x64(True):
        args, _, kwargs = problem(num_layers=1, ragged=True)
    args = in_float32(args)
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 2 * a]), args)
    gradient = jax.grad(loss_of(functools.partial(lstm, **kwargs)), argnums=(0, 1, 2))
    chosen = [one if axis is None else all_ for one, all_, axis in zip(args, many, mapped, strict=True)]
    got = jax.jit(jax.vmap(gradient, in_axes=mapped))(*chosen)
    one = jax.jit(gradient)
    for k in range(3):
        given = [
            a if axis is None else jax.tree.map(lambda a, k=k: a[k], a) for a, axis in zip(chosen, mapped, strict=True)
        ]
        assert_within_rounding(jax.tree.map(lambda a, k=k: a[k], got), one(*given))


PARAMS = jaxlstm.init_lstm(jax.random.key(0), 24, 40)
X = jax.random.normal(jax.random.key(1), (6, 8, 24))


def value_and_gradient(implementation):
    def loss(params, x):
        output, state = jaxlstm.lstm(params, x, implementation=implementation)
        return jnp.sum(output**2) + jnp.sum(state.c)

    return jax.value_and_grad(loss, argnums=(0, 1))


def test_only_gradients_keep_anything():
    """A kernel that runs forward alone is not told to keep anything."""
    for differentiated in (False, True):
        entry, calls = recording(interpreted("cpu"))
        with table_of(entry):
            run = functools.partial(jaxlstm.lstm, implementation=None)
            function = value_and_gradient(None) if differentiated else run
            jax.jit(function).lower(PARAMS, X)
        assert ("backward" in calls) == differentiated
        assert set(calls) - {"backward"} == {"forward, kept" if differentiated else "forward"}


def test_kernels_not_proven_cost_nothing_and_are_not_chosen():
    entry, calls = recording(interpreted("cpu", proven=False))
    with table_of(entry):
        texts = [jax.jit(value_and_gradient(name)).lower(PARAMS, X).as_text() for name in (None, "xla")]
        assert texts[0] == texts[1]
        assert not calls
        explained = jaxlstm.explain(PARAMS, X)["cpu"]
        assert explained == ("xla", {"pallas": "not proven on hardware yet; name it to use it"})
        assert_within_rounding(value_and_gradient("pallas")(PARAMS, X), value_and_gradient("xla")(PARAMS, X))
    assert calls


def test_one_program_holds_the_best_for_each_platform():
    """As once the TPU kernels are proven; a kernel that no file can hold gives way to xla in an exported program."""
    local, calls = recording(interpreted("cpu", "local")._replace(exports=False))
    tpu = next(entry for entry in KERNELS if entry.name == "pallas")._replace(proven=True)
    with table_of(local, tpu):
        program = jax.jit(value_and_gradient(None))
        exported = export.export(program, platforms=["cpu", "cuda", "tpu"])(PARAMS, X)
        assert exported.mlir_module().count("tpu_custom_call") == 2  # Forward and backward.
        assert "backward" not in calls
        again = export.deserialize(exported.serialize())
        wanted = value_and_gradient("xla")(PARAMS, X)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), again.call(PARAMS, X), wanted)
        assert_within_rounding(program(PARAMS, X), wanted)
        assert "backward" in calls


def test_the_first_kernel_of_a_platform_that_can_serve_is_chosen():
    first, second = (recording(interpreted("cpu", name)) for name in ("first", "second"))
    unable = interpreted("cpu", "unable")
    with table_of(unable._replace(kernel=recording(unable, why_not="it is in bed")[0].kernel), first[0], second[0]):
        jaxlstm.lstm(PARAMS, X)
        explained = jaxlstm.explain(PARAMS, X)
    assert first[1]
    assert not second[1]
    assert explained["cpu"].implementation == "first"
    assert explained["cpu"].reasons == {
        "unable": "it is in bed",
        "second": '"first" comes first',
        "xla": '"first" comes first',
    }
    assert explained["tpu"] == ("xla", dict.fromkeys(("unable", "first", "second"), "it runs on cpu only"))
    assert repr(explained).splitlines()[1].split()[:3] == ["cpu", "first", "unable"]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ["pallas", "cudnn"])
def test_a_named_kernel_says_why_it_cannot_serve_here(name, transform):
    reason = rf'implementation="{name}": .*(TPU|NVIDIA GPU).* Use "xla" or None\.'
    with pytest.raises(NotImplementedError, match=reason):
        transform(lambda: jaxlstm.lstm(PARAMS, X, implementation=name))()
    with pytest.raises(NotImplementedError, match=reason):
        transform(lambda: value_and_gradient(name)(PARAMS, X)[1])()


@pytest.mark.parametrize("name", ["weight_ih", "bias_hh", "lengths"])
def test_a_kernel_is_not_given_what_it_does_not_say_that_it_takes(name):
    """As one that is older than a new parameter."""
    entry, calls = recording(interpreted("cpu"))
    with table_of(entry._replace(takes=entry.takes - {name})):
        with pytest.raises(NotImplementedError, match=f"it does not know {name}"):
            jaxlstm.lstm(PARAMS, X, lengths=[1] * 8, implementation="pallas")
        jaxlstm.lstm(PARAMS, X, lengths=[1] * 8)
    assert not calls


def test_explains_a_cell_of_any_state():
    """Of whose state a kernel that was made for another cell can't tell how fast it would be."""
    with jax.enable_x64(True):
        (params, x, state), _, _ = problem(cell=MIXED, num_layers=1)
        explained = jaxlstm.explain(params, x, state, cell=MIXED)
    assert {explanation.implementation for explanation in explained.values()} == {"xla"}
    assert explained["cpu"].reasons["native"] == "it computes the LSTM and the GRU, not the cell _mixed"


RESETS = jnp.zeros((6, 8), bool)


@pytest.mark.parametrize(
    "options",
    [{"checkpoint_every": 2}, {"unroll": 2}, {"resets": RESETS, "reset_state": jaxlstm.zero_state(PARAMS)}],
    ids="-".join,
)
def test_a_kernel_can_take_no_option(options):
    """Whatever its row of the table says: the option would never reach it."""
    entry, calls = recording(interpreted("cpu"))
    option = [*options][-1]
    with table_of(entry._replace(takes=entry.takes | {option})):
        with pytest.raises(NotImplementedError, match=f"{option} must be None"):
            jaxlstm.lstm(PARAMS, X, implementation="pallas", **options)
        jaxlstm.lstm(PARAMS, X, **options)
    assert not calls


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"checkpoint_every": 2}, "checkpoint_every must be None"),
        ({"unroll": 2}, "unroll must be None"),
        ({"resets": RESETS, "reset_state": jaxlstm.zero_state(PARAMS)}, "resets must be None|reset_state must be None"),
        ({"params": jaxlstm.init_lstm(jax.random.key(0), 24, 40, proj_size=8)}, "projection"),
        ({"x": X[:, :0]}, "B = 0|at least one row"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", NAMES)
def test_a_named_kernel_says_which_option_it_lacks(name, options, reason):
    arguments = {"params": PARAMS, "x": X} | options
    if name == "native" and "params" in options:
        jax.eval_shape(functools.partial(jaxlstm.lstm, implementation=name, **arguments))  # It has projections.
        return
    with pytest.raises(NotImplementedError, match=rf'^implementation="{name}": .*({reason})'):
        jax.eval_shape(functools.partial(jaxlstm.lstm, implementation=name, **arguments))
    output, _ = jax.eval_shape(functools.partial(jaxlstm.lstm, **arguments))
    assert output.shape[:2] == arguments["x"].shape[:2]


def test_only_the_first_gradient_of_cudnn():
    """As on a GPU: `implementation="cudnn"` has no reference to take other derivatives from."""
    cudnn = next(entry for entry in KERNELS if entry.name == "cudnn")
    with table_of(cudnn._replace(kernel=interpreted("cpu").kernel, platform="cpu")):
        loss = lambda x: jnp.sum(jaxlstm.lstm(PARAMS, x, implementation="cudnn")[0] ** 2)  # noqa: E731
        jax.grad(loss)(X)
        for derivative in (lambda: jax.jvp(loss, (X,), (X,)), lambda: jax.hessian(loss)(X)):
            with pytest.raises(NotImplementedError, match=r'^implementation="cudnn": .* Use "xla" or None\.'):
                derivative()


@pytest.mark.parametrize("name", ["cuda", ["xla"], 3])
def test_only_names_of_the_table(name):
    known = ", ".join(f'"{known}"' for known in ("xla", *(entry.name for entry in KERNELS)))
    with pytest.raises((TypeError, ValueError), match=rf"^implementation: expected None or one of {known}, got"):
        jaxlstm.lstm(PARAMS, X, implementation=name)
