"""data/sampler.py: which picture comes when."""

from collections import Counter

import pytest

from hybridvit.data.sampler import TrainSampler, epoch_order
from hybridvit.errors import DataError


def sampler(**changes: int) -> TrainSampler:
    values = {"num_images": 50, "global_batch": 12, "device_batch": 4, "epochs": 3, "seed": 5} | changes
    return TrainSampler(values.pop("num_images"), **values)


def test_an_epoch_draws_every_picture_at_most_once() -> None:
    chunks = list(sampler())
    assert len(chunks) == len(sampler()) == 3 * 4 * 3
    for epoch in range(3):
        drawn = [address.picture for chunk in chunks for address in chunk if address.epoch == epoch]
        assert len(drawn) == len(set(drawn)) == 48


def test_epochs_and_seeds_have_their_own_orders() -> None:
    orders = [epoch_order(50, seed=seed, epoch=epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert epoch_order(50, seed=1, epoch=2).tolist() == orders[1 * 3 + 2]


@pytest.mark.parametrize("first_step", [1, 4, 7, 11])
def test_a_later_first_step_gives_the_rest_of_the_same_sequence(first_step: int) -> None:
    assert list(sampler(first_step=first_step)) == list(sampler())[first_step * 3 :]


@pytest.mark.parametrize("world", [1, 3])
def test_the_ranks_together_compute_the_chunks_of_one(world: int) -> None:
    ranks = [list(sampler(rank=rank, world=world)) for rank in range(world)]
    assert [chunk for chunks in zip(*ranks, strict=True) for chunk in chunks] == list(sampler())


def test_repeats_draw_what_was_asked_for_on_a_small_set() -> None:
    chunks = list(sampler(num_images=1000, global_batch=100, device_batch=50, epochs=1, repeats=3))
    counts = Counter(address.picture for chunk in chunks for address in chunk)
    assert sum(counts.values()) == 1000
    assert Counter(counts.values()) == {3: 333, 1: 1}


def test_the_repeats_of_a_picture_have_their_own_augmentation_and_chunks() -> None:
    first, second, *_ = sampler(num_images=24, global_batch=24, device_batch=12, epochs=1, repeats=2)
    assert [address.picture for address in first] == [address.picture for address in second]
    assert not set(first) & set(second)


def test_too_few_pictures_for_a_batch_is_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"10 training pictures do not fill one batch of 12.*--set global_batch=10"):
        sampler(num_images=10)
