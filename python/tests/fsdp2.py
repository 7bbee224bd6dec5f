"""A program for `torchrun`: training steps of a model whose parameters are sharded over the processes by FSDP2.

Accelerate, and with it the Trainer, shards on GPUs only. PyTorch itself also does on CPUs.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import colm
from cases import random_tokens, small_model


def prepared(air: bool) -> colm.ColmForCausalLM:
    """A model with a frozen first chain and the joint loss."""
    model = small_model(air).train()
    colm.freeze_chains(model, range(1))
    model.set_loss_weights([1, 1, 1])
    return model


def steps(model: colm.ColmForCausalLM, rows: slice) -> None:
    """Three steps on these rows of the same batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(3):
        tokens = random_tokens(4, 8, seed)[rows]
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()


def main() -> None:
    """Writes the trained tensors to the path in the first argument, and checkpoints `colm` and `air` beside it."""
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (size,))
    trained = {}
    for air in (False, True):
        model = prepared(air)
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        steps(model, slice(rank * 4 // size, (rank + 1) * 4 // size))
        trained[air] = {name: parameter.full_tensor().detach() for name, parameter in model.named_parameters()}
        # As the Trainer does.
        folder = Path(sys.argv[1]).with_name("air" if air else "colm")
        model.save_pretrained(folder, state_dict=dict(trained[air]), is_main_process=rank == 0)
    if rank == 0:
        torch.save(trained, sys.argv[1])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
