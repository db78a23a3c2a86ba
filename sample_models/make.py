#!/usr/bin/env python3
"""Train the sample models on Fashion-MNIST and write them with their data.

    python sample_models/make.py                # all four models
    python sample_models/make.py mlp resnet     # some of them

Each model gets a folder with model.onnx, calib.h5 and test.h5.

This script needs torch, which is not among nettrim's own requirements:
``pip install -r sample_models/requirements.txt``.  It also needs the data set, for
instance from the Debian package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

DATA_DIR = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).resolve().parent
OPSET = 17
CALIB_SAMPLES = 2000
EVAL_BATCH = 500
CHUNK = 128


# --------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Split:
    """Images (n, 1, 28, 28) as float32 k/256, and their labels as int64."""

    image: np.ndarray
    labels: np.ndarray

    def take(self, index: np.ndarray | slice) -> Split:
        """Return the chosen samples."""
        return Split(self.image[index], self.labels[index])


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes."""
    with gzip.open(path, "rb") as stream:
        raw = stream.read()
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4).astype(int)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_split(folder: Path, prefix: str) -> Split:
    """Read the "train" or "t10k" part of the data set."""
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    image = pixels[:, None].astype(np.float32) / np.float32(256)
    return Split(image, labels.astype(np.int64))


def write_h5(path: Path, split: Split) -> None:
    """Write the datasets ``image`` and ``labels``, compressed."""
    with h5py.File(path, "w") as file:
        for name, array in (("image", split.image), ("labels", split.labels)):
            file.create_dataset(
                name,
                data=array,
                chunks=(min(CHUNK, len(array)), *array.shape[1:]),
                compression="gzip",
                compression_opts=9,
                shuffle=True,
            )


# ------------------------------------------------------------------------- models


class MLP(nn.Module):
    """Fully connected network 784-300-1000-100-10."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 1000)
        self.fc3 = nn.Linear(1000, 100)
        self.fc4 = nn.Linear(100, 10)
        self.relu = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        x = self.flatten(image)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        x = self.relu(self.fc3(x))
        return self.fc4(x)


class LeNet(nn.Module):
    """Two 5x5 convolutions with max pooling, then two fully connected layers."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 64, 5)
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(1024, 512)
        self.fc2 = nn.Linear(512, 10)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(image)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.dropout(self.flatten(x))
        x = self.dropout(self.relu(self.fc1(x)))
        return self.fc2(x)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions; 1x1 shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.project = stride != 1 or inputs != outputs
        if self.project:
            self.conv_skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.bn_skip = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.bn_skip(self.conv_skip(x)) if self.project else x
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + skip)


class ResNet(nn.Module):
    """Small residual network of widths 16, 32 and 64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.stage1 = nn.Sequential(BasicBlock(16, 16, 1))
        self.stage2 = nn.Sequential(BasicBlock(16, 32, 2))
        self.stage3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.flatten(self.pool(x)))


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key, value and output layers."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.width, self.heads, self.tokens = width, heads, tokens
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) to (batch, heads, tokens, width / heads)."""
        return x.reshape(-1, self.tokens, self.heads, self.width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = q @ k.transpose(2, 3) / math.sqrt(self.width // self.heads)
        mixed = scores.softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(-1, self.tokens, self.width))


class EncoderBlock(nn.Module):
    """Pre-norm transformer encoder block."""

    def __init__(self, width: int, heads: int, tokens: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, tokens)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.norm1(x)))
        return x + self.dropout(self.fc2(self.gelu(self.fc1(self.norm2(x)))))


