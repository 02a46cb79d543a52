"""mmdetection's arithmetic of RetinaNet and Mask R-CNN, box by box in numpy, from the published formulas and 1x settings.

Independent of the package: nothing here imports it, and nothing is vectorised that can be said of one box.
Boxes are left, top, right, bottom.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CLIP = math.log(1000 / 16)


def anchors_of_level(rows: int, columns: int, stride: int, *, scale: float, octave_steps: int) -> Array:
    """Row by row, place by place; at each place ratios (height / width) .5, 1, 2, and in each the sizes of an octave."""
    boxes = []
    for row in range(rows):
        for column in range(columns):
            for ratio in (0.5, 1.0, 2.0):
                for step in range(octave_steps):
                    side = stride * scale * 2 ** (step / octave_steps)
                    width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
                    x, y = column * stride, row * stride
                    boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return np.array(boxes)


def stands_on_picture(rows: int, columns: int, stride: int, size: tuple[int, int], per_place: int) -> NDArray[np.bool_]:
    """Valid flags: the place lies on the picture, itself padded to a multiple of 32."""
    height, width = (math.ceil(side / 32) * 32 for side in size)
    flags = []
    for row in range(rows):
        for column in range(columns):
            flags += [row < math.ceil(height / stride) and column < math.ceil(width / stride)] * per_place
    return np.array(flags)


def area(box: Array) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def iou(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / (area(a) + area(b) - width * height))


NEGATIVE, IGNORED = -1, -2


def assign(
    boxes: Array,
    anchors: Array,
    valid: NDArray[np.bool_],
    *,
    high: float,
    low: float,
    least: float,
    rescue: bool = True,
) -> NDArray[np.int64]:
    """MaxIoUAssigner: of each anchor the object's number, NEGATIVE or IGNORED."""
    assigned = np.full(len(anchors), IGNORED)
    overlaps = np.array([[iou(box, anchor) for anchor in anchors] for box in boxes]).reshape(len(boxes), len(anchors))
    for i in range(len(anchors)):
        if not valid[i]:
            continue
        best = overlaps[:, i].max() if len(boxes) else 0.0
        if best < low:
            assigned[i] = NEGATIVE
        elif best >= high:
            assigned[i] = int(overlaps[:, i].argmax())
    if rescue:
        for number in range(len(boxes)):
            best = overlaps[number, valid].max()
            if best >= least:
                assigned[valid & (overlaps[number] == best)] = number
    return assigned


def encode(box: Array, anchor: Array, stds: tuple[float, ...] = (1, 1, 1, 1)) -> Array:
    """DeltaXYWHBBoxCoder with means 0."""
    anchor_w, anchor_h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    box_w, box_h = box[2] - box[0], box[3] - box[1]
    dx = ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / anchor_w
    dy = ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / anchor_h
    return np.array([dx, dy, math.log(box_w / anchor_w), math.log(box_h / anchor_h)]) / np.array(stds)


