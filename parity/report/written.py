"""Everything a run leaves behind: the report for programs, for job summaries and for people."""

from __future__ import annotations

from pathlib import Path

from parity.report.files import write_text
from parity.report.markdown import to_markdown
from parity.report.model import write_report
from parity.results import Report


def write_all(report: Report, stem: Path) -> None:
    """Write ``stem.json``, ``.md`` and ``.html``, each whole or not at all, in this order.

    Raises:
        ReportError: the file system refuses.
    """
    from parity.report.html import lying_beside, to_html  # jinja2 need not be loaded for pytest to start

    write_report(report, stem.with_suffix(".json"))
    write_text(stem.with_suffix(".md"), to_markdown(report))
    write_text(stem.with_suffix(".html"), to_html(report, beside=lying_beside(stem.parent)))
