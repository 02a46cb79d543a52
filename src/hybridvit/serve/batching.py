"""Requests become batches: whatever waits when the model is free is run together.

Nobody waits for a batch to fill. While the model is busy requests pile up, so batches grow with the load and are single pictures
without it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import torch
from torch import Tensor, nn

from hybridvit.errors import HybridVitError


class BusyError(HybridVitError):
    """More requests wait than the server takes on."""


class Batcher:
    """Awaitable logits of single pictures, computed in batches on `executor`.

    The executor must have one thread: models are not run concurrently. All calls come from one event loop.
    """

    def __init__(self, model: nn.Module, executor: Executor, *, max_batch: int, max_waiting: int) -> None:
        self.model = model
        self.executor = executor
        self.max_batch = max_batch
        self.max_waiting = max_waiting
        self.batch_sizes: list[int] = []
        """Of all batches so far."""
        self._waiting: list[tuple[Tensor, asyncio.Future[Tensor]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def logits(self, x_1CHW: Tensor) -> Tensor:
        """Shape: (1, C, H, W) -> (K). Raises: BusyError when too many wait already; whatever the model raises."""
        if len(self._waiting) >= self.max_waiting:
            raise BusyError(f"{len(self._waiting)} pictures are waiting already. Try again in a moment.")
        future: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._waiting.append((x_1CHW, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self.max_batch], self._waiting[self.max_batch :]
            wanted = [(x_1CHW, future) for x_1CHW, future in batch if not future.done()]  # others have gone away
            if not wanted:
                continue
            pictures = [x_1CHW for x_1CHW, _ in wanted]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self.executor, forward, self.model, pictures)
            except Exception as error:  # the model's own; every request of the batch is told
                _settle(wanted, lambda future, _, error=error: future.set_exception(error), [None] * len(wanted))
                continue
            self.batch_sizes.append(len(wanted))
            _settle(wanted, lambda future, answer: future.set_result(answer), list(answers))


def _settle(
    wanted: list[tuple[Tensor, "asyncio.Future[Tensor]"]], how: Callable[..., None], answers: list[Tensor] | list[None]
) -> None:
    for (_, future), answer in zip(wanted, answers, strict=True):
        if not future.done():
            how(future, answer)


@torch.inference_mode()
def forward(model: nn.Module, pictures: list[Tensor]) -> Tensor:
    """Shape: B times (1, C, H, W) -> (B, K), float32 on the CPU."""
    parameter = next(model.parameters())
    x_BCHW = torch.cat(pictures).to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
    return model(x_BCHW).float().cpu()
