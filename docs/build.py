"""Builds the documentation as static HTML: the README, the pages of this folder, and the reference out of docstrings.

python docs/build.py [FOLDER]; build/site by default.
"""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from pathlib import Path

import pdoc
from jinja2 import Template
from pdoc.render_helpers import to_html
from pygments.formatters import HtmlFormatter

import compvae_fast

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("ops", "distributions", "distributed", "streaming", "pyro", "numpy", "random", "backends", "patch",
           "registry", "plugins", "bench", "nn", "models", "data", "training", "generation", "report", "explore",
           "reference")
# page -> file that it is made of
PAGES = {"index": ROOT / "README.md", **{path.stem: path for path in sorted((ROOT / "docs").glob("*.md"))}}

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 0 auto; padding: 0 1rem 4rem; }
nav { border-bottom: 1px solid #ddd; padding: .8rem 0; margin-bottom: 1.5rem; line-height: 2; }
nav a { margin-right: 1rem; white-space: nowrap; }
a { color: #1a5fb4; }
pre { background: #f6f6f4; padding: .7rem .9rem; overflow-x: auto; font-size: .85rem; }
code { font-size: .9em; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { border: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
img { max-width: 100%; }
{{ highlighting }}
</style>
</head>
<body>
<nav>{% for name, shown in pages %}<a href="{{ name }}.html">{{ shown }}</a>{% endfor %}
<a href="api/index.html">reference</a></nav>
{{ body }}
<p><small>compvae_fast {{ version }}</small></p>
</body>
</html>
""")


def build(folder: Path) -> None:
    """Writes the site into a folder, in place of what is there."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    pages = [(name, "compvae_fast" if name == "index" else name.replace("-", " ")) for name in PAGES]
    for name, source in PAGES.items():
        body = re.sub(r'(href|src)="([^"#:]+)', lambda link, page=source: f'{link[1]}="{_moved(link[2], page, folder)}',
                      str(to_html(source.read_text(encoding="utf-8"))))
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        html = PAGE.render(title=dict(pages)[name], body=body, pages=pages, version=compvae_fast.__version__,
                           highlighting=HtmlFormatter().get_style_defs(".pdoc-code"))
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    pdoc.render.configure(docformat="google", footer_text=f"compvae_fast {compvae_fast.__version__}")
    # A package that has a file for each of its functions documents them itself.
    files = r"!compvae_fast\.(ops|numpy|reference)\..*"
    pdoc.pdoc(*(f"compvae_fast.{module}" for module in MODULES), files, output_directory=folder / "api")


def _moved(target: str, source: Path, folder: Path) -> str:
    """Where a link of a page leads within the site; a file that is no page is taken along."""
    path = (source.parent / target).resolve()
    for name, page in PAGES.items():
        if path == page:
            return f"{name}.html"
    if not path.is_file():
        raise FileNotFoundError(f"{source.name} links to {target}, which is not there")
    copy = folder / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    return copy.relative_to(folder).as_posix()


if __name__ == "__main__":
    warnings.filterwarnings("error", message=".*does not resolve.*", category=UserWarning)
    # Annotations that exist for type checkers alone are shown as they are written.
    warnings.filterwarnings("ignore", message="Error parsing type annotation.*", category=UserWarning)
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site")
