"""A loaded model comes in; out come its artifacts, ONNX files and TensorRT engines, each with a manifest.

Nothing here measures or judges an artifact: that takes a runtime.
"""
