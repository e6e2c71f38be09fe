"""Plants small faults in the pure rooms, a sample in one build, and looks who notices each.

Promise: a fault counts as caught only where the same tests pass without it; what was tried is kept
in docs/mutants.jsonl, so that a run that was stopped goes on where it was; and what could not be
planted is told, never passed over. `cargo mutants` says what can be planted; the sample follows
from the seed.

Each fault of a sample stands behind a switch in a copy of the sources (`tests/mutants` plants
them), which the environment turns on: one build serves all, and a fault costs the runs alone. What
cannot be switched is planted and built alone. Asked are the tests of the fold without IO in
tests/pure, the library's unit tests of the rooms and of what stands on them, and 500 seeds of the
world; whoever notices ends it.

usage: mutants.py [--seed 1] [--sample 60] [--again] [--summary]
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "mutants"
# The sources as they were when the run began, and what is planted.
SOUND = HOME / "sound"
TREE = HOME / "tree"
BUILD = HOME / "build"
PLANTED = HOME / "planted.json"
TRIED = ROOT / "docs" / "mutants.jsonl"
EXPLAINED = ROOT / "docs" / "mutants.md"
ROOMS = ["delivery", "admission", "fold", "log", "connection"]
# Words for people are no promise.
LEFT_OUT = ["impl Display", "impl .*Debug"]
PARTS = ["src", "tests", "bench", ".cargo", "Cargo.toml", "Cargo.lock", "docs"]
CARGO = os.environ.get("CARGO", "cargo")
# Nobody asked here is asked what a disk keeps, so nobody waits for one.
MEMORY = next((path for path in ["/dev/shm"] if os.path.isdir(path)), None)
# Modules whose tests are asked: the rooms, and what stands on them without a disk or a process.
NEAR = [f"{room}::" for room in [*ROOMS, "rows", "wire", "limit", "client", "channel", "journal"]]
# Who is asked about a room: the world has no admission, and tests/pure has the fold alone.
ASKED = {"admission": ["library"], "delivery": ["library", "world"]}
ALL = ["world", "library", "pure"]


@dataclasses.dataclass
class Stage:
    """Who may notice, the program, what it is asked to run, and how long that may take: in seconds
    of processors, whatever else the machine does, and of the clock, for one that waits for ever."""

    name: str
    program: str
    asks: list
    processors: int = 600
    clock: int = 1800


# In the order in which they are asked: most is noticed by the first, least by the last alone.
STAGES = [
    Stage("world", "world", ["--seeds", "25", "--brief"]),
    Stage("library", "highwater", NEAR),
    Stage("pure", "pure", ["fold::"]),
    Stage("world", "world", ["--seeds", "475", "--from", "26", "--brief"]),
]


def plantable():
    """All faults with their keys, in the order of their keys."""
    copy(ROOT, SOUND)
    command = [CARGO, "mutants", "--list", "--json"]
    for room in ROOMS:
        command += ["--file", f"src/{room}/**"]
    for words in LEFT_OUT:
        command += ["--exclude-re", words]
    told = subprocess.run(command, cwd=SOUND, check=True, capture_output=True, text=True)
    faults, met = json.loads(told.stdout), collections.Counter()

    def place(one):
        start = one["span"]["start"]
        return one["file"], start["line"], start["column"]

    for one in sorted(faults, key=place):
        # The same for the same fault when lines have moved; a number where a function has several.
        key = one["file"] + ": " + one["name"].split(": ", 1)[1]
        met[key] += 1
        one["key"] = key if met[key] == 1 else f"{key} #{met[key]}"
    return sorted(faults, key=lambda one: one["key"])


def copy(source, target):
    """Makes the target like the source. What is alike stays as it is, so that little is built anew;
    what is not, as what was planted before, is written with a new time, so that it is."""
    wanted = set()
    for part in PARTS:
        for place in [source / part, *sorted((source / part).rglob("*"))]:
            inside = place.relative_to(source)
            if place.is_file() and "node_modules" not in inside.parts:
                wanted.add(inside)
                beside, text = target / inside, place.read_bytes()
                beside.parent.mkdir(parents=True, exist_ok=True)
                if not beside.is_file() or beside.read_bytes() != text:
                    beside.write_bytes(text)
        for beside in (target / part).rglob("*"):
            if beside.is_file() and beside.relative_to(target) not in wanted:
                beside.unlink()


def plant(way, faults, parts=("world", "tests")):
    """What the planter makes of them: which are built, which are left and why, and the programs.
    What it has made of the same last time is there still."""
    ask = {"way": way, "tree": str(TREE), "build": str(BUILD)}
    ask.update({"parts": parts, "faults": faults})
    ask = json.dumps(ask)
    known = json.loads(PLANTED.read_text()) if PLANTED.exists() else {}
    made = hashlib.sha256(ask.encode())
    for path in sorted(path for path in SOUND.rglob("*") if path.is_file()):
        if path.name != TRIED.name:
            made.update(path.read_bytes())
    if known.get("of") == made.hexdigest():
        return known["told"]
    PLANTED.unlink(missing_ok=True)
    copy(SOUND, TREE)
    command = [CARGO, "run", "--quiet", "--package", "highwater-mutants"]
    done = subprocess.run(
        command, cwd=ROOT, input=ask, stdout=subprocess.PIPE, check=True, text=True
    )
    told = json.loads(done.stdout)
    PLANTED.write_text(json.dumps({"of": made.hexdigest(), "told": told}))
    return told


def run(stage, programs, number=0):
    """Runs it with that fault on: `passed`, `failed` or `late`."""

    def bounds():
        # A fault may ask for memory or time without an end.
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (stage.processors, stage.processors + 5))

    environment = {
        **os.environ,
        "HIGHWATER_PLANTED": str(number),
        # What one fault fails with is no case for the next, and need not be made small.
        "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "true",
        "PROPTEST_MAX_SHRINK_ITERS": "0",
    }
    begin = {"cwd": TREE, "start_new_session": True, "preexec_fn": bounds}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        environment["TMPDIR"] = folder
        command = [programs[stage.program], *stage.asks]
        child = subprocess.Popen(command, env=environment, **begin, **pipes)
        late = threading.Timer(stage.clock, end, [child])
        late.start()
        try:
            # The first test that fails is enough.
            failed = any(line.endswith(b" ... FAILED\n") for line in child.stdout)
            code = 1 if failed else child.wait()
        finally:
            # Also where this run is stopped: what was begun may go on for ever.
            late.cancel()
            end(child)
    killed = code in (-signal.SIGXCPU, -signal.SIGKILL)
    return "passed" if code == 0 else "late" if killed else "failed"


def end(child):
    """Ends what was begun, if it has not ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def measured(programs):
    """The stages, bounded by what they take without a fault; none where one fails."""
    asked = []
    for stage in STAGES:
        clock, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        if run(stage, programs) != "passed":
            print(f"without any fault {stage.name} fails: mend that first")
            return None
        clock, now = time.monotonic() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        print(f"without a fault {stage.name} takes {clock:.1f} s, {used:.1f} of processors")
        bounded = {"processors": int(10 + 5 * used), "clock": int(60 + 20 * clock)}
        asked.append(dataclasses.replace(stage, **bounded))
    return asked


