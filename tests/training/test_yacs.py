"""training/yacs.py: microsoft's and PaddleViT's recipe files."""

from pathlib import Path

import pytest

from hybridvit.cli.main import main
from hybridvit.config import load_recipe
from hybridvit.errors import ConfigError
from hybridvit.training.yacs import import_yacs

MICROSOFT = """
OUTPUT_DIR: 'OUTPUT/'
WORKERS: 6
PRINT_FREQ: 500
AMP:
  ENABLED: true
MODEL:
  NAME: cls_cvt
  SPEC:
    INIT: 'trunc_norm'
    NUM_STAGES: 3
    PATCH_SIZE: [7, 3, 3]
    PATCH_STRIDE: [4, 2, 2]
    PATCH_PADDING: [2, 1, 1]
    DIM_EMBED: [64, 192, 384]
    NUM_HEADS: [1, 3, 6]
    DEPTH: [1, 2, 10]
    MLP_RATIO: [4.0, 4.0, 4.0]
    ATTN_DROP_RATE: [0.0, 0.0, 0.0]
    DROP_RATE: [0.0, 0.0, 0.0]
    DROP_PATH_RATE: [0.0, 0.0, 0.1]
    QKV_BIAS: [True, True, True]
    CLS_TOKEN: [False, False, True]
    POS_EMBED: [False, False, False]
    QKV_PROJ_METHOD: ['dw_bn', 'dw_bn', 'dw_bn']
    KERNEL_QKV: [3, 3, 3]
    PADDING_KV: [1, 1, 1]
    STRIDE_KV: [2, 2, 2]
    PADDING_Q: [1, 1, 1]
    STRIDE_Q: [1, 1, 1]
AUG:
  MIXUP_PROB: 1.0
  MIXUP: 0.8
  MIXCUT: 1.0
  TIMM_AUG:
    USE_LOADER: true
    RE_COUNT: 1
    RE_MODE: pixel
    RE_SPLIT: false
    RE_PROB: 0.25
    AUTO_AUGMENT: rand-m9-mstd0.5-inc1
    HFLIP: 0.5
    VFLIP: 0.0
    COLOR_JITTER: 0.4
    INTERPOLATION: bicubic
LOSS:
  LABEL_SMOOTHING: 0.1
CUDNN:
  BENCHMARK: true
DATASET:
  DATASET: 'imagenet'
  ROOT: 'DATASET/imagenet/'
TEST:
  BATCH_SIZE_PER_GPU: 32
  IMAGE_SIZE: [224, 224]
  INTERPOLATION: 3
TRAIN:
  BATCH_SIZE_PER_GPU: 256
  LR: 0.00025
  IMAGE_SIZE: [224, 224]
  BEGIN_EPOCH: 0
  END_EPOCH: 300
  LR_SCHEDULER:
    METHOD: 'timm'
    ARGS:
      sched: 'cosine'
      warmup_epochs: 5
      warmup_lr: 1e-6
      min_lr: 0.00001
      cooldown_epochs: 10
      decay_rate: 0.1
  OPTIMIZER: adamW
  WD: 0.05
  WITHOUT_WD_LIST: ['bn', 'bias', 'ln']
  SHUFFLE: true
"""
PADDLEVIT = """
DATA:
    IMAGE_SIZE: 384
    CROP_PCT: 1.0
MODEL:
    TYPE: CvT
    NAME: CvT-w24-384
    DIM_EMBED: [192, 768, 1024]
    NUM_HEADS: [3, 12, 16]
    DEPTH: [2, 2, 20]
    DROP_PATH_RATE: [0.0, 0.0, 0.3]
TRAIN:
    NUM_EPOCHS: 300
    WARMUP_EPOCHS: 5
    WEIGHT_DECAY: 0.1
    BASE_LR: 1.25e-4
    WARMUP_START_LR: 1e-6
    END_LR: 1e-5
    LINEAR_SCALED_LR: 128
AUG:
    MIXUP: 0.8
"""


@pytest.fixture
def microsoft(tmp_path: Path) -> Path:
    path = tmp_path / "cvt-13-224x224.yaml"
    path.write_text(MICROSOFT)
    return path


def test_the_released_file_for_cvt_13_is_our_recipe_cvt_13(microsoft: Path) -> None:
    imported = import_yacs(microsoft)
    ours, theirs = load_recipe("cvt_13").to_dict(), imported.recipe.to_dict()
    for section in ("about", "run"):
        ours.pop(section), theirs.pop(section)
    theirs["augment"]["crop_ratio"] = ours["augment"]["crop_ratio"]
    assert theirs == ours
    assert imported.no_equivalent == []
    assert imported.without_effect == [
        "TRAIN.LR_SCHEDULER.ARGS.cooldown_epochs: the loop ends at TRAIN.END_EPOCH",
        "AUG.MIXUP_PROB: set to 1 whenever mixup or cutmix is on",
        "AUG.TIMM_AUG.RE_SPLIT: there are no augmentation splits",
    ]


