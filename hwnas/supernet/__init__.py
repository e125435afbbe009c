"""Elastic networks in torch: training, extraction, BatchNorm recalibration, quantization.

Must never know devices, tables or the search algorithm.
"""
