"""One process, or several under `torchrun`: who am I, what is my part of a batch, who writes the files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRank:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def writes(self) -> bool:
        """True for the one process that writes files and talks."""
        return self.rank == 0

    def part(self, chosen: torch.Tensor) -> torch.Tensor:
        """This process's share of a batch."""
        return chosen[self.rank :: self.world]

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes; itself where there is one."""
        if self.world == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(model, find_unused_parameters=False)

    def same(self, value: float) -> float:
        """`value` as the first process has it: every process must decide alike."""
        if self.world == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(told, src=0)
        return float(told.item())


def take_place() -> ProcessRank:
    """The place that `torchrun` gave through its environment variables; alone without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessRank(rank=rank, world=world, device=device)
