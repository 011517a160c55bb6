"""Lay out a self-contained HTML page, which loads no other files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

LIGHT = """--ink: #1b1f24; --soft: #5c6470; --line: #d5d9e0; --paper: #fff; --panel: #f6f7f9;
  --original: #f0a63c; --port: #1d4f91; --good: #1a7f37; --bad: #c4232b; --open: #8a6d00;
  --c0: #1261cc; --c1: #b07a00; --c2: #2f9a6a; --c3: #8f6fc0; --c4: #8a1c1c; --c5: #35174d;"""
DARK = """--ink: #e6e9ee; --soft: #9aa3b0; --line: #3a414c; --paper: #15181d; --panel: #1d2229;
  --original: #b8741a; --port: #8ec1ff; --good: #4cc26b; --bad: #ff7b80; --open: #d9b84a;
  --c0: #82bfff; --c1: #d0691c; --c2: #5a9c86; --c3: #a765ff; --c4: #ffd21a; --c5: #eaf7cf;"""
# --c0 to --c5 stay apart with any kind of colour blindness: at least 19 in CIE 1976 Lab.

STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1080px; padding: 24px; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 24px; margin: 0 0 4px; }} h2 {{ font-size: 18px; margin: 40px 0 8px;
  overflow-wrap: anywhere; }} h3 {{ font-size: 15px; margin: 24px 0 6px; overflow-wrap: anywhere; }}
p {{ margin: 8px 0; }} .soft {{ color: var(--soft); }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0 16px; }}
dt {{ color: var(--soft); }} dd {{ margin: 0; overflow-wrap: anywhere; }}
a {{ color: var(--port); }}
.scroll {{ overflow-x: auto; }} .left {{ padding-left: 16px; }}
table {{ border-collapse: collapse; font-size: 13px; width: 100%; }}
th, td {{ padding: 3px 10px 3px 0; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }}
th {{ color: var(--soft); font-weight: 500; }}
th:first-child, td:first-child, .left {{ text-align: left; }}
.curves {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr));
  gap: 16px; margin: 16px 0; }}
.chart {{ width: 100%; background: var(--panel); border-radius: 6px; break-inside: avoid; }}
.chart text {{ fill: var(--soft); font-size: 11px; }} .chart .title {{ fill: var(--ink);
  font-size: 13px; font-weight: 600; }}
.frame {{ fill: none; stroke: var(--line); }}
details {{ margin: 6px 0; }} summary {{ cursor: pointer; }}
@media (max-width: 520px) {{ body {{ padding: 14px; }} }}
"""


def document(title: str, style: str, body: Iterable[str], head: Sequence[str] = ()) -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
    style : str
        Rules of this page, after the common ones.
    body : iterable of str
        HTML.
    head : sequence of str
        Further elements of the head.

    Returns
    -------
    str
        An HTML document.
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            *head,
            f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def scrolling(name: str, table: str) -> str:
    """Put a wide table into a region that scrolls, by the keyboard, too."""
    region = f'role="region" tabindex="0" aria-label="{escape(name)}"'
    return f'<div class="scroll" {region}>{table}</div>'


def table(heads: Mapping[str, str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Make a table; the first cell of each row is its header.

    Parameters
    ----------
    heads : mapping of str to str
        Explanations of the columns, which may be empty, by title.
    rows : iterable of sequences of str
        HTML of the cells.
    left : sequence of str
        Columns of text rather than numbers.

    Returns
    -------
    str
        A ``<table>`` element.
    """
    kinds = [' class="left"' if head in left else "" for head in heads]
    titles = [f' title="{escape(why)}"' if why else "" for why in heads.values()]
    cells = [
        f'<th scope="col"{kind}{title}>{escape(head)}</th>'
        for head, kind, title in zip(heads, kinds, titles)
    ]
    parts = [f"<table><thead><tr>{''.join(cells)}</tr></thead><tbody>"]
    for first, *others in rows:
        tds = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], others))
        parts.append(f'<tr><th scope="row">{first}</th>{tds}</tr>')
    return "\n".join([*parts, "</tbody></table>"])
