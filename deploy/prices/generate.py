#!/usr/bin/env python3
"""Writes the shipped price table from the pinned release of genai-prices.

genai-prices (MIT, PyPI) lists what model providers charge: dated, with tiers by
the length of the prompt. This reads the data file of its wheel as a syntax tree,
runs nothing of it, and writes the CSV that pkg/pricelist documents.

    generate.py WHEEL OUT          write the table
    generate.py --check WHEEL OUT  fail if OUT is not what WHEEL gives
"""

import ast
import hashlib
import pathlib
import re
import sys
import zipfile
from decimal import Decimal

# Whose models are listed as "provider/model". Of those marked True the bare
# model's name is listed as well; where two list the same name, the first does.
PROVIDERS = {
    "openai": True,
    "anthropic": True,
    "google": True,
    "mistral": True,
    "cohere": True,
    "deepseek": True,
    "x-ai": True,
    "meta": True,
    "perplexity": True,
    "moonshotai": True,
    "minimax": True,
    "zai": True,
    "voyageai": True,
    "aws": True,
    "azure": False,
    "groq": False,
    "together": False,
    "fireworks": False,
    "cerebras": False,
}

# Short names in use that the package does not list in full.
ALIASES = {
    "nova-micro": "amazon.nova-micro-v1:0",
    "nova-lite": "amazon.nova-lite-v1:0",
    "nova-pro": "amazon.nova-pro-v1:0",
    "mistral-small": "mistral-small-latest",
}

# Our column of each price that a call can be charged by here.
COLUMNS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "per_call",
}
ORDER = ["input", "output", "cached_input", "cache_write", "reasoning", "per_call"]

# Models that put nothing out may lack a price for it.
NO_OUTPUT = re.compile(r"embed|voyage|rerank")


def value(node):
    """A literal, or (class, keywords) of a constructor call."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        args = [value(a) for a in node.args]
        if name == "Decimal":
            return Decimal(args[0])
        if name == "date":
            return "%04d-%02d-%02d" % tuple(args)
        return name, {k.arg: value(k.value) for k in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value(e) for e in node.elts]
    if isinstance(node, ast.Dict):
        return {value(k): value(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    return ast.literal_eval(node)


def providers(source):
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and statement.target.id == "providers":
            return [p for _, p in value(statement.value)]
    sys.exit("generate.py: the package has no list of providers where it used to be")


def names(model):
    """The model's id and every name it is matched by in full."""
    found = [model["id"]]

    def walk(clause):
        kind, fields = clause
        if kind == "ClauseEquals":
            found.append(fields["equals"])
        for inner in fields.get("or_", []):
            walk(inner)

    walk(model["match"])
    return list(dict.fromkeys(n.lower() for n in found))


def tiers(prices):
    """{tokens above which it holds: {column: price}} of one ModelPrice."""
    fields = {COLUMNS[k]: v for k, v in prices.items() if k in COLUMNS}
    starts = {0}
    for v in fields.values():
        if isinstance(v, tuple):
            starts |= {t["start"] for _, t in v[1]["tiers"]}
    out = {}
    for start in sorted(starts):
        row = {}
        for column, v in fields.items():
            if isinstance(v, tuple):
                price = v[1]["base"]
                for _, tier in sorted(v[1]["tiers"], key=lambda t: t[1]["start"]):
                    if tier["start"] <= start:
                        price = tier["price"]
                v = price
            if column == "per_call":
                v /= 1000
            if v:
                row[column] = v
        out[start] = row
    return out


def dated(prices):
    """[(date or "", tiers)] of a model. What holds at some hours only is taken
    for the whole day where it is dearer: nobody says at which hour a call will
    be served."""
    if isinstance(prices, tuple):
        return [("", tiers(prices[1]))]
    points, hourly = {}, []
    for _, c in prices:
        kind, limits = c.get("constraint") or (None, {})
        listed = tiers(c["prices"][1])
        if kind == "TimeOfDateConstraint":
            hourly.append(listed)
        else:
            points[limits.get("start_date", "")] = listed
    if not points:
        points[""] = hourly[0]
    for listed in points.values():
        for other in hourly:
            for start, row in listed.items():
                nearest = other[max(s for s in other if s <= start)]
                for column, price in nearest.items():
                    row[column] = max(price, row.get(column, price))
    return sorted(points.items())


