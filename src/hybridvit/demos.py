"""What the demonstrations do: data are written, then commands are given that anyone would type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEST_SCENES = 200
TRAIN_SCENES = 51_200


@dataclass(frozen=True)
class Plan:
    """What one demo does, once its data are there."""

    said: str
    steps: Sequence[Sequence[Any]]
    """The words of the commands."""
    made: str
    next: str
    """Worth typing then."""


def _digits(out: Path, train: list[Any], program: str) -> Plan:
    from hybridvit.data.digits import write_digits

    data = write_digits(out / "digits")
    weights, logits, report = out / "run" / "last.safetensors", out / "logits.npz", out / "report.png"
    return Plan(
        said=f"1,797 handwritten digits are now pictures in {data}: 898 to learn from, 899 to be evaluated on.",
        steps=[
            ["train", "digits", "--data", data, *train],
            ["eval", weights, "--data", data, "--logits", logits, "--report", report],
            ["predict", weights, *sorted((data / "test").glob("*/*.png"))[::100]],
        ],
        made=f"""\
  {weights}  the model: weights, class names, preprocessing and recipe in one file
  {report}  curves, confusion, predictions and every mistake
  {logits}  what it said about each test picture""",
        next=f"""\
  {program} predict {weights} YOUR_PICTURE.png
  {program} train finetune_small --data YOUR_FOLDER     # with train/CLASS/*.jpg and test/CLASS/*.jpg
  {program} models""",
    )


def _scenes(out: Path) -> tuple[Path, str]:
    """Where the scenes are, and what is said of them."""
    from hybridvit.data.scenes import DigitScenes, write_scene_recipe, write_scenes

    data = out / "scenes"
    write_scene_recipe(data, "train", count=TRAIN_SCENES)
    write_scenes(data, "valid", DigitScenes("test", count=TEST_SCENES))
    return data, (
        f"{TEST_SCENES} scenes of digits to be evaluated on are now in {data / 'valid'}, with boxes and masks in COCO's format. "
        f"{TRAIN_SCENES:,} others, of the other half of the digits, are composed when they are learnt from."
    )


def _detection(out: Path, train: list[Any], program: str) -> Plan:
    data, said = _scenes(out)
    weights, drawn = out / "run" / "last.safetensors", out / "drawn"
    return Plan(
        said=said,
        steps=[
            ["train", "detection_demo", "--data", data, *train],
            ["eval", weights, "--data", data],
            ["predict", weights, *sorted((data / "valid").glob("*.png"))[:8], "--draw", drawn],
        ],
        made=f"""\
  {weights}  the model: weights, class names, preprocessing and recipe in one file
  {out / "run" / "report.html"}  curves, figures by class, kinds of error
  {out / "run" / "predictions.coco.json"}  every box that was found, in COCO's format
  {drawn}  a few pictures with what was found on them""",
        next=f"""\
  {program} train finetune_detection --data YOUR_FOLDER --init cmt_s.huawei_in1k     # COCO, YOLO or Pascal VOC
  {program} models --task detection""",
    )


def _segmentation(out: Path, train: list[Any], program: str) -> Plan:
    data, said = _scenes(out)
    weights, drawn = out / "run" / "last.safetensors", out / "drawn"
    return Plan(
        said=said,
        steps=[
            ["train", "segmentation_demo", "--data", data, *train],
            ["eval", weights, "--data", data],
            ["predict", weights, *sorted((data / "valid").glob("*.png"))[:8], "--draw", drawn],
        ],
        made=f"""\
  {weights}  the model: weights, class names, preprocessing and recipe in one file
  {out / "run" / "worst.png"}  the worst pictures: truth, answer and difference
  {drawn}  a few pictures with the classes of their pixels""",
        next=f"""\
  {program} train finetune_segmentation --data YOUR_FOLDER --init cmt_ti.huawei_in1k     # images/train/*.jpg, masks/train/*.png
  {program} models --task segmentation""",
    )


DEMOS: dict[str, tuple[Callable[[Path, list[Any], str], Plan], tuple[str, ...]]] = {
    "classification": (_digits, ("cvt_nano", "cmt_nano")),
    "detection": (_detection, ("retinanet_cmt_nano", "retinanet_cvt_nano", "mask_rcnn_cmt_nano")),
    "segmentation": (_segmentation, ("semantic_fpn_cmt_nano", "semantic_fpn_cvt_nano", "upernet_cmt_nano")),
}
"""By task: its plan, and the models that it shows."""
