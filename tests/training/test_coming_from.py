"""docs/coming-from.md: every option of the original repositories has a line, and what it names here exists."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hybridvit.config import ClassificationRecipe
from hybridvit.training import yacs
from hybridvit.typed import known_keys

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
TEXT = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.S)
SECTIONS = dict(part.split("\n", maxsplit=1) for part in TEXT.split("\n## ")[1:5])
MICROSOFT, CMT, FLYEGLE, PADDLEVIT = SECTIONS
WORDS = {
    title: set(re.findall(r"[\w.\-]+", " ".join(re.findall("`([^`]+)`", text)))) for title, text in SECTIONS.items()
}

# lib/config/default.py, beside what training/yacs.py reads
MICROSOFT_KEYS = """
NAME DATA_DIR DIST_BACKEND GPUS MULTIPROCESSING_DISTRIBUTED OUTPUT_DIR PIN_MEMORY PRINT_FREQ RANK VERBOSE WORKERS MODEL_SUMMARY
AMP.MEMORY_FORMAT CUDNN.BENCHMARK CUDNN.DETERMINISTIC CUDNN.ENABLED MODEL.NAME MODEL.INIT_WEIGHTS MODEL.PRETRAINED
MODEL.PRETRAINED_LAYERS MODEL.NUM_CLASSES LOSS.LOSS DATASET.ROOT DATASET.DATASET DATASET.TRAIN_SET DATASET.TEST_SET
DATASET.DATA_FORMAT DATASET.LABELMAP DATASET.TRAIN_TSV_LIST DATASET.TEST_TSV_LIST DATASET.TARGET_SIZE AUG.GRAY_SCALE
AUG.GAUSSIAN_BLUR AUG.DROPBLOCK_LAYERS AUG.DROPBLOCK_KEEP_PROB AUG.DROPBLOCK_BLOCK_SIZE AUG.MIXUP_PROB AUG.MIXCUT_MINMAX
AUG.MIXCUT_AND_MIXUP TRAIN.AUTO_RESUME TRAIN.CHECKPOINT TRAIN.OPTIMIZER_ARGS TRAIN.GAMMA1 TRAIN.GAMMA2 TRAIN.BEGIN_EPOCH
TRAIN.SHUFFLE TRAIN.EVAL_BEGIN_EPOCH TRAIN.DETECT_ANOMALY TRAIN.SAVE_ALL_MODELS TEST.BATCH_SIZE_PER_GPU TEST.IMAGE_SIZE
TEST.MODEL_FILE TEST.REAL_LABELS TEST.VALID_LABELS FINETUNE.FINETUNE FINETUNE.USE_TRAIN_AUG FINETUNE.BASE_LR
FINETUNE.BATCH_SIZE FINETUNE.EVAL_EVERY FINETUNE.TRAIN_MODE FINETUNE.FROZEN_LAYERS FINETUNE.LR_SCHEDULER.DECAY_TYPE DEBUG.DEBUG
"""
# image_classification/CvT/config.py, beside what training/yacs.py reads
PADDLEVIT_KEYS = """
BASE DATA.BATCH_SIZE_EVAL DATA.DATA_PATH DATA.DATASET DATA.NUM_WORKERS MODEL.NAME MODEL.TYPE MODEL.INIT_WEIGHTS
MODEL.PRETRAINED MODEL.RESUME MODEL.PRETRAINED_LAYERS MODEL.NUM_CLASSES MODEL.NUM_STAGES MODEL.PATCH_SIZE MODEL.PATCH_STRIDE
MODEL.PATCH_PADDING MODEL.DROP_RATE MODEL.ATTN_DROP_RATE MODEL.CLS_TOKEN TRAIN.LAST_EPOCH TRAIN.MODEL_EMA
TRAIN.MODEL_EMA_DECAY TRAIN.LR_SCHEDULER.MILESTONES TRAIN.LR_SCHEDULER.DECAY_EPOCHS TRAIN.LR_SCHEDULER.DECAY_RATE
TRAIN.CUTMIX_MINMAX TRAIN.RANDOM_ERASE_SPLIT AUG.RE_PROB AUG.RE_MODE AUG.RE_COUNT AUG.MIXUP AUG.CUTMIX AUG.CUTMIX_MINMAX
SAVE TAG SAVE_FREQ REPORT_FREQ VALIDATE_FREQ EVAL LOCAL_RANK NGPUS
"""
CMT_FLAGS = """
--batch-size --epochs --model --input-size --drop --drop-path --drop-block --model-ema --no-model-ema --model-ema-decay
--model-ema-force-cpu --opt --opt-eps --opt-betas --clip-grad --momentum --weight-decay --sched --lr --lr-noise --lr-noise-pct
--lr-noise-std --warmup-lr --min-lr --decay-epochs --warmup-epochs --cooldown-epochs --patience-epochs --decay-rate --dr
--color-jitter --aa --smoothing --train-interpolation --repeated-aug --no-repeated-aug --reprob --remode --recount --resplit
--mixup --cutmix --cutmix-minmax --mixup-prob --mixup-switch-prob --mixup-mode --data-path --data-set --inat-category
--output_dir --device --seed --resume --start_epoch --eval --num_workers --pin-mem --no-pin-mem --test_freq --test_epoch
--debug --update_temperature --warmup-drop-path --warmup-drop-path-epochs --apex-amp --apex-opt-level --throughput
--world_size --dist_url --init_method --local_rank
"""
FLYEGLE_FLAGS = """
--ngpu --rank --dist-backend --local_rank --distributed --train_file --val_file --num-classes --input_size --crop_size
--num_classes --checkpoints-path --log-dir --model_name --qkv_bias --ape --rpe --pe_nd --patch_size --dim --depth --heads
--dim_head --mlp_dim --dropout --emb_dropout --optimizer_name --tf_optimizer --lr --weight_decay --momentum --batch_size
--num_workers --cosine --grad_clip --max_grad_norm --drop_path_rate --mixup --cutmix --cutmix-minmax --mixup-prob
--mixup-switch-prob --mixup-mode --smoothing --repeated-aug --actnn --warmup_epochs --max_epochs --FP16 --apex --mode --amp
"""


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        (
            MICROSOFT,
            [*MICROSOFT_KEYS.split(), *yacs.MICROSOFT_DEFAULTS, *(f"MODEL.SPEC.{key}" for key in yacs.FIXED_SPEC)],
        ),
        (PADDLEVIT, [*PADDLEVIT_KEYS.split(), *yacs.PADDLEVIT_DEFAULTS]),
    ],
    ids=["microsoft", "PaddleViT"],
)
def test_every_key_has_a_line(section: str, keys: list[str]) -> None:
    words = WORDS[section]
    assert [key for key in keys if key not in words and key.rpartition(".")[2] not in words] == []


@pytest.mark.parametrize(("section", "flags"), [(CMT, CMT_FLAGS), (FLYEGLE, FLYEGLE_FLAGS)], ids=["CMT", "FlyEgle"])
def test_every_flag_has_a_line(section: str, flags: str) -> None:
    assert [flag for flag in flags.split() if flag not in WORDS[section]] == []


def test_every_field_that_the_page_names_exists() -> None:
    sections = {field.name for field in fields(ClassificationRecipe)}
    named = {word for words in WORDS.values() for word in words if re.fullmatch(r"[a-z]+\.(?!sh$)[a-z_.]+", word)}
    named = {word for word in named if word.partition(".")[0] in sections}
    assert len(named) > 40
    assert named - set(known_keys(ClassificationRecipe)) == set()
