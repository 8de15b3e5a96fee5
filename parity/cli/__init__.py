"""The command line: ``python -m parity COMMAND``, also installed as ``parity``.

Exit codes: 0 everything passed; 1 something diverged; 2 misuse, or something could not be judged; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from parity.cli.arguments import parser
from parity.compare.verdict import Inconclusive, Misuse
from parity.report.files import ReportError

TRACEBACK_VARIABLE = "PARITY_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no error ends in a traceback, unless PARITY_TRACEBACK is set."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (Misuse, Inconclusive, ReportError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("parity: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        hint = f"set {TRACEBACK_VARIABLE}=1 to see where"
        print(f"parity: internal error: {type(error).__name__}: {error} ({hint})", file=sys.stderr)
        return 2
