"""Resolve short names in docstrings as the code's readers do: the one public object so named."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Link to the only documented object whose name ends so."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    target = str(node["reftarget"])
    found = {
        (entry.docname, entry.node_id)
        for name, entry in objects.items()
        if not entry.aliased and name.endswith(f".{target}")
    }
    if len(found) != 1:
        return None
    docname, node_id = found.pop()
    return make_refnode(app.builder, node["refdoc"], docname, node_id, content, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the resolver."""
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True}
