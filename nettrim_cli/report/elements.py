"""Elements of HTML and SVG; whatever they hold is escaped when they are written."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from nettrim_cli.report.formatting import clean

Child = Element | str | None


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """An element with what is in it; ``class_`` and ``stroke_width`` stand for odd names."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    parent = Element(tag, {name: _text(v) for name, v in names.items() if v is not None})
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif child and len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        elif child:
            parent.text = (parent.text or "") + clean(child)
    return parent


def markup(parent: Element) -> str:
    """An element as HTML."""
    return tostring(parent, encoding="unicode", method="html")


def _text(value: str | float) -> str:
    """An attribute: numbers with two decimals at most."""
    if isinstance(value, str):
        return clean(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
