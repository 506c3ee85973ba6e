"""How do towers and heads of torch become the ONNX files that `towers` runs?

The text tower, which is large, is stored in int8, each row with a scale of its own, and all else in float16: in int8
convolutions would move the features of photographs by 0.002 in cosine, and the image head its vectors by 0.001.
Arithmetic is float32, so that a vector does not depend on what is computed beside it. Batch norms are folded into their
convolutions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm2vec.files import write_atomically
from vlm2vec.model.families.onnx_file import OnnxGraph, Port
from vlm2vec.model.families.towers_inputs import TowersConfig
from vlm2vec.model.families.towers_torch import (
    PIXEL_MEAN,
    PIXEL_SPREAD,
    ConvNorm,
    EncoderLayer,
    ImageHead,
    ImageTower,
    MobileBlock,
    TextHead,
    TextTower,
    same_padding,
)

_SHORTEST = 1e-12
"""A vector's length counts as at least that when it is scaled to length one, as in torch."""


def export_image(tower: ImageTower, head: ImageHead | None, size: tuple[int, int], *, small: bool = True) -> bytes:
    """The ONNX file from `pixels`, uint8 [N, 3, H, W], to `vectors`, float32 [N, D].

    Args:
        head: None: the vectors are the tower's features.
        size: height and width of pictures.
        small: store weights in float16; else in float32.
    """
    written = _Writer(small=small)
    graph = written.graph
    shifted = graph.node("Sub", graph.node("Cast", "pixels", to=1), written.number(PIXEL_MEAN))
    x, at = written.convolution(tower.stem, graph.node("Mul", shifted, written.number(1 / PIXEL_SPREAD)), size)
    for block in tower.blocks:
        if isinstance(block, MobileBlock):
            x, at = written.block(block, x, at)
    x, at = written.convolution(tower.last, x, at)
    features = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    output, dim = features, tower.shape.num_features
    if head is not None:
        output = written.image_head(head, features, written.linear(tower.classes, features))
        dim = head.joined.out_features
    return graph.to_bytes([("pixels", np.uint8, ["N", 3, *size])], ("vectors", np.float32, ["N", dim]), output)


