"""Figures as a table of medians and spreads, and as JSON."""

import json
import os
import platform
import statistics

# (step as it begins, what it should reach)
GOALS = {
    "leader kill: no write for, s": "≤ 0.1, worst ≤ 0.4",
    "leader kill: no read for, s": "as soon as writes",
    "leader cut: no write for, s": "≤ 1.5",
    "leader stop: no write for, s": "≤ 0.05",
    "host lost: its replicas run elsewhere, s": "≤ 3",
    "create 10: times the engines' own": "≤ 1.1",
    "create 30: times the engines' own": "≤ 1.1",
    "create 60: times the engines' own": "≤ 1.1",
    "leader kill: containers touched on other hosts": "0",
    "daemon with 300 services: resident, MiB": "≤ 40",
    "daemon with 300 services: idle, % of a core": "≤ 1",
}


def figure(values):
    """Median (least–most, n) in few digits."""
    if not values:
        return "–"

    def short(value):
        return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"

    middle = short(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({short(min(values))}–{short(max(values))}, n={len(values)})"


def markdown(results, versions, notes):
    """The whole of RESULTS.md."""
    titles = list(results)
    steps = list(dict.fromkeys(step for title in titles for step in results[title]))
    lines = [
        "# Beside Docker Swarm",
        "",
        "Written by `benches/beside-swarm`: the same steps against both systems, one after",
        "the other in one run on one machine; median (least–most, n). Three managers that are",
        "workers too, each host a network namespace with an engine of its own. Absolute times",
        "move with the machine: compare within a row. Skep is asked by its command line, so",
        "the start of a process is in its figures; Swarm over its HTTP API.",
        "",
        f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, {os.cpu_count()} cores. "
        + "; ".join(f"{title}: {versions[title]}" for title in titles)
        + ".",
        "",
        "| step | " + " | ".join(titles) + " | to reach |",
        "| --- |" + " --- |" * (len(titles) + 1),
    ]
    for step in steps:
        cells = [figure(results[title].get(step, [])) for title in titles]
        lines.append(f"| {step} | " + " | ".join(cells) + f" | {GOALS.get(step, '')} |")
    lines += [""] + [f"- {note}" for note in notes] + ([""] if notes else [])
    rounded = {
        title: {step: [round(v, 4) for v in values] for step, values in found.items()}
        for title, found in results.items()
    }
    lines += ["## Every figure", "", "```json", json.dumps(rounded, indent=1), "```", ""]
    return "\n".join(lines)
