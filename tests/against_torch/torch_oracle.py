"""A case of the grid, run by PyTorch itself."""

import numpy as np
import torch
from cases import LENGTHS, Case, H, I


def run(case: Case, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """output, h_n, c_n and, under `d_` names, the gradients of all inputs, by `torch.nn.LSTM`."""
    tensors = {name: torch.tensor(array, requires_grad=not name.startswith("ct_")) for name, array in given.items()}
    module = torch.nn.LSTM(
        I,
        H,
        case.num_layers,
        bias=case.bias,
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        proj_size=case.proj_size,
        dtype=tensors["x"].dtype,
    )
    module.load_state_dict({name: tensors[name].detach() for name, _ in module.named_parameters()})
    x = tensors["x"]
    if case.ragged:
        x = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(LENGTHS), batch_first=case.batch_first, enforce_sorted=False
        )
    y, (h_n, c_n) = module(x, (tensors["h_0"], tensors["c_0"]) if case.with_state else None)
    if case.ragged:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=case.batch_first)
    torch.autograd.backward((y, h_n, c_n), (tensors["ct_output"], tensors["ct_h_n"], tensors["ct_c_n"]))

    result = {"output": y, "h_n": h_n, "c_n": c_n, "d_x": tensors["x"].grad}
    result |= {f"d_{name}": parameter.grad for name, parameter in module.named_parameters()}
    if case.with_state:
        result |= {"d_h_0": tensors["h_0"].grad, "d_c_0": tensors["c_0"].grad}
    return {name: tensor.detach().numpy() for name, tensor in result.items() if tensor is not None}
