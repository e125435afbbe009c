"""`hwnas serve`: budgets of a finished run as a local HTTP API and a page, and deployments as jobs.

The catalogue answers (`hwnas.catalogue`), a child process deploys (`hwnas.serve.job_process`); what this room adds is
the protocol, who may speak it (`SECURITY.md`), and the page.
"""

from hwnas.serve.running import serve

__all__ = ["serve"]
