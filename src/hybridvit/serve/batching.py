"""Requests become batches: whatever waits when the model is free is run together.

Nobody waits for a batch to fill. While the model is busy requests pile up, so batches grow with the load and are single pictures
without it. Other work of a model (explaining) is done one piece at a time between batches, and so is the work of other models.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hybridvit.serve.uploads import BusyError


class Batcher:
    """Awaitable logits of single pictures, computed in batches on `executor`.

    The executor must have one thread: models are not run concurrently. It is handed one batch and one other piece of work of
    each model at a time, first come, first served: so nobody waits longer for one model because another is asked more.
    All calls come from one event loop.
    """

    def __init__(self, model: nn.Module, executor: Executor, *, max_batch: int, max_waiting: int) -> None:
        self.model = model
        self.executor = executor
        self.max_batch = max_batch
        self.max_waiting = max_waiting
        self.num_waiting = 0
        """Pictures that have been let in and not answered."""
        self.turn = asyncio.Lock()
        """To be held for other work on the executor: one piece of it at a time."""
        self._waiting: list[tuple[Tensor, asyncio.Future[Tensor]]] = []
        self._running: asyncio.Task[None] | None = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from before a picture is decoded until it is answered. Raises: BusyError."""
        if self.num_waiting >= self.max_waiting:
            raise BusyError(f"{self.num_waiting} pictures are waiting already. Try again in a moment.")
        self.num_waiting += 1
        try:
            yield
        finally:
            self.num_waiting -= 1

    async def logits(self, x_1CHW: Tensor) -> Tensor:
        """Shape: (1, C, H, W) -> (K). Raises: whatever the model raises."""
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