def usable(model, listed):
    base = listed[0]
    return base.get("input") and (base.get("output") or NO_OUTPUT.search(model))


# As the budget service looks a model up: without provider, then without date.
DATED = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{8}|-\d{3,4}|-latest|@\d{8}|:latest)$")


def shorter(name):
    """The names that stand in for name when it is not listed, in order."""
    bare = name.rsplit("/", 1)[-1]
    return [n for n in dict.fromkeys([bare, DATED.sub("", bare)]) if n and n != name]


def concise(table):
    """table without the names that would be found under another at the same price."""
    by_name = {}
    for name, *rest in table:
        by_name.setdefault(name, []).append(rest)
    keep = set()
    for name in by_name:
        stand_in = next((n for n in shorter(name) if n in by_name), None)
        if stand_in is None or by_name[stand_in] != by_name[name]:
            keep.add(name)
    # What was dropped must still be found: its stand-in may be dropped only for
    # the one that stands in for both.
    for name in by_name:
        found = next((n for n in [name, *shorter(name)] if n in keep), None)
        if found is None or by_name[found] != by_name[name]:
            keep.add(name)
    return [r for r in table if r[0] in keep]


def rows(wheel):
    with zipfile.ZipFile(wheel) as z:
        by_id = {p["id"]: p for p in providers(z.read("genai_prices/data.py").decode())}
    table, taken = [], set()
    for provider, native in PROVIDERS.items():
        for _, model in by_id[provider]["models"]:
            for name in names(model):
                if not re.fullmatch(r"[!-~]+", name) or "," in name or "*" in name:
                    continue
                known = [f"{provider}/{name}"] + ([name] if native else [])
                for listed_as in known:
                    if listed_as in taken:
                        continue
                    points = [(d, t) for d, t in dated(model["prices"]) if usable(name, t)]
                    if not points:
                        continue
                    taken.add(listed_as)
                    for date, listed in points:
                        for above, row in listed.items():
                            cells = [format(row[c].normalize(), "f") if c in row else "" for c in ORDER]
                            table.append([listed_as, date, str(above or ""), *cells])
    for alias, name in ALIASES.items():
        if name not in taken:
            sys.exit(f"generate.py: {name}, which {alias} stands for, is not listed any more")
        if alias not in taken:
            table += [[alias, *r[1:]] for r in table if r[0] == name]
    table.sort(key=lambda r: (r[0], r[1], int(r[2] or 0)))
    table = concise(table)
    return [",".join(["model", "effective_from", "above_input_tokens", *ORDER])] + [",".join(r) for r in table]


def render(wheel):
    version = pathlib.Path(wheel).name.split("-")[1]
    digest = hashlib.sha256(pathlib.Path(wheel).read_bytes()).hexdigest()
    body = "\n".join(rows(wheel)) + "\n"
    with zipfile.ZipFile(wheel) as z:
        notice = next(n for n in z.namelist() if n.endswith("licenses/LICENSE"))
        licence = z.read(notice).decode().strip().splitlines()
        # A wheel has no date of its own; its remarks say when prices were last compared with the providers'.
        newest = max(re.findall(r"(?:verified on|as of) (20\d\d-\d\d-\d\d)", z.read("genai_prices/data.py").decode()))
    head = [
        "Code generated by make prices; DO NOT EDIT.",
        f"version: shipped-genai-prices-{version}",
        f"source: genai-prices {version} of PyPI, https://github.com/pydantic/genai-prices, sha256 {digest}",
        f"newest verification: {newest}",
        "rows sha256: " + hashlib.sha256(body.encode()).hexdigest(),
        "USD per million tokens; per_call in USD. A row with above_input_tokens holds for the whole call when its input is longer.",
        "",
        *licence,
    ]
    return "".join(("# " + line).rstrip() + "\n" for line in head) + body


def main(args):
    check = args[:1] == ["--check"]
    wheel, out = args[1:] if check else args
    text = render(wheel)
    if not check:
        pathlib.Path(out).write_text(text)
    elif pathlib.Path(out).read_text() != text:
        sys.exit(f"{out} is stale; run: make prices")


if __name__ == "__main__":
    main(sys.argv[1:])
