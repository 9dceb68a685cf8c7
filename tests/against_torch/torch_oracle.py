"""A case of the grid, run by PyTorch itself."""

import numpy as np
import torch
from cases import LENGTHS, Case, H, I


def run(case: Case, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """output, h_n, c_n and, under `d_` names, the gradients of all inputs, by the module of `torch.nn`."""
    tensors = {name: torch.tensor(array, requires_grad=not name.startswith("ct_")) for name, array in given.items()}
    projection = {"proj_size": case.proj_size} if case.cell == "LSTM" else {}
    module = getattr(torch.nn, case.cell)(
        I,
        H,
        case.num_layers,
        bias=case.bias,
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        dtype=tensors["x"].dtype,
        **projection,
    )
    module.load_state_dict({name: tensors[name].detach() for name, _ in module.named_parameters()})
    x = tensors["x"]
    if case.ragged:
        x = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(LENGTHS), batch_first=case.batch_first, enforce_sorted=False
        )
    given_state = tuple(tensors[name] for name in case.states) if case.with_state else None
    only_h = case.cell != "LSTM"
    y, final = module(x, given_state[0] if only_h and given_state else given_state)
    final = (final,) if only_h else final
    if case.ragged:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=case.batch_first)
    cotangents = ["ct_output", *(f"ct_{name[0]}_n" for name in case.states)]
    torch.autograd.backward((y, *final), tuple(tensors[name] for name in cotangents))

    result = {"output": y, "d_x": tensors["x"].grad}
    result |= {f"{name[0]}_n": tensor for name, tensor in zip(case.states, final, strict=True)}
    result |= {f"d_{name}": parameter.grad for name, parameter in module.named_parameters()}
    if case.with_state:
        result |= {f"d_{name}": tensors[name].grad for name in case.states}
    return {name: tensor.detach().numpy() for name, tensor in result.items() if tensor is not None}