FOR_21 = {
    "MODEL.SPEC.DEPTH": "[1, 4, 16]",
    "TRAIN.BATCH_SIZE_PER_GPU": "128",
    "TRAIN.LR": "0.000125",
    "TRAIN.WD": "0.1",
}
FOR_384 = {"TRAIN.IMAGE_SIZE": "[384, 384]", "TEST.IMAGE_SIZE": "[384, 384]", "TEST.CENTER_CROP": "False"}
FOR_W24 = {
    "MODEL.SPEC.DIM_EMBED": "[192, 768, 1024]",
    "MODEL.SPEC.NUM_HEADS": "[3, 12, 16]",
    "MODEL.SPEC.DEPTH": "[2, 2, 20]",
    "MODEL.SPEC.DROP_PATH_RATE": "[0.0, 0.0, 0.3]",
}
OF_THE_RELEASED_21 = {"AUG.TIMM_AUG.USE_LOADER": "false", "DATASET.SAMPLER": "repeated_aug"}
AS_IT_RUNS = [
    "augment.auto_augment=null",
    "augment.erasing=0",
    "augment.color_jitter=0",
    "augment.interpolation=bilinear",
    "data.repeats=3",
]


@pytest.mark.parametrize(
    ("name", "changes", "ours"),
    [
        ("cvt_13_384", FOR_384, []),
        ("cvt_21", FOR_21, []),
        ("cvt_21", FOR_21 | OF_THE_RELEASED_21, AS_IT_RUNS),
        ("cvt_21_384", FOR_21 | FOR_384, []),
        # bfloat16 and checkpointing are ours: the same model on fewer and smaller devices
        ("cvt_w24_384", FOR_21 | FOR_384 | FOR_W24, ["precision=float16", "model.grad_checkpointing=false"]),
    ],
)
def test_the_other_released_files_are_our_recipes(
    microsoft: Path, name: str, changes: dict[str, str], ours: list[str]
) -> None:
    imported = import_yacs(microsoft, [word for pair in changes.items() for word in pair])
    recipe, theirs = load_recipe(name, ours).to_dict(), imported.recipe.to_dict()
    for values in (recipe, theirs):
        for key in ("about", "run", "device_batch"):  # the batch of a device follows from its memory
            values.pop(key)
        values["augment"].pop("crop_ratio")
    assert theirs == recipe
    assert imported.no_equivalent == []


def test_a_sampler_beside_timms_loader_has_no_effect(microsoft: Path) -> None:
    imported = import_yacs(microsoft, ["DATASET.SAMPLER", "repeated_aug"])
    assert imported.recipe.data.repeats == 1
    assert "DATASET.SAMPLER: timm's loader, AUG.TIMM_AUG.USE_LOADER, brings its own" in imported.without_effect


def test_paddlevits_file_for_cvt_13_is_our_recipe_cvt_13_paddlevit(tmp_path: Path) -> None:
    path = tmp_path / "cvt-13-224x224.yaml"
    path.write_text(PADDLEVIT)
    changes = {
        "DATA.IMAGE_SIZE": "224",
        "DATA.CROP_PCT": "0.875",
        "DATA.BATCH_SIZE": "256",
        "MODEL.DIM_EMBED": "[64, 192, 384]",
        "MODEL.NUM_HEADS": "[1, 3, 6]",
        "MODEL.DEPTH": "[1, 2, 10]",
        "MODEL.DROP_PATH_RATE": "[0.0, 0.0, 0.1]",
        "TRAIN.WEIGHT_DECAY": "0.05",
        "TRAIN.BASE_LR": "2.5e-4",
        "TRAIN.LINEAR_SCALED_LR": "256",
        "AMP": "True",
    }
    theirs = import_yacs(path, [word for pair in changes.items() for word in pair]).recipe.to_dict()
    ours = load_recipe("cvt_13_paddlevit").to_dict()
    for values in (ours, theirs):
        values.pop("about"), values.pop("run")
        values["optimizer"].pop("betas"), values["optimizer"].pop("eps")  # Adam's own, which the file spells out
    assert theirs == ours


def test_paddlevits_switches_of_augmentation_are_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "cvt-w24.yaml"
    path.write_text(PADDLEVIT)
    rand = ["TRAIN.RAND_AUGMENT", "True", "TRAIN.RAND_AUGMENT_MAGNITUDE", "7"]
    both, only = import_yacs(path, rand), import_yacs(path, [*rand, "TRAIN.AUTO_AUGMENT", "False"])
    assert both.recipe.augment.auto_augment == "original"
    assert "TRAIN.RAND_AUGMENT: TRAIN.AUTO_AUGMENT comes first" in both.without_effect
    assert only.recipe.augment.auto_augment == "rand-m7-n2-p1"
    neither = import_yacs(path, ["TRAIN.AUTO_AUGMENT", "False"]).recipe.augment
    assert (neither.auto_augment, neither.color_jitter) == (None, 0.4)
    assert import_yacs(path).recipe.preprocess.crop_mode == "squash"


