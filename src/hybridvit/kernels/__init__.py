"""Fast forms of layers, and every call of torch and timm that is private or bound to a version: tests/kernels names each."""
