"""Shows a deployment: one self-contained HTML page, and the figures on it for use elsewhere.

Knows the data classes of the other parts, never how a number was obtained. Importing it loads neither
matplotlib nor jinja2.
"""

from hwnas.report.figures import front_figure, history_figure, prediction_figure, share_figure
from hwnas.report.inputs import BlockShare, PredictionPoint, ReportInputs
from hwnas.report.page import render_report, write_report

__all__ = [
    "BlockShare",
    "PredictionPoint",
    "ReportInputs",
    "front_figure",
    "history_figure",
    "prediction_figure",
    "render_report",
    "share_figure",
    "write_report",
]