def export_text(tower: TextTower, head: TextHead | None, *, small: bool = True) -> bytes:
    """The ONNX file from `ids` and `mask`, int64 [N, T], to `vectors`, float32 [N, D].

    Args:
        head: None: the vectors are the tower's own.
        small: store the tower's weights in int8 and the head's in float16; else in float32.
    """
    written = _Writer(small=small)
    graph = written.graph
    x = graph.node("Add", written.embedded(tower), written.places(tower))
    x = written.layer_norm(tower.norm, x)
    # Zero for tokens that count, and as good as minus infinity for the others: [N, 1, 1, T].
    mask = graph.node("Cast", "mask", to=1)
    hidden = graph.node("Mul", graph.node("Sub", mask, written.number(1.0)), written.number(1e9))
    hidden = graph.node("Unsqueeze", hidden, written.whole([1, 2]))
    for layer in tower.layers:
        if isinstance(layer, EncoderLayer):
            x = written.encoder_layer(layer, x, hidden)
    weights = graph.node("Unsqueeze", mask, written.whole([2]))
    total = graph.node("ReduceSum", graph.node("Mul", x, weights), written.whole([1]), keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", weights, written.whole([1]), keepdims=0))
    output, dim = mean, tower.shape.dim
    if head is not None:
        output, dim = written.text_head(head, mean), head.linear.out_features
    inputs: list[Port] = [(name, np.int64, ["N", "T"]) for name in ("ids", "mask")]
    return graph.to_bytes(inputs, ("vectors", np.float32, ["N", dim]), output)


def export(
    folder: Path,
    image: tuple[ImageTower, ImageHead],
    text: tuple[TextTower, TextHead],
    config: TowersConfig,
    *,
    small: bool = True,
) -> None:
    """Write both files into a folder, under the names that the configuration has for them.

    Raises:
        OSError: they cannot be written.
    """
    write_atomically(folder / config.image.file, export_image(*image, config.image.size, small=small))
    write_atomically(folder / config.text.file, export_text(*text, small=small))


def rows_in_int8(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix [R, C] as whole numbers from -127 to 127, and the scale [R] of each row."""
    scale = np.maximum(np.abs(weight).max(1) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


class _Writer:
    """Writes modules into a graph: every method takes names of values, and gives that of the module's output."""

    def __init__(self, *, small: bool) -> None:
        self.graph = OnnxGraph()
        self._small = small

    def number(self, value: float) -> str:
        return self.graph.constant(np.array(value, np.float32))

    def whole(self, values: list[int]) -> str:
        return self.graph.constant(np.array(values, np.int64))

    def half(self, value: NDArray[np.float32]) -> str:
        if not self._small:
            return self.graph.constant(value)
        return self.graph.node("Cast", self.graph.constant(value.astype(np.float16)), to=1)

    def in_rows(self, value: NDArray[np.float32]) -> str:
        """A matrix [out, in] as [in, out], stored in int8."""
        if not self._small:
            return self.graph.constant(value.T)
        rounded, scale = rows_in_int8(value)
        return self.graph.node("DequantizeLinear", self.graph.constant(rounded.T), self.graph.constant(scale), axis=1)

    def linear(self, module: nn.Linear, x: str, *, in_rows: bool = False) -> str:
        weight = _array(module.weight)
        y = self.graph.node("MatMul", x, self.in_rows(weight) if in_rows else self.half(weight.T))
        # torch's types do not say that a bias may be missing.
        bias: Tensor | None = module.bias
        return y if bias is None else self.graph.node("Add", y, self.graph.constant(_array(bias)))

    def unit(self, x: str) -> str:
        length = self.graph.node("ReduceL2", x, self.whole([-1]))
        return self.graph.node("Div", x, self.graph.node("Max", length, self.number(_SHORTEST)))

    def layer_norm(self, module: nn.LayerNorm, x: str) -> str:
        scale, shift = (self.graph.constant(_array(part)) for part in (module.weight, module.bias))
        return self.graph.node("LayerNormalization", x, scale, shift, epsilon=float(module.eps))

    # --- the image tower

    def convolution(self, module: ConvNorm, x: str, size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        """Also the height and width of the output."""
        conv, norm = module.conv, module.norm
        if norm.running_mean is None or norm.running_var is None:
            raise TypeError("a batch norm without statistics cannot be folded")
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = _array(conv.weight.detach().double() * factor[:, None, None, None])
        bias = _array(norm.bias.detach().double() - norm.running_mean.double() * factor)
        (top, bottom), (left, right) = (same_padding(one, kernel, stride) for one in size)
        y = self.graph.node(
            "Conv",
            *(x, self.half(weight), self.graph.constant(bias)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[top, left, bottom, right],
            group=conv.groups,
        )
        if module.active:
            y = self.graph.node("Clip", y, self.number(0.0), self.number(6.0))
        return y, (-(-size[0] // stride), -(-size[1] // stride))

    def block(self, module: MobileBlock, x: str, size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        """Also the height and width of the output."""
        y = x if module.expand is None else self.convolution(module.expand, x, size)[0]
        y, at = self.convolution(module.depthwise, y, size)
        y, at = self.convolution(module.project, y, at)
        return (self.graph.node("Add", y, x) if module.is_residual else y), at

    def image_head(self, head: ImageHead, features: str, logits: str) -> str:
        shares = self.graph.node("Softmax", self.graph.node("Mul", logits, self.number(1 / head.temperature)), axis=-1)
        known = self.linear(head.names, shares)
        if head.scale_known:
            known = self.unit(known)
        learned = self.unit(self.linear(head.down, self.graph.node("Gelu", self.linear(head.up, features))))
        return self.linear(head.joined, self.graph.node("Concat", known, learned, axis=-1))

    # --- the text tower

    def embedded(self, tower: TextTower) -> str:
        """Vectors of the tokens [N, T, D]; only those that occur are turned into float32."""
        table = _array(tower.tokens.weight)
        if not self._small:
            return self.graph.node("Gather", self.graph.constant(table), "ids")
        rounded, scale = rows_in_int8(table)
        rows = self.graph.node("Cast", self.graph.node("Gather", self.graph.constant(rounded), "ids"), to=1)
        return self.graph.node("Mul", rows, self.graph.node("Gather", self.graph.constant(scale[:, None]), "ids"))

    def places(self, tower: TextTower) -> str:
        """Vectors of the first T places [T, D], with that of the segment."""
        table = self.graph.constant(_array(tower.positions.weight + tower.segment.weight))
        length = self.graph.node("Shape", "ids", start=1, end=2)
        return self.graph.node("Slice", table, self.whole([0]), length, self.whole([0]))

    def encoder_layer(self, layer: EncoderLayer, x: str, hidden: str) -> str:
        parts = (layer.query, layer.key, layer.value)
        # The scale of attention lies in the queries' weights.
        scales = [layer.query.out_features**0.5 / layer.num_heads**0.5, 1.0, 1.0]
        weight = np.concatenate([_array(part.weight / scale) for part, scale in zip(parts, scales, strict=True)])
        bias = np.concatenate([_array(part.bias / scale) for part, scale in zip(parts, scales, strict=True)])
        parted = self.graph.node("Add", self.graph.node("MatMul", x, self.in_rows(weight)), self.graph.constant(bias))
        split = self.graph.node("Reshape", parted, self.whole([0, 0, 3, layer.num_heads, -1]))
        q, k, v = (self.graph.node("Gather", split, self.graph.constant(np.array(one)), axis=2) for one in range(3))
        q, v = (self.graph.node("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
        scores = self.graph.node("MatMul", q, self.graph.node("Transpose", k, perm=[0, 2, 3, 1]))
        shares = self.graph.node("Softmax", self.graph.node("Add", scores, hidden), axis=-1)
        mixed = self.graph.node("Transpose", self.graph.node("MatMul", shares, v), perm=[0, 2, 1, 3])
        mixed = self.linear(layer.output, self.graph.node("Reshape", mixed, self.whole([0, 0, -1])), in_rows=True)
        x = self.layer_norm(layer.attention_norm, self.graph.node("Add", x, mixed))
        y = self.graph.node("Gelu", self.linear(layer.up, x, in_rows=True))
        y = self.linear(layer.down, y, in_rows=True)
        return self.layer_norm(layer.norm, self.graph.node("Add", x, y))

    def text_head(self, head: TextHead, features: str) -> str:
        x = self.unit(features)
        y = self.linear(head.linear, x)
        if head.up is not None and head.down is not None:
            y = self.graph.node("Add", y, self.linear(head.down, self.graph.node("Gelu", self.linear(head.up, x))))
        return y


def _array(value: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = value.detach().cpu().float().numpy()
    return array
