import json
from pathlib import Path

import pytest

from hybridvit.cli.main import main
from hybridvit.deploy.bench import Timing
from hybridvit.deploy.bench_plot import plot

TINY = ["cvt_nano", "--against", "cmt_nano", "--image-size", "32", "--rounds", "2", "--no-memory"]


def test_the_first_model_is_the_measure_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TINY, "--batch-size", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["timings"]
    assert [(row["model"], row["engine"]) for row in rows] == [
        ("cmt_nano", "eager"),
        ("cvt_nano", "eager"),
        ("cmt_nano", "fused"),
        ("cvt_nano", "fused"),
    ]
    assert [row["ratio"] for row in rows[::2]] == [1.0, 1.0]
    assert all(row["gmacs"] > 0 and row["spread"][0] <= row["milliseconds"] <= row["spread"][1] for row in rows)


def test_accuracy_is_drawn_against_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    common = {
        "gmacs": 4.0,
        "spread": (9.0, 11.0),
        "ratio": 1.0,
        "peak_share": 0.5,
        "peak_mib": None,
        "image_size": (224, 224),
    }
    timings = [
        Timing(model=name, engine="fused", milliseconds=10.0 + top1, top1=top1, **common)
        for name, top1 in (("cvt_13", 81.6), ("cmt_s", 83.5))
    ]
    plot(timings, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().count("<path") > 2


def test_a_plot_without_published_accuracies_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TINY, "--plot", str(tmp_path / "plot.svg")]) == 2
    assert "none of these models has one" in capsys.readouterr().err


def test_a_training_step_can_be_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TINY, "--train"]) == 0
    assert "pictures/s" in capsys.readouterr().out


@pytest.mark.parametrize("training", [[], ["--train"]])
def test_memory_is_measured_in_a_process_of_its_own(training: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the largest memory since a moment")
    one = ["bench", "cvt_nano", "--against", "none", "--engine", "eager", "--rounds", "2", "--json", *training]
    peaks = []
    for batch_size in ("1", "64"):
        assert main([*one, "--image-size", "64", "--batch-size", batch_size]) == 0
        peaks.append(json.loads(capsys.readouterr().out)["timings"][0]["peak_mib"])
    assert peaks[1] > peaks[0] + 10


def test_another_librarys_model_runs_on_the_same_engine(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    words = ["bench", "cvt_nano", "--against", "resnet10t", "--engine", "onnx", "--image-size", "32"]
    assert main([*words, "--rounds", "2", "--no-memory", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["timings"]
    assert [(row["model"], row["engine"]) for row in rows] == [("resnet10t", "onnx"), ("cvt_nano", "onnx")]


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "no_such_model", "--against", "none"]) == 2
    assert "no_such_model" in capsys.readouterr().err
