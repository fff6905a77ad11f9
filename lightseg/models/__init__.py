"""The five architectures, in PyTorch."""
