"""Check that every link inside the built documentation leads somewhere: page, file and anchor.

python .ci/check_links.py FOLDER_OF_HTML
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Note what a tag links to and is called."""
        for name, value in attributes:
            if name in {"href", "src"} and value:
                self.links.append(value)
            if name in {"id", "name"} and value:
                self.anchors.add(value)


def main(folder):
    """Print broken links; return the exit code."""
    # The theme keeps templates among its static files.
    found = [path for path in Path(folder).rglob("*.html") if "_static" not in path.parts]
    pages = {path.resolve(): Page(path) for path in found}
    broken, checked = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            checked += 1
            anchor = unquote(parts.fragment)
            known = pages[target].anchors if target in pages else None
            if not target.exists() or (anchor and known is not None and anchor not in known):
                broken.append(f"{path.relative_to(Path(folder).resolve())}: {link}")
    print(f"{checked} links in {len(pages)} pages, {len(broken)} broken")
    print("\n".join(sorted(set(broken))))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
