"""Networks from ONNX files, as torch modules that can be traced and trained.

An importer of our own: onnx2torch, the converter that people know, had its last release in August 2024, needs
torchvision (which cannot be imported beside torch's CPU build), reads nothing that torch's newer exporter writes, and
keeps the batch of 1 that a file is written for, by which a network can be neither traced for a batch nor trained.
"""

from hwnas.supernet.importing.file import onnx_files
from hwnas.supernet.importing.load import load_onnx
from hwnas.supernet.importing.network import OnnxNetwork

__all__ = ["OnnxNetwork", "load_onnx", "onnx_files"]
