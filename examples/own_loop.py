"""Train a CMT in a loop of your own: python examples/own_loop.py [--steps 300]

Everything around the model is plain PyTorch. The data are scikit-learn's handwritten digits: one half to learn from, the other to
be judged on.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import hybridvit


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (1797, 1, 32, 32), from -1 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    return F.interpolate(small, size=32, mode="bicubic"), torch.tensor(labels)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each picture moved by up to 3 pixels."""
    down, right = torch.randint(-3, 4, (2,)).tolist()
    return images.roll((down, right), dims=(2, 3))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    images, labels = digits()
    model = hybridvit.create_model("cmt_nano", in_chans=1, num_classes=10, drop_path_rate=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)

    model.train()
    for step in range(steps):
        chosen = torch.randint(898, (64,))
        loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}")

    model.eval()
    with torch.inference_mode():
        right = model(images[898:]).argmax(dim=1) == labels[898:]
    print(f"top-1 {100 * right.float().mean():.2f} % of {len(right)} pictures")
    hybridvit.save(model, "digits.safetensors", label_names=[str(digit) for digit in range(10)])


if __name__ == "__main__":
    main()
