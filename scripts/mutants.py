"""Plants small faults in the pure rooms, one at a time, and looks whether something notices.

Promise: a fault counts as caught only where the same tests pass without it, and what was tried is
kept, so that a run that was stopped goes on where it was and each run tries others. `cargo mutants`
says what can be planted; the sample follows from the seed alone. The world is asked first, because
it is the quickest to build, then the library's tests; what neither notices is shown to the tests of
frames and fold in tests/pure and counted apart.

usage: mutants.py [--seed 1] [--sample 60] [--summary]
"""

import argparse
import json
import os
import random
import resource
import shutil
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
PARTS = ["src", "tests", "bench", ".cargo", "Cargo.toml", "Cargo.lock", "build.rs", "docs"]
CARGO = os.environ.get("CARGO", "cargo")
WORLD = [["build", "--package", "highwater-world", "--bin", "world"]]
# Each: its name, what is built, what is run, and how long that may take in seconds.
STAGES = [
    ("world", WORLD, ["target/debug/world", "--seeds", "500", "--brief"], 120),
    ("library", [["test", "--lib", "--no-run"]], [CARGO, "test", "--lib", "--quiet"], 300),
    ("pure", [["test", "--test", "pure", "--no-run"]], [CARGO, "test", "--test", "pure", "-q"], 300),
]
CAUGHT = ("world", "library")


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
    """A copy beside, whose files keep their times, so that little is built anew."""
    TREE.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            skipped = shutil.ignore_patterns("node_modules", "target")
            shutil.rmtree(TREE / part, ignore_errors=True)
            shutil.copytree(source, TREE / part, ignore=skipped)
        elif source.exists():
            shutil.copy2(source, TREE / part)


def run(command, limit):
    """Whether it passed; none where it took too long."""

    def bounds():
        # A fault may ask for memory without an end.
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "RUSTFLAGS": "-A warnings"}
    child = subprocess.Popen(
        command, cwd=TREE, env=env, start_new_session=True, preexec_fn=bounds, **quiet
    )
    try:
        return child.wait(limit) == 0
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return None


def verdict():
    """Who notices what is planted now: a stage, `unviable` where it is not built, or `missed`."""
    for name, builds, command, limit in STAGES:
        if not all(run([CARGO, *build], 1800) for build in builds):
            # The world has not all rooms: what it builds without may still be no Rust.
            return "unviable"
        passed = run(command, limit)
        if not passed:
            return name if passed is False else f"{name}, by its time"
    return "missed"


def tried():
    """What earlier runs found, by key."""
    lines = TRIED.read_text().splitlines() if TRIED.exists() else []
    return {one["key"]: one for one in map(json.loads, lines)}


def sample(seed, most):
    """The faults that this seed tries: a share of those that no run has tried."""
    done, all_of_them = tried(), plantable()
    left = [one for one in all_of_them if key(one) not in done]
    random.Random(seed).shuffle(left)
    print(f"{len(all_of_them)} faults can be planted, {len(done)} were tried; seed {seed}")
    return left[:most]


def summary():
    """Counts what was tried, and names what nobody noticed and no document explains."""
    done = [one for one in tried().values() if one["verdict"] != "unviable"]
    by = lambda names: [one for one in done if one["verdict"].split(",")[0] in names]
    caught, pure, missed = by(CAUGHT), by(["pure"]), by(["missed"])
    explained = EXPLAINED.read_text() if EXPLAINED.exists() else ""
    open_ones = [one["key"] for one in pure + missed if f"`{one['key']}`" not in explained]
    part = 100 * len(caught) / max(1, len(done))
    print(f"{len(done)} faults were tried: the world and the library's tests caught {len(caught)}, "
          f"{part:.1f} %; tests/pure caught {len(pure)} more; {len(missed)} nobody noticed")
    for one in open_ones:
        print(f"not explained in {EXPLAINED.relative_to(ROOT)}: {one}")
    return 0 if part >= 90 and not open_ones else 1


def main():
    """Tries a sample, and tells what became of all that was tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--summary", action="store_true", help="only tell what was tried")
    args = parser.parse_args()
    if args.summary:
        return summary()
    chosen = sample(args.seed, args.sample)
    copy_tree()
    if verdict() != "missed":
        print("without any fault something fails: mend that first")
        return 2
    for number, one in enumerate(chosen, 1):
        place, begun = TREE / one["file"], time.monotonic()
        sound = place.read_text()
        place.write_text(planted(sound, one))
        try:
            found = verdict()
        finally:
            place.write_text(sound)
        line = {"key": key(one), "verdict": found, "seed": args.seed}
        with TRIED.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{number}/{len(chosen)} {found}: {key(one)} ({time.monotonic() - begun:.0f} s)", flush=True)
    return summary()


if __name__ == "__main__":
    sys.exit(main())
