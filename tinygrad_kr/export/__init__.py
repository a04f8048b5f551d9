"""Nets for other programs: `export.onnx` writes an ONNX file, `load_onnx` reads one."""

from tinygrad_kr.export.protobuf import OnnxError
from tinygrad_kr.export.reader import OnnxModel, load_onnx
from tinygrad_kr.export.recording import ExportError
from tinygrad_kr.export.writer import onnx


def __dir__() -> list[str]:
    return __all__


__all__ = ["ExportError", "OnnxError", "OnnxModel", "load_onnx", "onnx"]
