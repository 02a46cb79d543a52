"""Models that several threads call at once."""

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from hybridvit.deploy.fuse import fuse
from hybridvit.kernels.kept import Kept
from hybridvit.kernels.state import is_plain, portable_kernels
from hybridvit.models import catalog
from hybridvit.models.attention import explicit_attention, recorded_attention
from support import relative_error

SIZES = [(1, 32, 32), (2, 48, 32), (3, 32, 48), (1, 40, 56)]


def in_threads(call: Callable[[int], object], count: int) -> list[object]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(call, range(count)))


@pytest.mark.parametrize("make", [fuse, lambda model: model], ids=["fused", "eager"])
@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano", "cmt_ti_flyegle"])
def test_four_threads_with_different_sizes_have_the_answers_of_one(name: str, make: Callable) -> None:
    torch.manual_seed(0)
    small = {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)} if name == "cmt_ti_flyegle" else {}
    model = make(catalog.create(name, num_classes=5, img_size=64, **small).eval())
    pictures = [torch.randn(batch, 3, rows, columns) for batch, rows, columns in SIZES]
    if small:
        pictures = [torch.nn.functional.pad(picture, (0, 40, 0, 40)) for picture in pictures]

    @torch.inference_mode()
    def answer(number: int) -> Tensor:
        return model(pictures[number % len(pictures)])

    expected = [answer(number) for number in range(len(pictures))]
    for number, found in enumerate(in_threads(answer, 60)):
        assert relative_error(found, expected[number % len(pictures)]) < 1e-5


def test_attention_is_recorded_and_written_out_in_the_thread_that_asked_only() -> None:
    model = catalog.create("cvt_nano", num_classes=5).eval()
    mine: list[Tensor] = []
    entered, others_done = threading.Event(), threading.Event()

    def other() -> bool:
        entered.wait()
        with torch.no_grad():
            model(torch.randn(1, 3, 32, 32))
        others_done.set()
        return is_plain(torch.zeros(1))

    with ThreadPoolExecutor(1) as pool, torch.no_grad():
        job = pool.submit(other)
        with recorded_attention(mine.append), explicit_attention(), portable_kernels():
            assert not is_plain(torch.zeros(1))
            entered.set()
            others_done.wait(60)
        assert job.result()
    assert mine == []


def test_what_is_kept_is_dropped_when_its_source_changes_and_bounded() -> None:
    source, kept = torch.ones(3), Kept(2)
    made: list[str] = []

    def ask(key: str) -> Tensor:
        return kept.get(key, source, lambda: made.append(key) or 2 * source)

    assert ask("a") is ask("a")
    source.add_(1)
    assert torch.equal(ask("a"), torch.full((3,), 4.0))
    ask("b"), ask("a"), ask("c"), ask("a")
    assert made == ["a", "a", "b", "c"]
    ask("b")
    assert made[-1] == "b"
    for again in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert (again.size, again._results) == (2, {})


def test_what_inference_leaves_behind_serves_training() -> None:
    kept, source = Kept(1), torch.ones(3)
    with torch.inference_mode():
        assert not kept.get("a", source, lambda: 2 * source).is_inference()


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@torch.no_grad()
def test_weights_loaded_into_a_fused_model_that_has_run_are_used(name: str) -> None:
    torch.manual_seed(0)
    models = [catalog.create(name, num_classes=5).eval() for _ in range(2)]
    used, other = (fuse(model) for model in models)
    x = torch.randn(2, 3, 40, 48)
    used(x)
    used.load_state_dict(other.state_dict())
    assert torch.equal(used(x), other(x))
    for module in used.modules():  # as in-place arithmetic changes them, too
        for key, buffer in module.named_buffers(recurse=False):
            if key in ("weight", "taps_O133", "baked"):
                buffer.mul_(0.5)
    assert torch.equal(used(x), copy.deepcopy(used)(x))


@pytest.mark.parametrize("name", ["cmt_nano", "cmt_ti_flyegle"])
@torch.no_grad()
def test_a_position_table_written_to_past_torchs_counter_is_resized_anew(name: str) -> None:
    torch.manual_seed(0)
    small = {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)} if name == "cmt_ti_flyegle" else {}
    models = [catalog.create(name, num_classes=5, img_size=64, **small).eval() for _ in range(2)]
    average, model = models
    x = torch.randn(1, 3, 96, 64)
    average(x)
    for mine, other in zip(average.parameters(), model.parameters(), strict=True):  # as many moving averages do
        mine.data.mul_(0.0).add_(2 * other.data)
    assert torch.equal(average(x), copy.deepcopy(average)(x))
