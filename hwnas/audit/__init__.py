"""What a device does badly, measured by changing one choice of a block at a time, and what that means for a run;
and where the time of a network goes that is there as a file alone.

Knows devices, blocks and a run's folder; never the stages of a run, a fleet, or torch.
"""

from hwnas.audit.audit_file import Audit, load_audit
from hwnas.audit.auditing import advise, audit, find_audit
from hwnas.audit.one_file import FileAuditResult, audit_file
from hwnas.audit.show import AuditResult

__all__ = ["Audit", "AuditResult", "FileAuditResult", "advise", "audit", "audit_file", "find_audit", "load_audit"]