def verdict(one, asked, programs, number=0):
    """Who notices what is planted, of those whose programs are there; or `missed`."""
    names = ASKED.get(one["file"].split("/")[1], ALL)
    for stage in asked:
        if stage.name in names and stage.program in programs:
            found = run(stage, programs, number)
            if found != "passed":
                return stage.name if found == "failed" else f"{stage.name}, by its time"
    return "missed"


class Kept:
    """What became of each fault that was tried: a line each, in the order in which they were."""

    def __init__(self):
        lines = TRIED.read_text().splitlines() if TRIED.exists() else []
        self.by_key = {one["key"]: one for one in map(json.loads, lines)}

    def keep(self, one, seed, found, alone, took):
        """Keeps a verdict, of this run and for the next."""
        line = {"key": one["key"], "verdict": found, "seed": seed}
        if one["key"] in self.by_key:
            line["seed"] = self.by_key[one["key"]]["seed"]
        if alone:
            line["alone"] = True
        self.by_key[one["key"]] = line
        text = "".join(json.dumps(line) + "\n" for line in self.by_key.values())
        beside = TRIED.with_suffix(".new")
        beside.write_text(text)
        beside.replace(TRIED)
        print(f"{found}: {one['key']} ({took:.1f} s{', alone' if alone else ''})", flush=True)

    def sample(self, seed, most, again):
        """The faults that a seed tries, of those that no other has tried; or the missed ones. Those
        that it has tried are among them, so that a run goes on where it was stopped."""
        faults = plantable()
        if again:
            missed = {key for key, one in self.by_key.items() if one["verdict"] == "missed"}
            return [one for one in faults if one["key"] in missed]
        random.Random(seed).shuffle(faults)
        whose = {key: one["seed"] for key, one in self.by_key.items()}
        print(f"{len(faults)} faults can be planted, {len(whose)} were tried; seed {seed}")
        return [one for one in faults if whose.get(one["key"], seed) == seed][:most]


