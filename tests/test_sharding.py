"""Runs over a mesh of 8 devices against one device.

Eight devices exist only in a process that asked for them before JAX began: run as a script, this file is that process.
"""

import functools
import json
import re
import sys
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from devices import report_of
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from strict import strictly
from table import interpreted, recording, table_of

import jaxlstm
from jaxlstm.sharding import input_spec, param_specs, shardings, state_specs

T, B, I, H = 4, 16, 3, 8  # noqa: E741
MESHES = {"data": (8, 1), "model": (1, 8), "data x model": (4, 2)}


def mesh_of(batch: int, model: int, kind: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
    return jax.make_mesh((batch, model), ("batch", "model"), axis_types=(kind,) * 2)


def functional(implementation: str | None = "xla"):
    """Parameters, and a run `(params, x, state, lengths, resets) -> (output, state)`."""
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, bidirectional=True)
    return params, lambda params, x, state, lengths, resets: jaxlstm.lstm(
        params, x, state, lengths=lengths, resets=resets, implementation=implementation
    )


def projected():
    """The same with a projection, with B before T, and begun anew from a state of its own."""
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, proj_size=4)
    anew = jax.tree.map(jnp.ones_like, jaxlstm.zero_state(params))

    def run(params, x, state, lengths, resets):
        x, resets = x.swapaxes(0, 1), None if resets is None else resets.T
        options = {"lengths": lengths, "resets": resets, "reset_state": anew, "batch_first": True}
        output, final = jaxlstm.lstm(params, x, state, **options)
        return output.swapaxes(0, 1), final

    return params, run


def linen():
    model = jaxlstm.LSTM(I, H, num_layers=2, implementation="xla")
    params = model.init(jax.random.key(0), jnp.zeros((1, 1, I)))
    return params, lambda params, x, state, lengths, resets: model.apply(
        params, x, state, lengths=lengths, resets=resets
    )


def nnx():
    from flax import nnx

    graph, params = nnx.split(jaxlstm.nnx.LSTM(I, H, bias=False, implementation="xla", rngs=nnx.Rngs(0)))
    return params, lambda params, x, state, lengths, resets: nnx.merge(graph, params)(
        x, state, lengths=lengths, resets=resets
    )


KINDS = {"functional": functional, "projected": projected, "Linen": linen, "NNX": nnx}

# On which mesh, of which axes, and whether in `jax.set_mesh`; each kind on a mesh that splits the parameters, too.
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
CASES = {
    "functional": [("data", AUTO, True), ("data", EXPLICIT, False), ("data x model", EXPLICIT, True)],
    "projected": [("data", EXPLICIT, True), ("data x model", AUTO, False)],
    "Linen": [("data", EXPLICIT, True), ("model", AUTO, False)],
    "NNX": [("model", EXPLICIT, False), ("data x model", AUTO, True)],
}
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def batch_for(params: Any, run: Any) -> tuple:
    """An input, an initial state that fits, every length from 0 to T, and resets."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (T, B, I)).astype(np.float32)
    shapes = jax.eval_shape(lambda params, x: run(params, x, None, None, None)[1], params, x)
    state = jax.tree.map(lambda s: random.uniform(-1, 1, s.shape).astype(s.dtype), shapes)
    return x, state, np.arange(B) % (T + 1), random.random((T, B)) < 0.2


def train_step(run: Any, params: Any, opt_state: Any, x: Any, state: Any, lengths: Any, resets: Any) -> tuple:
    """`(params, opt_state, values, gradients, second derivatives)`."""

    def loss_of(params, x):
        output, final = run(params, x, state, lengths, resets)
        return jnp.sum(output**2) + jnp.sum(final[1] ** 2), (output, final)

    def gradients_of(params, x):
        return jax.grad(loss_of, argnums=(0, 1), has_aux=True)(params, x)

    (gradients, results), (second, _) = jax.jvp(gradients_of, (params, x), (params, x))
    updates, opt_state = OPTIMIZER.update(gradients[0], opt_state, params)
    return optax.apply_updates(params, updates), opt_state, results, gradients, second


SPECS = (input_spec(), state_specs(model="model"), P("batch"), input_spec())


def over_mesh(mesh: jax.sharding.Mesh, run: Any, arguments: tuple) -> tuple[tuple, str]:
    """The step jitted with everything split over both axes of the mesh, and the program's text."""
    specs = (*(param_specs(tree, model="model") for tree in arguments[:2]), *SPECS)
    places = shardings(mesh, specs, arguments)
    arguments = jax.device_put(arguments, places)
    # On Explicit axes, types say where results lie.
    out: Any = None if mesh.explicit_axes else (*places[:2], None, None, None)
    step = jax.jit(functools.partial(train_step, run), out_shardings=out).lower(*arguments).compile()
    return step(*arguments), str(step.as_text())


def by_shard_map(mesh: jax.sharding.Mesh, run: Any, arguments: tuple, check_vma: bool, axes: set[str]) -> tuple:
    """The step with the LSTM alone under `shard_map` over these axes of the mesh, and any other left to XLA."""
    place = shardings(mesh, param_specs(arguments[0], model="model"), arguments[0])
    run = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(P(), input_spec(), input_spec(), P("batch"), input_spec()),
        out_specs=(input_spec(), state_specs()),
        axis_names=axes,
        check_vma=check_vma,
    )
    return jax.jit(functools.partial(train_step, run))(jax.device_put(arguments[0], place), *arguments[1:])


