"""hybridvit compare, on runs that were really trained; and the page each leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from hybridvit.cli.main import main
from hybridvit.evaluation.logits import load_logits

SMALL = ["global_batch=12", "schedule.epochs=2", "schedule.warmup_epochs=0", "run.eval_epochs=1", "run.workers=0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image

    root = tmp_path_factory.mktemp("runs")
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            folder = root / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (24, 24), (100 * number + i, 60, 80)).save(folder / f"{i}.png")
    outs = [root / "one", root / "other"]
    for seed, out in enumerate(outs):
        words = ["train", "digits", "--data", str(root / "data"), "--out", str(out), "--device", "cpu"]
        assert main([*words, "--set", *SMALL, f"seed={seed}"]) == 0
    return outs


def test_a_finished_run_leaves_its_answers_and_its_page(runs: list[Path]) -> None:
    result = load_logits(runs[0] / "logits.npz")
    last = json.loads((runs[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert result.metrics.top1 == last["top1"]
    assert np.bincount(result.labels).tolist() == [8, 8]
    html = (runs[0] / "report.html").read_text()
    assert "Worst pictures" in html
    assert "torch" in html


def test_the_table_shows_runs_and_what_differs(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "both.html")]) == 0
    out = capsys.readouterr().out
    assert "one" in out
    assert "other" in out
    assert "seed" in out
    assert (tmp_path / "both.html").read_text().count("<svg") >= 3

    assert main(["compare", *map(str, runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == {"seed": [0, 1]}
    assert [row["run"] for row in found["runs"]] == ["one", "other"]


def test_a_folder_without_a_run_is_one_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
