"""The arguments of every command. What a command needs is imported when it runs, so that --help stays fast."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import parity
from parity.profiles import DEFAULT_PROFILE, PROFILES

Command = Callable[[argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """The parser; parsed arguments carry the function to call as ``command``."""
    top = argparse.ArgumentParser(prog="python -m parity", description=parity.__doc__)
    top.add_argument("--version", action="version", version=f"parity {parity.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="show pairs, checks and faults")
    listing.add_argument("--json", action="store_true", help="as JSON, faults included")
    listing.add_argument("--faults", action="store_true", help="each fault, not their number alone")
    _add_imports(listing)
    listing.set_defaults(command=_later("listing", "list_everything"))

    run = commands.add_parser("run", help="judge a pair", description="Judge a pair, as pytest would, without pytest.")
    run.add_argument("pair", metavar="PAIR", help="name or glob of registered pairs")
    run.add_argument("--check", metavar="GLOB", default="*", help="only checks of matching name")
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument("--seed", metavar="N", type=_count(0), help="draw other examples than the profile's fixed ones")
    run.add_argument("--examples", metavar="N", type=_count(1), help="examples per check, instead of the profile's")
    run.add_argument(
        "--budget", metavar="SECONDS", type=_count(1), help="spend what the plan leaves of them on more examples"
    )
    run.add_argument(
        "--weights",
        metavar="FILE",
        type=Path,
        help="judge on these weights instead of stress weights: a safetensors state of the reference, or a checkpoint",
    )
    run.add_argument("--profile", choices=sorted(PROFILES), default=DEFAULT_PROFILE, help="hypothesis profile")
    run.add_argument("--example", metavar="FILE", type=Path, help="judge this stored case only")
    run.add_argument("--fault", metavar="NAME", help="plant a fault of the catalogue first, to see what it looks like")
    run.add_argument("--json", metavar="FILE", type=Path, help="write the report there")
    run.add_argument("--report", metavar="DIR", type=Path, help="write parity.json, .md, .html and cases/ there")
    _add_imports(run)
    _add_against(run)
    run.set_defaults(command=_later("run", "run"))

    record = commands.add_parser("record", help="keep a golden trace of one side, to judge later code by")
    record.add_argument("pair", metavar="PAIR", help="name of a registered pair")
    record.add_argument("--to", metavar="FILE", type=Path, required=True, help="the recording, a safetensors file")
    record.add_argument("--side", choices=("reference", "candidate"), default="candidate", help="default: candidate")
    record.add_argument("--check", metavar="GLOB", default="*", help="only with checks of matching name")
    record.add_argument(
        "--examples", metavar="N", type=_count(1), default=3, help="of a check, times its share (default: 3)"
    )
    record.add_argument("--seed", metavar="N", type=_count(0), default=0, help="draws the examples (default: 0)")
    record.add_argument("--origin", metavar="TEXT", help="where the code comes from (default: its git revision)")
    _add_imports(record)
    record.set_defaults(command=_later("record", "keep"))

    mapping = commands.add_parser("map", help="infer which parameter of one side is which of the other")
    mapping.add_argument("pair", metavar="PAIR", help="name of a registered pair")
    _add_imports(mapping)
    mapping.set_defaults(command=_later("map", "show"))

    train = commands.add_parser("train", help="train a pair's sides")
    train.add_argument("agent", metavar="AGENT", help="name of a registered pair")
    train.add_argument("--environment", metavar="NAME", required=True, help="token_grid, metta_grid, recorded:NAME")
    train.add_argument("--side", choices=("reference", "candidate", "both"), default="both")
    train.add_argument("--updates", metavar="N", type=_count(1), help="updates of the whole run")
    train.add_argument("--agents", metavar="B", type=_count(1), help="agents acting side by side")
    train.add_argument("--seed", metavar="N", type=_count(0), default=0, help="of everything random (default: 0)")
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    train.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting, such as ppo.gamma")
    train.add_argument(
        "--lockstep", action="store_true", help="begin every update of both sides from equal state, and judge it"
    )
    train.add_argument("--folder", metavar="DIR", type=Path, help="for the run (default: below reports/train)")
    train.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the folder")
    train.add_argument("--trace", action="store_true", help="write shapes and recurrent states of every policy call")
    train.add_argument("--json", metavar="FILE", type=Path, help="write a summary there")
    train.set_defaults(command=_later("train", "train"))

    collapse = commands.add_parser("collapse", help="train over many seeds: does the candidate learn as well?")
    collapse.add_argument("pair", metavar="PAIR", nargs="?", default="fast", help="default: fast")
    collapse.add_argument("--seeds", metavar="N", type=_count(2), default=5, help="runs of each arm (default: 5)")
    collapse.add_argument(
        "--steps", metavar="N", type=_count(1), default=50_000, help="agent steps of a run (default: 50,000)"
    )
    collapse.add_argument("--fault", metavar="GLOB", action="append", help="train these faults instead of the usual")
    collapse.add_argument("--folder", metavar="DIR", type=Path, help="finished runs are kept there, and not repeated")
    collapse.set_defaults(command=_later("collapse", "collapse"))

    report = commands.add_parser("report", help="show a stored report again")
    report.add_argument("file", metavar="FILE", type=Path)
    report.add_argument("--markdown", action="store_true", help="as Markdown")
    report.add_argument(
        "--html", metavar="OUT", type=Path, help="as a page; also of faults.json, false-alarms.json and collapse.json"
    )
    report.set_defaults(command=_later("reports", "show"))

    compare = commands.add_parser("compare", help="show which verdicts and margins moved between two reports")
    compare.add_argument("old", metavar="OLD", type=Path)
    compare.add_argument("new", metavar="NEW", type=Path)
    compare.set_defaults(command=_later("reports", "compare"))

    alarms = commands.add_parser("false-alarms", help="judge clean pairs and harmless rewrites; none may fail")
    alarms.add_argument("pair", metavar="PAIR", nargs="?", default="*", help="name or glob (default: all)")
    alarms.add_argument("--check", metavar="GLOB", default="*", help="only checks of matching name")
    alarms.add_argument("--seeds", metavar="N", type=_count(1), default=7, help="number of seeds (default: 7)")
    alarms.add_argument("--first-seed", metavar="N", type=_count(0), help="they count up from here (default: random)")
    alarms.add_argument(
        "--examples",
        metavar="N",
        type=_count(1),
        default=60,
        help="per check and seed, all dtypes, times the check's share (default: 60)",
    )
    alarms.add_argument("--processes", metavar="N", type=_count(1), default=2, help="side by side (default: 2)")
    alarms.add_argument("--out", metavar="FILE", type=Path, default=Path("reports/false-alarms.json"))
    alarms.set_defaults(command=_later("false_alarms", "false_alarms"))

    power = commands.add_parser("faults", help="plant faults and mutants: what do the checks see?")
    power.add_argument("pair", metavar="PAIR", nargs="?", default="*", help="name or glob (default: all)")
    power.add_argument("--only", choices=("fault", "mutant"), help="named faults or mutants alone")
    power.add_argument("--every", action="store_true", help="every mutant, not a sample of them")
    power.add_argument("--seed", metavar="N", type=_count(0), default=0, help="draws those (default: 0)")
    power.add_argument("--shard", metavar="I/N", type=_shard, default=(1, 1), help="the I-th of N parts (default: 1/1)")
    power.add_argument("--processes", metavar="N", type=_count(1), default=2, help="side by side (default: 2)")
    power.add_argument("--out", metavar="FILE", type=Path, default=Path("reports/faults.json"))
    _add_imports(power)
    power.set_defaults(command=_later("faults", "faults"))

    manifest = commands.add_parser("manifest", help="compare the planned cells of the shipped pairs with the manifest")
    manifest.add_argument("--write", action="store_true", help="update the manifest")
    manifest.set_defaults(command=_later("manifest", "manifest"))
    return top


def _add_imports(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="module or file to import first, for the pairs in it; may be given several times",
    )


def _add_against(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("before and after", "judge one side by itself at another time")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--against", metavar="FILE", type=Path, help="judge today's code by this recording")
    source.add_argument(
        "--against-revision", metavar="REV", help="judge today's code by that of another revision of its git repository"
    )
    group.add_argument(
        "--side",
        choices=("reference", "candidate"),
        help="side to judge (default: the recorded one; candidate for a revision)",
    )
    group.add_argument(
        "--renamed", metavar="OLD=NEW", action="append", default=[], help="a parameter that changed its name meanwhile"
    )
    group.add_argument("--repository", metavar="DIR", type=Path, help="of the revision (default: that of the code)")
    group.add_argument(
        "--time-limit", metavar="SECONDS", type=_count(1), default=600, help="to record a revision (default: 600)"
    )


def _later(module: str, name: str) -> Command:
    def command(arguments: argparse.Namespace) -> int:
        if getattr(arguments, "imports", None):
            for source in arguments.imports:
                import_module("parity.pairs.importing").import_pairs(source)
        return getattr(import_module(f"parity.cli.{module}"), name)(arguments)

    return command


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write 1/4 for the first of four")
    return int(part), int(parts)
