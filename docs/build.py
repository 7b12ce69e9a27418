"""Render the documentation to static pages that need no network, and refuse links that lead nowhere.

Type ``python docs/build.py [FOLDER]``; without a folder the pages go to ``build/docs``. The parser comes with rich.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from html import escape
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).resolve().parents[1]
READING_ORDER = (
    "index", "process", "geometry", "denoiser", "student", "samplers", "objective", "objectives/index", "oracles",
    "swapping", "ring", "speed", "mutations", "plan", "keys", "engine", "runs", "serving", "config", "plugins",
    "conformance", "cookbook", "adr/index",
)  # fmt: skip
OUTSIDE = ("http://", "https://", "mailto:")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} - fewstep</title>
<style>
  :root { color-scheme: light dark; }
  body { max-width: 50rem; margin: 0 auto; padding: 1rem; font: 1rem/1.55 system-ui, sans-serif; }
  nav { font-size: .9rem; padding-bottom: .5rem; border-bottom: 1px solid #8886; }
  nav a { margin-right: .8rem; white-space: nowrap; }
  nav a[aria-current] { font-weight: 600; text-decoration: none; color: inherit; }
  pre { overflow-x: auto; padding: .8rem; background: #8881; border-radius: .3rem; }
  code { font-size: .9em; }
  table { display: block; overflow-x: auto; border-collapse: collapse; }
  th, td { padding: .3rem .6rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }
  blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid #8886; }
</style>
<nav aria-label="Pages">{% for name, href, here in pages %}
  <a href="{{ href }}"{% if here %} aria-current="page"{% endif %}>{{ name }}</a>{% endfor %}
</nav>
<main>
{{ body }}
</main>
</html>
"""


def slug(title: str) -> str:
    """The anchor of a heading: lower case, hyphens, nothing else."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def parse(page: Path) -> list[Token]:
    """The page's tokens, every heading with its anchor."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page.read_text(encoding="utf-8"))
    for token, inner in itertools.pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(inner.content))
    return tokens


def links(tokens: list[Token]) -> list[Token]:
    """All links and pictures of a page."""
    inline = [child for token in tokens for child in token.children or ()]
    return [token for token in inline if token.type in ("link_open", "image")]


def anchors(tokens: list[Token]) -> set[str]:
    """Everything on a page that a link may point at."""
    headings = {str(token.attrGet("id")) for token in tokens if token.type == "heading_open"}
    written = {name for token in tokens for name in re.findall(r'<a id="([^"]+)"', token.content)}
    return headings | written


def address(token: Token) -> str:
    """Where a link or a picture leads."""
    return str(token.attrGet("href" if token.type == "link_open" else "src") or "")


def broken(pages: dict[Path, list[Token]]) -> list[str]:
    """Links that lead nowhere, one line each."""
    found = []
    for page, tokens in pages.items():
        for link in links(tokens):
            target, _, anchor = address(link).partition("#")
            if target.startswith(OUTSIDE):
                continue
            place = (page.parent / target).resolve() if target else page
            if not place.exists():
                found.append(f"{page.relative_to(TOP)}: {address(link)} does not exist")
            elif anchor and anchor not in anchors(pages.get(place) or parse(place)):
                found.append(f"{page.relative_to(TOP)}: {address(link)} has no such heading")
    return found


def turned(page: Path, tokens: list[Token], pages: dict[Path, list[Token]]) -> None:
    """Point links at rendered pages; a file outside of the documentation is named and not linked."""
    for link in links(tokens):
        target, hash_, anchor = address(link).partition("#")
        if link.type == "link_open" and target and not target.startswith(OUTSIDE):
            inside = (page.parent / target).resolve() in pages
            link.attrSet("href", target.removesuffix(".md") + ".html" + hash_ + anchor if inside else "#")


def navigation(page: Path, folder: Path) -> list[tuple[str, str, bool]]:
    """(name, address, whether it is this page) of the pages in reading order."""
    up = "../" * len(page.relative_to(folder).parents[:-1])
    here = page.relative_to(folder).with_suffix("").as_posix()
    names = {"index": "fewstep", "adr/index": "decisions", "objectives/index": "objectives"}
    return [(names.get(name, name), f"{up}{name}.html", name == here) for name in READING_ORDER]


def build(folder: Path, out: Path) -> list[Path]:
    """Render every page below ``folder`` into ``out``.

    Raises:
        SystemExit: a link leads nowhere.
    """
    pages = {page: parse(page) for page in sorted(folder.rglob("*.md"))}
    problems = broken({**pages, **{page: parse(page) for page in sorted(TOP.glob("*.md"))}})
    if problems:
        raise SystemExit("\n".join(problems))
    shutil.rmtree(out, ignore_errors=True)
    made = [_render(page, tokens, pages, folder, out) for page, tokens in pages.items()]
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", out / "images")
    return made


def _render(page: Path, tokens: list[Token], pages: dict[Path, list[Token]], folder: Path, out: Path) -> Path:
    turned(page, tokens, pages)
    title = next(inner.content for token, inner in itertools.pairwise(tokens) if token.tag == "h1")
    markdown = MarkdownIt("commonmark", {"html": True})
    body = markdown.renderer.render(tokens, markdown.options, {})
    target = out / page.relative_to(folder).with_suffix(".html")
    target.parent.mkdir(parents=True, exist_ok=True)
    template = jinja2.Template(PAGE)
    target.write_text(
        template.render(title=escape(title), pages=navigation(page, folder), body=body), encoding="utf-8"
    )
    return target


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else TOP / "build" / "docs"
    made = build(TOP / "docs", place)
    print(f"{len(made)} pages; begin with {place / 'index.html'}")
