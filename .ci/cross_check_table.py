#!/usr/bin/env python3
"""The tables of docs/cross-check.md, from `firedrill run .. --cross-check K --format json` files named on the command line.

A scenario that stands in several of them is taken from the last.
"""
import json
import sys

checked = {}
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        for scenario in json.load(file)["scenarios"]:
            if scenario["cross_check"]:
                checked[scenario["name"]] = scenario


def span(value):
    return "none" if value is None else f"{value:,.0f} ms"


systems = sorted({scenario["system"] for scenario in checked.values()})
for system in systems:
    print(f"\n## {system}\n")
    print("| scenario | verdicts equal | median recovery, kernel | turmoil | |")
    print("|---|---|---|---|---|")
    for name in sorted(name for name, scenario in checked.items() if scenario["system"] == system):
        check = checked[name]["cross_check"]
        verdict = "" if check["equal"] else "differ"
        print(
            f"| `{name}` | {check['agree']} of {check['runs']} "
            f"| {span(check['p50_here'])} | {span(check['p50_there'])} | {verdict} |"
        )
