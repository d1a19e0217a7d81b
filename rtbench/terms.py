"""Closed vocabularies: the words that options, records and files all spell alike."""

from typing import Literal, NewType

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""bf16: computed so by a runtime that makes it of FP32 itself; no artifact has it."""
Format = str
"""state_dict, torchscript, pt2, pickle, saved_model, onnx, onnx_trt (in the form that TensorRT takes, where that
differs), tflite, engine, fake; or that of another package's exporter."""
FormatName = NewType("FormatName", str)
"""A format as an option names it."""
Status = Literal["ok", "unavailable", "failed", "invalid"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Preprocess = Literal["torch", "tf", "squash"]
Colours = Literal["RGB", "BGR", "grey"]
Framework = Literal["torch", "tensorflow"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]
Scenario = Literal["single-stream"]
RunFormat = Literal["table", "markdown", "csv", "json"]
ReportFormat = Literal["table", "markdown", "csv", "json", "html"]
Library = Literal["tensorrt", "tensorrt_rtx"]
DiffFormat = Literal["table", "markdown", "json"]
HistoryFormat = Literal["table", "html", "json"]
Loudness = Literal["quiet", "normal", "verbose"]
WAITING = "waiting for"
"""How the name of a phase begins in which rtbench waits for others, which is told in pipes too."""
ClassOrder = Literal["text", "number"]
LARGEST_SIDE = 8192
"""Of an input, in pixels."""
Triple = tuple[float, float, float]
Size = int | tuple[int, int]
"""The side of a square, or height and width, in pixels."""