class Transformer(nn.Module):
    """Transformer encoder on 7x7 patches, mean-pooled over its 16 tokens."""

    def __init__(
        self, width: int = 96, heads: int = 4, depth: int = 3, dropout: float = 0.05
    ) -> None:
        super().__init__()
        self.patch, self.grid = 7, 4
        tokens = self.grid**2
        self.embed = nn.Linear(self.patch**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, heads, tokens, dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        patch, grid = self.patch, self.grid
        x = image.reshape(-1, grid, patch, grid, patch).transpose(2, 3)
        x = self.embed(x.reshape(-1, grid * grid, patch * patch)) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


# ----------------------------------------------------------------------- training


@dataclass(frozen=True)
class Recipe:
    """How one sample model is built and trained."""

    build: Callable[[], nn.Module]
    epochs: int
    rate: float
    decay: float  # decoupled (AdamW), or with l2 the factor of a squared penalty (Adam)
    flip: bool
    test_samples: int
    seed: int
    batch: int = 128
    l2: bool = False


RECIPES = {
    "mlp": Recipe(
        MLP, 16, rate=2e-3, decay=1e-4, flip=False, test_samples=10000, seed=1, batch=256, l2=True
    ),
    "lenet": Recipe(LeNet, epochs=6, rate=2e-3, decay=0.05, flip=False, test_samples=5000, seed=2),
    "resnet": Recipe(ResNet, epochs=5, rate=1e-2, decay=0.05, flip=True, test_samples=2000, seed=3),
    "transformer": Recipe(
        Transformer, epochs=8, rate=1.5e-3, decay=0.05, flip=True, test_samples=2000, seed=4
    ),
}


def flip_some(image: Tensor) -> Tensor:
    """Mirror a random half of the images."""
    mirror = torch.rand(len(image), 1, 1, 1) < 0.5
    return torch.where(mirror, image.flip(3), image)


def train(model: nn.Module, data: Split, recipe: Recipe) -> None:
    """Train with Adam or AdamW on a one-cycle schedule; leaves the model in eval mode."""
    images, labels = torch.from_numpy(data.image), torch.from_numpy(data.labels)
    steps = len(images) // recipe.batch
    kind = torch.optim.Adam if recipe.l2 else torch.optim.AdamW
    optimizer = kind(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, epochs=recipe.epochs, steps_per_epoch=steps, pct_start=0.2
    )
    model.train().to(memory_format=torch.channels_last)  # faster convolutions on a CPU
    for epoch in range(recipe.epochs):
        start, total = time.monotonic(), 0.0
        for index in torch.randperm(len(images))[: steps * recipe.batch].split(recipe.batch):
            batch = flip_some(images[index]) if recipe.flip else images[index]
            loss = F.cross_entropy(model(batch), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - start
        print(f"  epoch {epoch + 1:2}: loss {total / steps:.4f} ({seconds:.0f} s)", flush=True)
    model.eval().to(memory_format=torch.contiguous_format)


# ------------------------------------------------------------------------- export


def name_weights(proto: onnx.ModelProto) -> None:
    """Name the transposed weights of MatMul nodes after their layers.

    The exporter calls them onnx::MatMul_<number>; the scope in the node's name, such as
    /blocks/blocks.0/attn/q/MatMul, gives blocks.0.attn.q.weight.
    """
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        for position, old in enumerate(node.input):
            if not old.startswith("onnx::") or old not in initializers:
                continue
            parts: list[str] = []
            for part in node.name.split("/")[1:-1]:
                if parts and part.startswith(parts[-1] + "."):
                    parts.pop()
                parts.append(part)
            new = ".".join([*parts, "weight"])
            initializers[old].name = node.input[position] = new


def separate_weights(proto: onnx.ModelProto) -> None:
    """Give every layer its own initializers.

    The exporter stores equal tensors once and reaches the others through Identity nodes.
    That happens to the biases of two BatchNormalizations whose outputs are added: their
    gradients, hence their values, are the same.
    """
    graph = proto.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in initializers:
            copy = graph.initializer.add()
            copy.CopyFrom(initializers[node.input[0]])
            copy.name = node.output[0]
            graph.node.remove(node)


def export(model: nn.Module, path: Path) -> None:
    """Write the model as ONNX, its BatchNormalization nodes kept as they are."""
    keeps_norm = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    mode = torch.onnx.TrainingMode.PRESERVE if keeps_norm else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, 28, 28),),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=mode,
            do_constant_folding=not keeps_norm,
            dynamo=False,
        )
    proto = onnx.load(path)
    name_weights(proto)
    separate_weights(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def verify(model: nn.Module, path: Path, test: Split) -> float:
    """Check onnxruntime against torch on the test data; return the accuracy."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    right, worst = 0, 0.0
    for start in range(0, len(test.labels), EVAL_BATCH):
        part = test.take(slice(start, start + EVAL_BATCH))
        with torch.no_grad():
            expected = model(torch.from_numpy(part.image)).numpy()
        (logits,) = session.run(["logits"], {"image": part.image})
        worst = max(worst, float(np.abs(logits - expected).max()))
        right += int((logits.argmax(1) == part.labels).sum())
    if worst > 1e-4:
        raise RuntimeError(f"{path}: onnxruntime and torch differ by {worst:.1e}")
    print(f"  onnxruntime and torch agree to {worst:.1e}")
    return right / len(test.labels)


def make(name: str, train_data: Split, test_data: Split, out: Path) -> None:
    """Train one sample model and write its folder."""
    recipe = RECIPES[name]
    print(f"{name}:", flush=True)
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    train(model, train_data, recipe)

    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(recipe.seed).choice(
        len(train_data.labels), CALIB_SAMPLES, replace=False
    )
    test = test_data.take(slice(recipe.test_samples))
    export(model, folder / "model.onnx")
    write_h5(folder / "calib.h5", train_data.take(chosen))
    write_h5(folder / "test.h5", test)

    accuracy = verify(model, folder / "model.onnx", test)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"  {count} parameters, accuracy {accuracy:.4f} on {len(test.labels)} test images")
    for file in sorted(folder.iterdir()):
        print(f"  {file.name}: {file.stat().st_size} bytes")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train nettrim's sample models.")
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(RECIPES)}")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE, help="where the folders go")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    args = parser.parse_args()
    for name in args.models:
        if name not in RECIPES:
            parser.error(f"unknown model {name!r}; choose from {', '.join(RECIPES)}")

    torch.set_num_threads(args.threads)
    try:
        train_data = read_split(args.data_dir, "train")
        test_data = read_split(args.data_dir, "t10k")
    except FileNotFoundError as error:
        print(
            f"make.py: {error.filename} not found: install the Debian package "
            "dataset-fashion-mnist, or give --data-dir the folder with the four "
            "Fashion-MNIST *.gz files",
            file=sys.stderr,
        )
        return 1
    for name in args.models or RECIPES:
        make(name, train_data, test_data, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
