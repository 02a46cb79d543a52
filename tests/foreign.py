"""Files as the published implementations write them, made without the code under test.

Weights come from the golden manifests, at full size, or from a state dict.
"""

import pickle
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from safetensors.torch import save_file
from torch import nn

import golden
from hybridvit.weights import mapping
from hybridvit.weights.mapping import Source

GOLDEN = Path(golden.__file__).parent
Arrays = Mapping[str, np.ndarray]

# Golden answers by source.
CASES = {
    "microsoft": "microsoft-cvt_13-224x224",
    "transformers": "transformers-cvt_13-224x224",
    "paddlevit": "paddlevit-cvt_13-224x224",
    "paddleclas": "paddleclas-cvt_13-224x224",
    "huawei": "huawei-cmt_ti-160x160",
    "flyegle": "flyegle-cmt_ti-160x160",
    "kecam": "kecam-cmt_ti-160x160",
}
FILE_NAMES = {
    "microsoft": "CvT-13-224x224-IN-1k.pth",
    "transformers": "model.safetensors",
    "paddlevit": "cvt_13_224.pdparams",
    "paddleclas": "CvT_13_224_pretrained.pdparams",
    "huawei": "cmt_tiny.pth",
    "flyegle": "checkpoint.pth.tar",
    "kecam": "cmt_tiny_torch_160_imagenet.h5",
}


def load(source: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(manifest, arrays by their names in the file, answers)."""
    return golden.load(GOLDEN / f"{CASES[source]}.json")


def golden_file(source: str, folder: Path) -> Path:
    """The source's golden weights in the source's own container."""
    _, arrays, _ = load(source)
    path = folder / FILE_NAMES[source]
    if source in ("paddlevit", "paddleclas"):
        write_paddle(path, arrays)
    elif source == "kecam":
        write_keras(path, arrays)
    elif source == "transformers":
        save_file(tensors(arrays), path, metadata={"format": "pt"})
    elif source == "huawei":
        # As the authors' main.py saves it; numpy scalars get into optimizers through learning rates.
        torch.save(
            {
                "model": tensors(arrays),
                "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-3), "params": [0, 1]}]},
                "lr_scheduler": {"base_values": [0.1]},
                "epoch": 299,
                "model_ema": None,
                "args": Namespace(model="cmt_tiny", lr=1e-3, data_set="IMNET"),
            },
            path,
        )
    elif source == "flyegle":
        state = {f"module.{key}": tensor for key, tensor in tensors(arrays).items()}
        torch.save({"epoch": 300, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    else:
        torch.save(tensors(arrays), path)
    return path


def tensors(arrays: Arrays) -> "OrderedDict[str, torch.Tensor]":
    """As model.state_dict() gives it, with the versions of its modules as an attribute."""
    state = OrderedDict((key, torch.from_numpy(np.array(array))) for key, array in arrays.items())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


def write_paddle(path: Path, arrays: Arrays) -> None:
    """paddle.save of a state dict."""
    inner = {key: f"{key.rpartition('.')[0]}_{n}.w_0" for n, key in enumerate(arrays)}
    with path.open("wb") as file:
        pickle.dump({**arrays, "StructuredToParameterName@@": inner}, file, protocol=4)


def write_keras(path: Path, arrays: Arrays) -> None:
    """Keras' save_weights: layers in any order, long attributes in one piece."""
    layers: dict[str, list[str]] = {}
    for key in arrays:
        layer, _, name = key.partition("/")
        layers.setdefault(layer, []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.11.0"
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group.create_dataset(name, data=arrays[f"{layer}/{name}"])


def as_tensorflow(arrays: Arrays) -> dict[str, np.ndarray]:
    """A file of kecam's PyTorch backend with the names that TensorFlow gives."""
    renamed = {}
    for key, array in arrays.items():
        layer, word = key.partition("/")[0], key.rpartition("/")[2]
        if layer.endswith("_pos_emb"):
            renamed[f"{layer}/positional_embedding:0"] = array
            continue
        if layer.endswith(("_bn", "_ln")):
            words = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        else:
            words = {"weight": "depthwise_kernel" if layer.endswith("dw_conv") else "kernel", "bias": "bias"}
        renamed[f"{layer}/{layer}/{words[word]}:0"] = array
    return renamed


def _checkpoint_message() -> Any:
    """MindSpore's checkpoint.proto, through Google's library."""
    proto = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", package="mindspore_test", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> None:
        entry = proto.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            added = entry.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                added.type_name = type_name

    message(
        "TensorProto",
        ("dims", 1, kinds.LABEL_REPEATED, kinds.TYPE_INT64, ""),
        ("tensor_type", 2, kinds.LABEL_REQUIRED, kinds.TYPE_STRING, ""),
        ("tensor_content", 3, kinds.LABEL_REQUIRED, kinds.TYPE_BYTES, ""),
    )
    message(
        "Value",
        ("tag", 1, kinds.LABEL_REQUIRED, kinds.TYPE_STRING, ""),
        ("tensor", 2, kinds.LABEL_REQUIRED, kinds.TYPE_MESSAGE, ".mindspore_test.TensorProto"),
    )
    message("Checkpoint", ("value", 1, kinds.LABEL_REPEATED, kinds.TYPE_MESSAGE, ".mindspore_test.Value"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mindspore_test.Checkpoint"))


Checkpoint = _checkpoint_message()


def write_mindspore(path: Path, arrays: Arrays, *, slices: int = 1) -> None:
    """mindspore.save_checkpoint; it cuts large tensors into several values of one name."""
    checkpoint = Checkpoint()
    for key, array in arrays.items():
        for part in np.array_split(array.reshape(-1), slices):
            value = checkpoint.value.add(tag=key)
            value.tensor.dims.extend(array.shape or (0,))
            value.tensor.tensor_type = {"float32": "Float32", "float16": "Float16", "int32": "Int32"}[str(array.dtype)]
            value.tensor.tensor_content = part.tobytes()
    path.write_bytes(checkpoint.SerializeToString())


def read_back(path: Path, format: str) -> dict[str, np.ndarray]:
    """A file's arrays, through the libraries that its source's users have."""
    if format == "torch":
        tree = torch.load(path, weights_only=True)
        tree = tree.get("model", tree.get("state_dict", tree))
        return {key: tensor.numpy() for key, tensor in tree.items()}
    if format == "paddle":
        with path.open("rb") as file:
            tree = pickle.load(file)
        assert set(tree.pop("StructuredToParameterName@@")) == set(tree)
        return tree
    if format == "keras":
        with h5py.File(path) as file:
            return {
                f"{layer}/{name}": file[layer][name][()]
                for layer in _texts(file.attrs["layer_names"])
                for name in _texts(file[layer].attrs["weight_names"])
            }
    if format == "mindspore":
        values = Checkpoint.FromString(path.read_bytes()).value
        dtypes = {"Float32": "f4", "Int32": "i4", "Float16": "f2"}
        return {
            value.tag: np.frombuffer(value.tensor.tensor_content, dtypes[value.tensor.tensor_type]).reshape(
                tuple(value.tensor.dims)
            )
            for value in values
        }
    from safetensors.numpy import load_file

    return load_file(path)


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def stored_as(source: Source, model: nn.Module) -> dict[str, np.ndarray]:
    """A model's weights under the names that `source` gives them."""
    theirs = mapping.to_theirs(source, model.state_dict(), model.config.heads)
    return {source.spell(key, ""): tensor.detach().contiguous().numpy() for key, tensor in theirs.items()}
