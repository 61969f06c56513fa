"""LiteRT (TFLite) files as objects: the weights in them, and copies with changes."""

from __future__ import annotations

import os
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from helpers import base
from helpers.base import CourseError

_WEIGHTED = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)


def read_graph(model: str | os.PathLike | bytes) -> schema.ModelT:
    """Read a LiteRT file into objects.

    Raises
    ------
    CourseError
        It is no LiteRT file.
    """
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    if content[4:8] != b"TFL3":
        name = "This" if isinstance(model, bytes) else base.short(model)
        raise CourseError(f"{name} is no LiteRT (TFLite) file. Delete it and fetch it again.")
    try:
        return schema.ModelT.InitFromPackedBuf(content, 0)
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise CourseError(
            f"The LiteRT file is damaged ({type(error).__name__}). Delete it and fetch it again."
        ) from error


def weights(model: str | os.PathLike | bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read kernel and bias of every convolution and dense layer of a LiteRT file, in the order of computation.

    Returns
    -------
    list of (np.ndarray, np.ndarray), float32
        Eight-bit weights are multiplied by their scale. Kernels in LiteRT's order: (out, rows, columns, in), for
        depthwise convolutions (1, rows, columns, channels), for dense layers (out, in).

    Notes
    -----
    Used by `helpers.yamnet_model`.
    """
    graph = read_graph(model)
    found = []
    for number, bias in _weighted(graph):
        kernel = values(graph, number)
        n_out = kernel.shape[-1] if kernel.shape[0] == 1 and kernel.ndim == 4 else kernel.shape[0]
        found.append((kernel, values(graph, bias) if bias >= 0 else np.zeros(n_out, np.float32)))
    return found


def float_copy(path: str | os.PathLike, exact: np.ndarray | None = None) -> bytes:
    """Copy a LiteRT file with its eight-bit weights written out as 32-bit numbers.

    With eight-bit weights the runtime rounds the *signals* between layers to eight bits, too; with this copy it
    computes in 32 bits with the same weights.

    Parameters
    ----------
    path : path
    exact : np.ndarray, optional
        Values to put in the place of the weights that have the same shape, where they are known without rounding.

    Returns
    -------
    bytes
        For `helpers.yamnet.LiteRT`.

    Notes
    -----
    Used by notebook 04.
    """
    graph = read_graph(path)
    (main,) = graph.subgraphs
    for number, _ in _weighted(graph):
        tensor = main.tensors[number]
        if tensor.type == schema.TensorType.INT8:
            kernel = values(graph, number)
            if exact is not None and exact.shape == kernel.shape:
                kernel = exact
            new = schema.BufferT()
            new.data = np.frombuffer(kernel.astype("<f4").tobytes(), np.uint8)
            graph.buffers.append(new)
            tensor.buffer, tensor.type, tensor.quantization = len(graph.buffers) - 1, schema.TensorType.FLOAT32, None
    return packed(graph)


def values(graph: schema.ModelT, number: int) -> np.ndarray:
    """Give a constant tensor of a graph as float32."""
    tensor = graph.subgraphs[0].tensors[number]
    kind = {schema.TensorType.INT8: "i1", schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2"}
    if tensor.type not in kind or graph.buffers[tensor.buffer].data is None:
        raise CourseError(f"The weights {tensor.name.decode()!r} are of a kind this course cannot read.")
    array = np.frombuffer(graph.buffers[tensor.buffer].data.tobytes(), kind[tensor.type]).astype(np.float32)
    array = array.reshape(tensor.shape)
    if tensor.type == schema.TensorType.INT8:
        along = [1] * array.ndim
        along[tensor.quantization.quantizedDimension] = -1
        scale = np.asarray(tensor.quantization.scale, np.float32).reshape(along)
        zero = np.asarray(tensor.quantization.zeroPoint, np.float32)
        array = (array - (zero.reshape(along) if zero.size == scale.size else zero)) * scale
    return array


def _weighted(graph: schema.ModelT) -> list[tuple[int, int]]:
    """Numbers of the kernel and bias tensors of every layer that has them."""
    (main,) = graph.subgraphs
    produced = {operator.outputs[0]: operator for operator in main.operators}
    found = []
    for operator in main.operators:
        if _code(graph, operator) in _WEIGHTED:
            kernel, bias = operator.inputs[1], operator.inputs[2] if len(operator.inputs) > 2 else -1
            if kernel in produced:  # 16-bit builds widen their weights first
                kernel = produced[kernel].inputs[0]
            found.append((int(kernel), int(bias)))
    return found


def _code(graph: schema.ModelT, operator: schema.OperatorT) -> int:
    code = graph.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def packed(graph: schema.ModelT) -> bytes:
    """Write the objects as the content of a LiteRT file."""
    builder = flatbuffers.Builder(2**23)
    builder.Finish(graph.Pack(builder), b"TFL3")
    return bytes(builder.Output())