def difference(got: Any, wanted: Any) -> float:
    """The largest one of any element, relative to the wanted tree's largest."""
    got, wanted = (jax.tree.leaves(jax.device_get(tree)) for tree in (got, wanted))
    largest = max(float(np.max(np.abs(w))) for w in wanted)
    return max(float(np.max(np.abs(g - w))) for g, w in zip(got, wanted, strict=True)) / largest


def differences(many: tuple, one: tuple) -> list[float]:
    return [difference(m, o) for m, o in zip(many, one, strict=True)]


def held(tree: Any) -> list[float]:
    """The share of each matrix that the first device holds."""
    return [a.addressable_shards[0].data.size / a.size for a in jax.tree.leaves(tree) if a.ndim == 2]


def travels(text: str) -> list[str]:
    """The collectives in a compiled program that move rows from device to device; sums of gradients are none."""
    return re.findall(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(", text)


def main() -> None:
    """Every case, as JSON on standard output."""
    report = {}
    for kind, cases in CASES.items():
        params, run = KINDS[kind]()
        arguments = (params, OPTIMIZER.init(params), *batch_for(params, run))
        one = jax.jit(functools.partial(train_step, run))(*arguments)
        for name, axes, is_set in cases:
            sizes = MESHES[name]
            mesh = mesh_of(*sizes, axes)
            with jax.set_mesh(mesh) if is_set else nullcontext():
                many, text = over_mesh(mesh, run, arguments)
            report[f"{kind}, {name}, {axes}"] = {
                "differences": differences(many, one),
                "held": [held(many[:2]), 1 / sizes[1]],
                "travels": travels(text) if sizes[1] == 1 else [],
            }
        if kind == "functional":
            many = by_shard_map(mesh_of(4, 2), run, arguments, False, {"batch"})
            report["functional, shard_map"] = {"differences": differences(many, one)}
            report |= kernels(one)
    json.dump(report, sys.stdout)


def kernels(one: tuple) -> dict:
    """Kernels that agree with `one`, their rows over all devices: by `jit` on both kinds of mesh, by `shard_map`."""
    report = {}
    params: Any
    params, run = functional(None)
    arguments: Any = (params, OPTIMIZER.init(params), *batch_for(params, run))
    entry, calls = recording(interpreted("cpu"))
    with table_of(entry):
        for axes in (AUTO, EXPLICIT):
            with jax.set_mesh(mesh_of(8, 1, axes)):
                many, text = over_mesh(mesh_of(8, 1, axes), run, arguments)
            report[f"kernel, {axes}"] = {
                "differences": differences(many, one),
                "travels": travels(text),
                "calls": [*calls],
            }
            calls.clear()
        for check_vma in (False, True):
            many = by_shard_map(mesh_of(8, 1), run, arguments, check_vma, {"batch", "model"})
            report[f"kernel, shard_map, {check_vma}"] = {"differences": differences(many, one), "calls": [*calls]}
            calls.clear()
    with table_of(entry._replace(by_rows=False)), jax.set_mesh(mesh_of(8, 1)):
        x = jax.device_put(arguments[2], NamedSharding(mesh_of(8, 1), input_spec()))
        output, final = jax.jit(jaxlstm.lstm)(params, x)
        wanted = jax.jit(functools.partial(jaxlstm.lstm, implementation="xla"))(params, arguments[2])
        report["not by rows"] = {"differences": differences((output, final), wanted), "left to xla": not calls}
        try:
            jax.jit(functools.partial(jaxlstm.lstm, implementation="pallas"))(params, x)
        except NotImplementedError as error:
            report["not by rows"]["refused"] = str(error)
    with table_of(entry):  # Over the axis "model" XLA shares it out, inside of what `shard_map` has.
        specs: Any = {"in_specs": input_spec(), "out_specs": (input_spec(), state_specs()), "axis_names": {"batch"}}
        some = jax.shard_map(functools.partial(jaxlstm.lstm, params), mesh=mesh_of(4, 2), check_vma=False, **specs)
        found = differences(jax.jit(some)(arguments[2]), wanted)
        report["by rows of some axes"] = {"differences": found, "left to xla": not calls}
    return report


def test_eight_devices_agree_with_one():
    report = report_of(__file__, 8)
    assert len(report) == sum(map(len, CASES.values())) + 1 + 6
    for name, found in report.items():
        assert max(found["differences"]) < 1e-5, name
        assert not found.get("travels"), name
        assert "calls" not in found or {"forward, kept", "backward"} <= set(found["calls"]), name
        if "held" in found:
            shares, share = found["held"]
            assert set(shares) == {share}, name
    assert report["not by rows"]["left to xla"]
    assert report["by rows of some axes"]["left to xla"]
    assert "XLA can't share it out over devices" in report["not by rows"]["refused"]


if __name__ == "__main__":
    strictly()
    main()
