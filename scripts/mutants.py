"""Plants small faults in the pure rooms, one at a time, and looks whether something notices.

Promise: a fault counts as caught only where the same tests pass without it, and what was tried is
kept, so that a run that was stopped goes on where it was and each run tries others. `cargo mutants`
says what can be planted; the sample follows from the seed. Asked are the tests of the fold without
IO in tests/pure, the library's unit tests of the rooms and of what stands on them, and 500 seeds of
the world; whoever notices ends it.

usage: mutants.py [--seed 1] [--sample 60] [--again] [--summary]
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "mutants"
TREE = HOME / "tree"
TRIED = HOME / "tried.jsonl"
EXPLAINED = ROOT / "docs" / "mutants.md"
ROOMS = ["delivery", "admission", "fold", "log", "connection"]
# Words for people are no promise.
LEFT_OUT = ["impl Display", "impl .*Debug"]
PARTS = ["src", "tests", "bench", ".cargo", "Cargo.toml", "Cargo.lock", "docs"]
CARGO = os.environ.get("CARGO", "cargo")
# Modules whose tests are asked: the rooms, and what stands on them without a disk or a process.
NEAR = [f"{room}::" for room in [*ROOMS, "rows", "wire", "limit", "client", "channel", "journal"]]
# What is built, what is run, and how long that may take in seconds.
STAGES = {
    "world": (
        ["build", "--package", "highwater-world", "--bin", "world"],
        ["target/debug/world", "--seeds", "500", "--brief"],
        120,
    ),
    "library": (["test", "--lib", "--no-run"], [CARGO, "test", "--lib", "--", *NEAR], 300),
    "pure": (
        ["test", "--test", "pure", "--no-run"],
        [CARGO, "test", "--test", "pure", "--", "fold::"],
        300,
    ),
}
# Who is asked about a room: the world has no admission, and tests/pure has the fold alone.
ASKED = {"admission": ["library"], "delivery": ["library", "world"]}
ALL = ["pure", "library", "world"]


def plantable():
    """All faults, in the order of their names."""
    command = [CARGO, "mutants", "--list", "--json"]
    for room in ROOMS:
        command += ["--file", f"src/{room}/**"]
    for words in LEFT_OUT:
        command += ["--exclude-re", words]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(json.loads(told.stdout), key=lambda one: one["name"])


def key(one):
    """The same for the same fault when lines have moved."""
    return one["file"] + ": " + one["name"].split(": ", 1)[1]


def planted(text, one):
    """The file with the fault in it."""
    lines = text.splitlines(keepends=True)
    start, end = one["span"]["start"], one["span"]["end"]
    before = "".join(lines[: start["line"] - 1]) + lines[start["line"] - 1][: start["column"] - 1]
    after = lines[end["line"] - 1][end["column"] - 1 :] + "".join(lines[end["line"] :])
    return before + one["replacement"] + after


def copy_tree():
    """A copy beside. What is alike stays as it is, so that little is built anew; what is not, as a
    fault whose run was stopped, is written with a new time, so that it is."""
    wanted = set()
    for part in PARTS:
        for source in [ROOT / part, *sorted((ROOT / part).rglob("*"))]:
            inside = source.relative_to(ROOT)
            if source.is_file() and "node_modules" not in inside.parts:
                wanted.add(inside)
                copy, text = TREE / inside, source.read_bytes()
                copy.parent.mkdir(parents=True, exist_ok=True)
                if not copy.is_file() or copy.read_bytes() != text:
                    copy.write_bytes(text)
        for copy in (TREE / part).rglob("*"):
            if copy.is_file() and copy.relative_to(TREE) not in wanted:
                copy.unlink()


def run(command, limit):
    """Whether it passed; none where it took too long."""

    def bounds():
        # A fault may ask for memory without an end.
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(
        command, cwd=TREE, start_new_session=True, preexec_fn=bounds, **quiet
    )
    try:
        return child.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also where this run is stopped: what was begun may go on for ever.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def verdict(names):
    """Who notices what is planted now: a stage, `unviable` where it is not built, or `missed`."""
    for name in names:
        build, command, limit = STAGES[name]
        if not run([CARGO, *build], 1800):
            return "unviable"
        passed = run(command, limit)
        if not passed:
            return name if passed is False else f"{name}, by its time"
    return "missed"


def tried():
    """What earlier runs found, by key."""
    lines = TRIED.read_text().splitlines() if TRIED.exists() else []
    return {one["key"]: one for one in map(json.loads, lines)}


def sample(seed, most, again):
    """The faults that this seed tries, of those that no run has tried; or the missed ones."""
    done, all_of_them = tried(), plantable()
    if again:
        missed = {name for name, one in done.items() if one["verdict"] == "missed"}
        return [one for one in all_of_them if key(one) in missed]
    left = [one for one in all_of_them if key(one) not in done]
    random.Random(seed).shuffle(left)
    print(f"{len(all_of_them)} faults can be planted, {len(done)} were tried; seed {seed}")
    return left[:most]


def summary():
    """Counts what was tried, and names what nobody noticed and no document explains."""
    done = [one for one in tried().values() if one["verdict"] != "unviable"]
    missed = [one["key"] for one in done if one["verdict"] == "missed"]
    caught = len(done) - len(missed)
    explained = EXPLAINED.read_text() if EXPLAINED.exists() else ""
    open_ones = [one for one in missed if f"`{one}`" not in explained]
    part = 100 * caught / max(1, len(done))
    print(f"{len(done)} faults were tried: {caught} were caught, {part:.1f} %; {len(missed)} missed")
    for one in open_ones:
        print(f"not explained in {EXPLAINED.relative_to(ROOT)}: {one}")
    return 0 if part >= 90 and not open_ones else 1


def main():
    """Tries a sample, and tells what became of all that was tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--again", action="store_true", help="try anew what was missed")
    parser.add_argument("--summary", action="store_true", help="only tell what was tried")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if args.summary:
        return summary()
    chosen = sample(args.seed, args.sample, args.again)
    copy_tree()
    if verdict(ALL) != "missed":
        print("without any fault something fails: mend that first")
        return 2
    for number, one in enumerate(chosen, 1):
        place, begun = TREE / one["file"], time.monotonic()
        sound = place.read_text()
        place.write_text(planted(sound, one))
        try:
            found = verdict(ASKED.get(one["file"].split("/")[1], ALL))
        finally:
            place.write_text(sound)
        line = {"key": key(one), "verdict": found, "seed": args.seed}
        with TRIED.open("a") as out:
            out.write(json.dumps(line) + "\n")
        took = f"{time.monotonic() - begun:.0f} s"
        print(f"{number}/{len(chosen)} {found}: {key(one)} ({took})", flush=True)
    return summary()


if __name__ == "__main__":
    sys.exit(main())
