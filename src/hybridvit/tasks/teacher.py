"""Knowledge distillation: a frozen model whose answers the student learns from."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from hybridvit.config import DistillSection, Preprocess
from hybridvit.errors import ConfigError
from hybridvit.weights.load import load


class Teacher:
    """Sees the student's very pictures, mixed as they are, in its own normalisation and size.

    Raises:
        ConfigError: timm has no such pretrained model, or the classes are not the student's.
        CheckpointError: the file cannot be used.
    """

    def __init__(
        self, section: DistillSection, *, preprocess: Preprocess, num_classes: int, device: torch.device
    ) -> None:
        assert section.teacher is not None
        self.section = section
        self.model = _load(section.teacher).to(device)
        if self.model.num_classes != num_classes:
            raise ConfigError(
                f"distill.teacher {section.teacher} knows {self.model.num_classes} classes, this run {num_classes}."
            )
        own = Preprocess.from_pretrained_cfg(self.model.pretrained_cfg)  # type: ignore[arg-type]
        if own.in_chans != preprocess.in_chans:
            raise ConfigError(
                f"distill.teacher {section.teacher} sees pictures of {own.in_chans} channels, this run {preprocess.in_chans}."
            )
        self.size = own.image_size if own.image_size != preprocess.image_size else None
        column = (1, -1, 1, 1)
        self.scale = (torch.tensor(preprocess.std) / torch.tensor(own.std)).view(column).to(device)
        self.shift = ((torch.tensor(preprocess.mean) - torch.tensor(own.mean)) / torch.tensor(own.std)).view(column)
        self.shift = self.shift.to(device)

    def blend(self, loss: torch.Tensor, logits_BK: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The student's own loss and the teacher's, in shares of 1 - alpha and alpha."""
        with torch.no_grad():
            x_BCHW = x_BCHW * self.scale + self.shift
            if self.size:
                x_BCHW = F.interpolate(x_BCHW, self.size, mode="bilinear", antialias=True)
            teacher_BK = self.model(x_BCHW.to(self.scale.dtype))
        dtype = torch.promote_types(logits_BK.dtype, torch.float32)
        logits_BK, teacher_BK, t = logits_BK.to(dtype), teacher_BK.to(dtype), self.section.temperature
        if self.section.kind == "hard":
            taught = F.cross_entropy(logits_BK, teacher_BK.argmax(dim=1))
        else:
            student, goal = F.log_softmax(logits_BK / t, dim=1), F.log_softmax(teacher_BK / t, dim=1)
            taught = t * t * F.kl_div(student, goal, reduction="batchmean", log_target=True)
        return (1 - self.section.alpha) * loss + self.section.alpha * taught


def _load(name: str) -> nn.Module:
    if name.startswith("timm:"):
        import timm

        try:
            model = timm.create_model(name.removeprefix("timm:"), pretrained=True)
        except RuntimeError as error:
            raise ConfigError(f"distill.teacher {name}: {error}") from error
    else:
        model = load(Path(name))
    return model.eval().requires_grad_(False)
