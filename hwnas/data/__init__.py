"""Samples with targets, images with labels above all: loading, checking, splitting, preprocessing, augmentation.

    data = load_data("folder:photos?size=64", seed=0)

Knows numpy; torch is loaded only by the functions that take tensors. Never networks or devices.
"""

from hwnas.data.arrays import ArrayDataset, Data, RawData
from hwnas.data.augment import POLICIES, Augment, augment_batch, augment_samples
from hwnas.data.load import DataSource, load_data, parse_spec, split
from hwnas.data.preprocess import Preprocessing
from hwnas.data.rows import one_row

__all__ = [
    "POLICIES",
    "ArrayDataset",
    "Augment",
    "Data",
    "DataSource",
    "Preprocessing",
    "RawData",
    "augment_batch",
    "augment_samples",
    "load_data",
    "one_row",
    "parse_spec",
    "split",
]
