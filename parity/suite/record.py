"""The record of one pytest run: what it planned, what it ran, and what it has to say at the end. Does not import torch.

With pytest-xdist, workers collect and the controller reports; each worker sends its plan along with the first parity
test it runs. The controller reports what came through, so a crashed worker leaves cells planned and not run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from typing import Any

import pytest

from parity.compare.verdict import Verdict
from parity.report.annotations import error_lines
from parity.report.describe import describe
from parity.report.files import ReportError
from parity.report.terminal import render
from parity.report.written import write_all
from parity.results import Cell, Report, Result
from parity.suite.budget import Extra, Judged, spend, together
from parity.suite.changed import leave_out_untouched
from parity.suite.options import Options
from parity.suite.plan import Plan, cells_of, deselect_by_options, group_by_pair, make_plan, some

#: Names of the user properties that carry a result or a plan, as JSON.
RESULT = "parity_result"
PLAN = "parity_plan"
EXTRA = "parity_extra"

#: What this process judged, for the time that is left.
JUDGED = pytest.StashKey[list[Judged]]()


class Record:
    """A plugin object with one run's state."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self.config, self.options = config, options
        self.is_worker = hasattr(config, "workerinput")
        self.started = time.perf_counter()
        self.collected: list[Cell] = []
        self.plan: Plan | None = None
        self.platform: dict[str, Any] = {}
        self.results: dict[Cell, Result] = {}
        self.report: Report | None = None
        self._plan_sent = False
        self._left_out = ""
        self._extra: Extra | None = None
        self._until = self.started + options.budget if options.budget is not None else None

    # In the process that collects.

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """See all that was collected, then leave out what the options leave out."""
        self.collected = [cell for item in items for cell in cells_of(item)]
        group_by_pair(items)
        refusal = deselect_by_options(config, items, self.options)
        if refusal:
            self._plan_of_nothing(Plan(problems=[refusal]))
        elif self.options.changed is not None:
            self._left_out = leave_out_untouched(config, items, self.options.changed)
            if self._left_out and not any(cells_of(item) for item in items):
                self._plan_of_nothing(Plan(left_out=self._left_out))

    def _plan_of_nothing(self, plan: Plan) -> None:
        if self.is_worker:  # no test will carry it
            self.config.workeroutput[PLAN] = json.dumps(plan.to_json())  # type: ignore[attr-defined]  # pytest-xdist's
        else:
            self.plan = plan

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan what every deselection has left."""
        if any(cells_of(item) for item in session.items):
            self.plan = make_plan(self.config, session.items, self.collected, self.options)
            self.plan.left_out = self._left_out

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Send the plan with the first parity test."""
        if self._plan_sent or self.plan is None or not cells_of(item):
            return
        from parity.conditions import judging
        from parity.platform_info import platform_info

        with judging():
            platform = platform_info(self.options.devices)
        item.user_properties.append((PLAN, json.dumps({"plan": self.plan.to_json(), "platform": platform})))
        self._plan_sent = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """After the last test, spend what is left of the time; with pytest-xdist each worker does so by itself."""
        finished = yield
        judged = self.config.stash.get(JUDGED, [])
        if self._until is not None and judged and not (session.shouldstop or session.shouldfail):
            extra = spend(judged, self._until)
            if self.is_worker:
                self.config.workeroutput[EXTRA] = json.dumps(extra.to_json())  # type: ignore[attr-defined]
            else:
                self._take_in(extra)
        return finished

    # In the process that reports.

    def _take_in(self, extra: Extra) -> None:
        self._extra = extra if self._extra is None else self._extra.joined(extra)
        for result in extra.results:
            self.results[result.cell] = together(self.results.get(result.cell), result)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in plans and results, from this process or a worker."""
        for name, value in report.user_properties:
            if name == PLAN:
                content = json.loads(str(value))
                self.plan = self.plan or Plan.from_json(content["plan"])
                self.platform = content["platform"]
            elif name == RESULT:
                result = Result.from_json(json.loads(str(value)))
                self.results[result.cell] = result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what a worker of pytest-xdist judged beyond the plan, and why it planned nothing."""
        extra = getattr(node, "workeroutput", {}).get(EXTRA)
        if extra:
            self._take_in(Extra.from_json(json.loads(extra)))
        plan = getattr(node, "workeroutput", {}).get(PLAN)
        if plan and self.plan is None:
            self.plan = Plan.from_json(json.loads(plan))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close the report, write it, and fail the session for what no single test could fail for."""
        if self.is_worker or any(getattr(self.config.option, name, False) for name in ("collectonly", "setuponly")):
            return
        if self.plan is None:
            return
        self.report = self._close(self.plan, str(session.shouldstop or session.shouldfail or ""))
        try:
            self._write(self.report)
        except ReportError as error:
            self.report.problems.append(str(error))
        nothing = session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        if self.report.exit_code and (nothing or session.exitstatus == pytest.ExitCode.OK):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif nothing and self.plan.left_out:  # that nothing is touched is what was to be found out
            session.exitstatus = pytest.ExitCode.OK

    def _close(self, plan: Plan, stopped: str) -> Report:
        results = [self.results[cell] for cell in plan.cells if cell in self.results]
        problems = list(plan.problems)
        missing = [str(cell) for cell in plan.cells if cell not in self.results]
        if missing:
            why = f" (the run was stopped: {stopped})" if stopped else ""
            count = f"{len(missing)} of {len(plan.cells)} planned cells did not run"
            problems.append(f"incomplete: {count}{why}: {some(missing)}")
        problems += [
            f"{result.expected_failure} is stale: {result.cell} passes; remove or narrow the line"
            for result in results
            if result.expected_failure and result.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT)
        ]
        seconds = time.perf_counter() - self.started
        notes = [note for note in (plan.left_out, self._extra.describe() if self._extra else "") if note]
        return Report(len(plan.cells), results, seconds, self.platform, problems, notes)

    def _write(self, report: Report) -> None:
        if self.options.report is None:
            return
        write_all(report, self.options.report / self.options.report_name)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the report; pytest has shown the failures right above, unless it was told not to."""
        if self.report is None:
            return
        terminalreporter.section("parity")
        beyond = self._extra.results if self._extra is not None else []
        for result in (found for found in beyond if not found.verdict.passed and self.config.option.tbstyle != "no"):
            terminalreporter.write_line(f"{describe(result)}\n")
        terminalreporter.write_line(render(self.report, failures=self.config.option.tbstyle == "no"))
        if self.plan is not None and self.plan.unselected:
            terminalreporter.write_line(f"skipped with other devices: {self.plan.unselected} cells")
        for remark in self.plan.remarks if self.plan is not None else ():
            terminalreporter.write_line(f"NOTE  {remark}", yellow=True)
        if self.report.exit_code:
            terminalreporter.write_line("parity failed", red=True)
        for line in error_lines(self.report):
            terminalreporter.write_line(line)