def try_all(chosen, seed, kept, again):
    """Tries a sample: those behind switches first, then one by one what cannot be switched."""
    for number, one in enumerate(chosen, 1):
        one["number"] = number
    to_try = {one["number"] for one in chosen if again or one["key"] not in kept.by_key}
    if not to_try:
        return 0
    by_number = {one["number"]: one for one in chosen}
    begun = time.monotonic()
    told = plant("switch", chosen)
    print(f"{len(told['built'])} are behind switches, after {time.monotonic() - begun:.0f} s")
    asked = measured(told["programs"])
    if asked is None:
        return 2
    for number in (number for number in told["built"] if number in to_try):
        begun = time.monotonic()
        found = verdict(by_number[number], asked, told["programs"], number)
        kept.keep(by_number[number], seed, found, False, time.monotonic() - begun)
    left = [one["number"] for one in told["left"] if one["number"] in to_try]
    left = [by_number[number] for number in left]
    looked = plant("check", left)["left"] if left else []
    refused = {one["number"] for one in looked if one["own"]}
    for one in left:
        begun, alone = time.monotonic(), one["number"] not in refused
        found = tried_alone(one, asked) if alone else "unviable"
        kept.keep(one, seed, found, alone, time.monotonic() - begun)
    return 0


def tried_alone(one, asked):
    """The verdict on a fault that has no switch: built for those who are asked, and no further than
    until one notices."""
    for part in ["world", "tests"]:
        told = plant("plain", [one], [part])
        if not told["built"]:
            return "unviable"
        found = verdict(one, asked, told["programs"])
        if found != "missed":
            return found
    return "missed"


def summary(kept):
    """Counts what was tried, and names what nobody noticed and no document explains."""
    tried = list(kept.by_key.values())
    done = [one for one in tried if one["verdict"] != "unviable"]
    missed = [one["key"] for one in done if one["verdict"] == "missed"]
    caught = len(done) - len(missed)
    # In a table a bar is written with a stroke before it.
    explained = EXPLAINED.read_text().replace("\\|", "|") if EXPLAINED.exists() else ""
    open_ones = [one for one in missed if f"`{one}`" not in explained]
    rows = re.findall(r"^\| `(.*?)` \|", explained, re.MULTILINE)
    void = [row for row in rows if row not in missed]
    part = 100 * caught / max(1, len(done))
    alone = sum("alone" in one for one in done)
    print(f"{len(tried)} faults were tried: {len(tried) - len(done)} are no Rust; of {len(done)}")
    print(f"({alone} built alone) {caught} were caught, {part:.1f} %, and {len(missed)} missed")
    whom = collections.Counter(one["verdict"] for one in done)
    print("; ".join(f"{name}: {count}" for name, count in whom.most_common()))
    for one in open_ones:
        print(f"not explained in {EXPLAINED.relative_to(ROOT)}: {one}")
    for row in void:
        print(f"explained in {EXPLAINED.relative_to(ROOT)}, and was not missed: {row}")
    return 0 if part >= 90 and not open_ones and not void else 1


def main():
    """Tries a sample, and tells what became of all that was tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--again", action="store_true", help="try anew what was missed")
    parser.add_argument("--summary", action="store_true", help="only tell what was tried")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    kept = Kept()
    if not args.summary:
        chosen = kept.sample(args.seed, args.sample, args.again)
        if failed := try_all(chosen, args.seed, kept, args.again):
            return failed
    return summary(kept)


if __name__ == "__main__":
    sys.exit(main())