def test_overrides_and_the_number_of_devices_count(microsoft: Path) -> None:
    recipe = import_yacs(
        microsoft, ["TRAIN.LR", "0.1", "TRAIN.BATCH_SIZE_PER_GPU", "32", "TRAIN.SCALE_LR", "False"], gpus=4
    ).recipe
    assert recipe.optimizer.lr == 0.1
    assert recipe.global_batch == 128
    assert import_yacs(microsoft, ["TRAIN.LR", "1e-3"], gpus=4).recipe.optimizer.lr == 4e-3


def test_use_loader_off_switches_the_augmentation_off_and_says_so(microsoft: Path) -> None:
    imported = import_yacs(microsoft, ["AUG.TIMM_AUG.USE_LOADER", "False"])
    augment = imported.recipe.augment
    assert (augment.auto_augment, augment.erasing, augment.color_jitter, augment.interpolation) == (
        None,
        0.0,
        0.0,
        "bilinear",
    )
    off = "USE_LOADER and USE_TRANSFORM are off, and with them all of TIMM_AUG"
    assert f"AUG.TIMM_AUG.AUTO_AUGMENT: {off}" in imported.without_effect
    assert f"AUG.TIMM_AUG.RE_PROB: {off}" in imported.without_effect


def test_no_centre_crop_becomes_squash(microsoft: Path) -> None:
    options = ["TEST.CENTER_CROP", "False", "TRAIN.IMAGE_SIZE", "[384, 384]"]
    preprocess = import_yacs(microsoft, options).recipe.preprocess
    assert preprocess == load_recipe("cvt_13_384").preprocess


def test_what_we_have_no_word_for_is_listed(microsoft: Path) -> None:
    options = [
        "AUG.GAUSSIAN_BLUR",
        "0.5",
        "MODEL.SPEC.STRIDE_KV",
        "[1, 1, 1]",
        "MODEL.SPEC.DROP_PATH_RATE",
        "[0.1, 0, 0.1]",
    ]
    imported = import_yacs(microsoft, options)
    assert set(imported.no_equivalent) == {"AUG.GAUSSIAN_BLUR", "MODEL.SPEC.STRIDE_KV", "MODEL.SPEC.DROP_PATH_RATE"}


def test_base_files_are_read_first(microsoft: Path) -> None:
    child = microsoft.with_name("child.yaml")
    child.write_text("BASE: ['cvt-13-224x224.yaml']\nTRAIN:\n  END_EPOCH: 10\n")
    recipe = import_yacs(child).recipe
    assert (recipe.schedule.epochs, recipe.optimizer.weight_decay) == (10, 0.05)


def test_paddlevit_scales_every_rate_and_decays_everything(tmp_path: Path) -> None:
    path = tmp_path / "cvt-w24.yaml"
    path.write_text(PADDLEVIT)
    imported = import_yacs(path, ["DATA.BATCH_SIZE", "128"], gpus=8)
    recipe = imported.recipe
    assert recipe.model.name == "cvt_w24"
    assert recipe.model.drop_path_rate == 0.3
    rates = (recipe.optimizer.lr, recipe.schedule.warmup_lr, recipe.schedule.min_lr)
    assert rates == pytest.approx((1e-3, 8e-6, 8e-5))
    assert recipe.optimizer.decay_all
    assert imported.without_effect == ["AUG.MIXUP: the code reads TRAIN's augmentation instead"]
    assert imported.no_equivalent == []


def test_a_file_of_neither_repository_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("learning_rate: 1\n")
    with pytest.raises(ConfigError, match="is a recipe of neither"):
        import_yacs(path)


def test_odd_overrides_are_refused(microsoft: Path) -> None:
    with pytest.raises(ConfigError, match="come in pairs"):
        import_yacs(microsoft, ["TRAIN.LR"])


def test_the_command_writes_a_recipe_that_loads(
    microsoft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.yaml"
    assert main(["recipe", "import", str(microsoft), "TRAIN.LR", "0.1", "--gpus", "2", "--out", str(out)]) == 0
    assert load_recipe(out).optimizer.lr == 0.2
    assert "cooldown_epochs: the loop ends at TRAIN.END_EPOCH" in capsys.readouterr().out
    assert "#   TRAIN.LR_SCHEDULER.ARGS.cooldown_epochs" in out.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"BASE: ['it.yaml']\n", "names itself as its BASE"),
        (b"BASE: ['../here/it.yaml']\n", "names itself as its BASE"),
        (b"BASE: 5\n", "BASE is 5; expected a list of files"),
        (b"\xff\xfeT\x00", "is not UTF-8; save it as such"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "it.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        import_yacs(tmp_path / "here" / "it.yaml")
