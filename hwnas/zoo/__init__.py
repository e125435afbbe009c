"""Trained supernets that ship, or that somebody packed: what they were trained on, how, and how good they are.

    entry = find_entry("zoo:cifar10-mobilenet")

An entry is a folder: a card, weights, some images to recalibrate statistics and to check deployments with, and the
accuracies that were measured of its networks. Knows spaces, data and files; torch is loaded only by the functions that
take tensors. Never devices, tables, search or runs.
"""

from hwnas.zoo.card import Card, Measured
from hwnas.zoo.entry import ENTRIES, Entry, entry_names, find_entry
from hwnas.zoo.listing import ZooCard, ZooList, all_entries, one_entry

__all__ = [
    "ENTRIES",
    "Card",
    "Entry",
    "Measured",
    "ZooCard",
    "ZooList",
    "all_entries",
    "entry_names",
    "find_entry",
    "one_entry",
]