def decode(delta: Array, anchor: Array, size: tuple[int, int], stds: tuple[float, ...] = (1, 1, 1, 1)) -> Array:
    dx, dy, dw, dh = delta * np.array(stds)
    dw, dh = min(max(dw, -CLIP), CLIP), min(max(dh, -CLIP), CLIP)
    anchor_w, anchor_h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (anchor[0] + anchor[2]) / 2 + dx * anchor_w, (anchor[1] + anchor[3]) / 2 + dy * anchor_h
    width, height = anchor_w * math.exp(dw), anchor_h * math.exp(dh)
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return np.array([min(max(c, 0), size[1 - i % 2]) for i, c in enumerate(corners)], dtype=np.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def binary_cross_entropy(logit: float, wanted: float) -> float:
    p = sigmoid(logit)
    return -(wanted * math.log(p) + (1 - wanted) * math.log(1 - p))


def focal(logit: float, wanted: bool, alpha: float = 0.25, gamma: float = 2.0) -> float:
    p = sigmoid(logit)
    if wanted:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


def retinanet_losses(
    logits: Array,
    deltas: Array,
    anchors: Array,
    valid: list[NDArray[np.bool_]],
    boxes: list[Array],
    labels: list[list[int]],
) -> tuple[float, float]:
    """logits (pictures, anchors, classes), deltas (pictures, anchors, 4)."""
    classification = regression = 0.0
    positives = 0
    for i in range(len(logits)):
        assigned = assign(boxes[i], anchors, valid[i], high=0.5, low=0.4, least=0.0)
        for anchor, number in enumerate(assigned):
            if number == IGNORED:
                continue
            for label, logit in enumerate(logits[i, anchor]):
                classification += focal(logit, number >= 0 and labels[i][number] == label)
            if number >= 0:
                regression += float(np.abs(deltas[i, anchor] - encode(boxes[i][number], anchors[anchor])).sum())
        positives += max(int((assigned >= 0).sum()), 1)
    return classification / positives, regression / positives


def nms(boxes: list[Array], scores: list[float], groups: list[int], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(groups[i] != groups[j] or iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def retinanet_detections(
    logits: Array, deltas: Array, levels: list[Array], size: tuple[int, int]
) -> tuple[list[Array], list[float], list[int]]:
    """Of one picture: 1000 anchors per level by best class, score .05, NMS .5 within a class, the best 100."""
    boxes, scores, labels = [], [], []
    start = 0
    for anchors in levels:
        inside = range(start, start + len(anchors))
        start += len(anchors)
        for i in sorted(inside, key=lambda i: -logits[i].max())[:1000]:
            for label, logit in enumerate(logits[i]):
                if sigmoid(logit) > 0.05:
                    boxes.append(decode(deltas[i], anchors[i - inside.start], size))
                    scores.append(sigmoid(logit))
                    labels.append(label)
    kept = nms(boxes, scores, labels, 0.5)[:100]
    return [boxes[i] for i in kept], [scores[i] for i in kept], [labels[i] for i in kept]


def rpn_losses(
    logits: Array, deltas: Array, anchors: Array, valid: list[NDArray[np.bool_]], boxes: list[Array]
) -> tuple[float, float]:
    """With every anchor sampled. logits (pictures, anchors), deltas (pictures, anchors, 4)."""
    objectness = regression = 0.0
    count = 0
    for i in range(len(logits)):
        assigned = assign(boxes[i], anchors, valid[i], high=0.7, low=0.3, least=0.3)
        for anchor, number in enumerate(assigned):
            if number != IGNORED:
                objectness += binary_cross_entropy(logits[i, anchor], float(number >= 0))
            if number >= 0:
                regression += float(np.abs(deltas[i, anchor] - encode(boxes[i][number], anchors[anchor])).sum())
        count += max(int((assigned >= 0).sum()), 1) + max(int((assigned == NEGATIVE).sum()), 1)
    return objectness / count, regression / count


def proposals(logits: Array, deltas: Array, levels: list[Array], size: tuple[int, int], most: int) -> list[Array]:
    """Of one picture: 2000 per level; without area, dropped; NMS .7 within a level, the best `most`."""
    boxes, scores, groups = [], [], []
    start = 0
    for level, anchors in enumerate(levels):
        inside = range(start, start + len(anchors))
        start += len(anchors)
        for i in sorted(inside, key=lambda i: -logits[i])[:2000]:
            box = decode(deltas[i], anchors[i - inside.start], size)
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            boxes.append(box)
            scores.append(sigmoid(logits[i]))
            groups.append(level)
    return [boxes[i] for i in nms(boxes, scores, groups, 0.7)[:most]]


def level_of(box: Array, num_levels: int) -> int:
    """Finest scale 56."""
    level = math.floor(math.log2(math.sqrt(area(box)) / 56 + 1e-6))
    return min(max(level, 0), num_levels - 1)


def interpolate(map_CHW: Array, y: float, x: float) -> Array:
    """Bilinear; what lies more than a pixel outside is 0."""
    height, width = map_CHW.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(map_CHW))
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top, x - left
    upper = (1 - x) * map_CHW[:, top, left] + x * map_CHW[:, top, right]
    lower = (1 - x) * map_CHW[:, bottom, left] + x * map_CHW[:, bottom, right]
    return (1 - y) * upper + y * lower


def roi_align(map_CHW: Array, box: Array, side: int, scale: float) -> Array:
    """aligned=True, sampling_ratio=0: as many samples per bin as whole pixels of it, rounded up."""
    left, top, right, bottom = box * scale - 0.5
    bin_h, bin_w = (bottom - top) / side, (right - left) / side
    samples_y, samples_x = max(math.ceil(bin_h), 1), max(math.ceil(bin_w), 1)
    pooled = np.zeros((len(map_CHW), side, side))
    for row in range(side):
        for column in range(side):
            for i in range(samples_y):
                for j in range(samples_x):
                    y = top + (row + (i + 0.5) / samples_y) * bin_h
                    x = left + (column + (j + 0.5) / samples_x) * bin_w
                    pooled[:, row, column] += interpolate(map_CHW, y, x) / (samples_y * samples_x)
    return pooled


STDS = (0.1, 0.1, 0.2, 0.2)


def region_targets(
    regions: Array, boxes: Array, labels: list[int]
) -> tuple[NDArray[np.int64], list[Array | None], NDArray[np.int64]]:
    """Of each region (true boxes among them): its label or -1, its box's delta, its object."""
    assigned = assign(boxes, regions, np.ones(len(regions), dtype=bool), high=0.5, low=0.5, least=0.5, rescue=False)
    wanted = [
        encode(boxes[number], region, STDS) if number >= 0 else None
        for number, region in zip(assigned, regions, strict=True)
    ]
    return np.array([labels[number] if number >= 0 else -1 for number in assigned]), wanted, assigned


def cross_entropy(logits: Array, label: int) -> float:
    return float(math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
