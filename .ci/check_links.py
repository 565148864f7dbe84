"""Check that every link inside a built HTML site leads somewhere: python .ci/check_links.py HTML.

Looks at the files on disk only. Links to other hosts are left alone.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors that a page has and the links that it makes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names and where it leads."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif name in ("href", "src") and value:
                self.links.add(value)


def find_broken_links(root: Path) -> list[str]:
    """Return one line for each link of the site under ``root`` that leads nowhere."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in root.rglob("*.html")}
    broken = []
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file():
                broken.append(f"{path.relative_to(root.resolve())}: no file for {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                broken.append(f"{path.relative_to(root.resolve())}: no anchor for {link}")
    if not pages:
        broken.append(f"{root}: no pages")
    return broken


if __name__ == "__main__":
    found = find_broken_links(Path(sys.argv[1]))
    print("\n".join(found) or "all links inside the site lead somewhere")
    sys.exit(bool(found))
