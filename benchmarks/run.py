"""What does a call cost?  CPU time of the whole process tree, beside bare FastAPI or beside another checkout.

    make bench                                             every case, beside a bare FastAPI handler
    python -m benchmarks.run text-c32 --against ../before  beside the code of another folder, each on its own .venv
    python -m benchmarks.run text-c32 --tls                with an upstream that speaks TLS

A round starts every target anew, each with its own data folder and store, and loads one after the other, there and
back; the next round begins with the next of them.  What is printed is the median of the rounds.

With --against this checkout runs twice, as `this` and `again`.  Of each ratio the brackets say between what it lies in
95 of 100 runs, from six rounds on.  `this / again` is the noise: its brackets should hold 1.  Those of `this / other`
say what the change costs; where they hold 1 too, nothing is shown, and more --rounds make them narrower.

`rest` is whoever else is in the tree, and who ended meanwhile; `strangers` is the share of the machine that others had.

nginx is the upstream and wrk the load; both are Debian packages.  CPU per call survives a noisy machine better than
times do, but only ratios within one run count.
"""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import summary
from benchmarks.cases import CASES, Case
from benchmarks.load import measured, warm_up
from benchmarks.processes import BenchError
from benchmarks.targets import Settings, Target, bare, other_checkout, this_checkout
from benchmarks.upstream import upstream

THIS, AGAIN, OTHER, BARE = "this", "again", "other", "bare FastAPI"


def main() -> int:
    """Measure and print.  Exit status: 0 done, 1 it could not be measured, 2 wrong use."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    options = arguments()
    status = 2
    try:
        targets = chosen(options.against)
        status = 1
        require("nginx", "wrk", *["openssl"] * options.tls)
        measure(options, targets)
    except BenchError as error:
        print(f"benchmarks.run: {error}", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        return 130
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", type=case_named, default=CASES, help="which (default: all)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout of this project")
    parser.add_argument(
        "--seconds", type=positive, default=1, help="how long one load lasts, of two a round (default: 1)"
    )
    parser.add_argument("--rounds", type=positive, help="how often (default: 6 with --against, else 2)")
    parser.add_argument("--tls", action="store_true", help="the upstream speaks TLS")
    parser.add_argument("--terms", default="", help="further lines of the client in clients.toml, for example limits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what every round measured there")
    options = parser.parse_args()
    options.rounds = options.rounds or (6 if options.against else 2)
    return options


def case_named(name: str) -> Case:
    """The case of that name."""
    for case in CASES:
        if case.name == name:
            return case
    raise argparse.ArgumentTypeError(f"there is no case {name}; there are {', '.join(case.name for case in CASES)}")


def positive(text: str) -> int:
    """How many seconds or rounds."""
    if not text.isdecimal() or not (number := int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return number


def require(*programs: str) -> None:
    """See that they are installed.  Raises `BenchError`."""
    for program in programs:
        if shutil.which(program) is None:
            raise BenchError(f"{program} is missing: apt install {program}")


def chosen(against: Path | None) -> dict[str, Target]:
    """Whom to load.  Raises `BenchError` when a checkout cannot be used."""
    this = this_checkout()
    if against is None:
        return {BARE: partial(bare, "plain"), "the quickest": partial(bare, "quick"), "gateway": this.serve}
    other = other_checkout(against)
    for name, checkout in ((THIS, this), (OTHER, other)):
        print(f"{name:5} is {checkout.folder} {checkout.version}", flush=True)
    return {THIS: this.serve, AGAIN: this.serve, OTHER: other.serve}


def measure(options: argparse.Namespace, targets: Mapping[str, Target]) -> None:
    """Measure case by case, and say what each has given as soon as it is known."""
    base, pairs = (OTHER, ((THIS, AGAIN), (THIS, OTHER))) if OTHER in targets else (BARE, ())
    found: dict[str, summary.Rounds] = {}
    print(summary.titles(base), flush=True)
    with tempfile.TemporaryDirectory() as name, upstream(Path(name), tls=options.tls) as leading_to:
        for case in options.cases:
            loaded = replace(case, terms="\n".join((case.terms, options.terms.replace("\\n", "\n"))))
            found[case.name] = rounds = [
                one_round(loaded, rotated(targets, number), Path(name), leading_to(case), options.seconds)
                for number in range(options.rounds)
            ]
            lines = [*summary.rows(case, rounds, base), *summary.comparisons(case, rounds, pairs)]
            print("\n".join(lines), flush=True)
            if options.json:
                options.json.write_text(json.dumps(summary.written(found, pairs), indent=1))


def rotated(targets: Mapping[str, Target], number: int) -> dict[str, Target]:
    """The same targets, beginning with another."""
    names = list(targets)
    at = number % len(names)
    return {name: targets[name] for name in names[at:] + names[:at]}


def one_round(
    case: Case, targets: Mapping[str, Target], folder: Path, settings: Settings, seconds: int
) -> dict[str, summary.Sample]:
    """Load every target there and back, so that a steady drift cancels.

    They are started anew because two processes of the same code differ by some per cent for as long as they live.
    """
    with contextlib.ExitStack() as stack:
        running = {}
        for name, target in targets.items():
            own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            running[name] = stack.enter_context(target(case, own, settings))
            warm_up(case, running[name], own)
        course = [*targets, *reversed(list(targets))]
        taken = [(name, measured(case, running[name], folder, seconds)) for name in course]
    return {name: summary.together([sample for of, sample in taken if of == name]) for name in targets}


if __name__ == "__main__":
    sys.exit(main())
