"""serve/batching.py: what waits together is computed together, and nobody is left out."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from hybridvit.serve.batching import Batcher
from hybridvit.serve.uploads import BusyError


class Gate(nn.Module):
    """Doubles the mean of each picture, once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.opened = threading.Event()
        self.batch_sizes: list[int] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        assert self.opened.wait(10)
        if (x_BCHW < 0).any():
            raise ValueError("negative picture")
        self.batch_sizes.append(len(x_BCHW))
        return self.factor * x_BCHW.mean(dim=(2, 3))


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def picture(value: float) -> Tensor:
    return torch.full((1, 1, 4, 4), value)


def test_requests_that_arrive_while_the_model_is_busy_become_one_batch(executor: ThreadPoolExecutor) -> None:
    async def main() -> None:
        model = Gate()
        batcher = Batcher(model, executor, max_batch=4, max_waiting=100)
        first = asyncio.create_task(batcher.logits(picture(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.logits(picture(k))) for k in range(1, 7)]
        await asyncio.sleep(0.05)
        model.opened.set()
        answers = await asyncio.gather(first, *others)
        assert [float(answer) for answer in answers] == [0, 2, 4, 6, 8, 10, 12]
        assert model.batch_sizes == [1, 4, 2]

    asyncio.run(main())


def test_a_full_queue_turns_requests_away_and_an_answer_makes_room(executor: ThreadPoolExecutor) -> None:
    batcher = Batcher(Gate(), executor, max_batch=1, max_waiting=2)
    with (
        batcher.place(),
        batcher.place(),
        pytest.raises(BusyError, match="2 pictures are waiting already"),
        batcher.place(),
    ):
        pass
    with batcher.place():
        assert batcher.num_waiting == 1


def test_a_model_that_is_asked_more_does_not_make_another_wait_for_all_of_it(executor: ThreadPoolExecutor) -> None:
    async def main() -> None:
        busy, other = Gate(), Gate()
        asked_more, asked_once = (Batcher(model, executor, max_batch=1, max_waiting=100) for model in (busy, other))
        many = [asyncio.create_task(asked_more.logits(picture(1))) for _ in range(20)]
        await asyncio.sleep(0.05)
        one = asyncio.create_task(asked_once.logits(picture(1)))
        one.add_done_callback(lambda _: ahead.append(len(busy.batch_sizes)))
        ahead: list[int] = []
        await asyncio.sleep(0.05)
        other.opened.set()
        busy.opened.set()
        await asyncio.gather(one, *many)
        assert ahead[0] <= 4

    asyncio.run(main())


def test_an_error_reaches_its_whole_batch_and_the_next_batch_runs(executor: ThreadPoolExecutor) -> None:
    async def main() -> None:
        model = Gate()
        model.opened.set()
        batcher = Batcher(model, executor, max_batch=4, max_waiting=100)
        with pytest.raises(ValueError, match="negative picture"):
            await batcher.logits(picture(-1))
        assert float(await batcher.logits(picture(3))) == 6

    asyncio.run(main())


def test_a_request_that_went_away_is_not_computed(executor: ThreadPoolExecutor) -> None:
    async def main() -> None:
        model = Gate()
        batcher = Batcher(model, executor, max_batch=4, max_waiting=100)
        first = asyncio.create_task(batcher.logits(picture(1)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.logits(picture(2)))
        stays = asyncio.create_task(batcher.logits(picture(3)))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        model.opened.set()
        assert float(await stays) == 6
        assert float(await first) == 2
        assert model.batch_sizes == [1, 1]

    asyncio.run(main())
