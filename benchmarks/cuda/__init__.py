"""Networks on an NVIDIA GPU: eager, compiled, as recorded graphs, in ONNX Runtime and TensorRT."""
