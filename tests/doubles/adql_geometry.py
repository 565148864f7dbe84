"""ADQL's geometry as plain arithmetic.

A point is (ra, dec), a circle (ra, dec, radius), a box (ra, dec, width, height), all in degrees.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

__all__ = ["FUNCTIONS", "PREFIX", "AdqlError", "rewrite_geometry"]

FUNCTIONS = ("POINT", "CIRCLE", "BOX", "CONTAINS", "INTERSECTS", "DISTANCE", "COORD1", "COORD2")
PREFIX = "adql_"
"""Put before the functions' names, so that the parser takes none for a type of its own."""


class AdqlError(Exception):
    """A query that the server refuses, in words as the archive's."""


def rewrite_geometry(tree: exp.Query) -> exp.Query:
    """Return the query with ADQL's geometry as arithmetic.

    ``1 = CONTAINS(...)`` and ``DISTANCE(...) < r`` also get bounds in declination, which the
    database turns into a sorted join instead of comparing everything with everything.
    """

    def rewrite(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.EQ):
            for test, other in ((node.this, node.expression), (node.expression, node.this)):
                if _name(test) in ("CONTAINS", "INTERSECTS") and other.name in ("0", "1"):
                    inside = _test_inside(test)
                    return _parse(f"({inside})" if other.name == "1" else f"(NOT ({inside}))")
        if isinstance(node, exp.LT | exp.LTE | exp.GT | exp.GTE):
            return _bound_distance(node)
        name = _name(node)
        if name == "DISTANCE":
            return _parse(_separation(*_two_points(node)))
        if name in ("CONTAINS", "INTERSECTS"):
            return _parse(f"(CASE WHEN {_test_inside(node)} THEN 1 ELSE 0 END)")
        if name in ("COORD1", "COORD2"):
            return _parse(_shape(node.expressions[0], "POINT")[int(name[-1]) - 1])
        if name is not None:
            raise AdqlError(f"{name} may only be used inside CONTAINS, INTERSECTS or DISTANCE")
        return node

    return tree.transform(rewrite)


def _name(node: exp.Expression | None) -> str | None:
    """Return the name of one of ADQL's geometrical functions, None for anything else."""
    if isinstance(node, exp.Paren):
        return _name(node.this)
    if isinstance(node, exp.Anonymous) and node.name.lower().startswith(PREFIX):
        return node.name[len(PREFIX) :].upper()
    return None


def _parse(sql: str) -> exp.Expression:
    return sqlglot.parse_one(sql, read="duckdb")


def _shape(node: exp.Expression, *kinds: str) -> tuple[str, ...]:
    """Return the numbers of a shape as SQL, without the coordinate system of ADQL 2.0."""
    node = node.unnest()
    kind = _name(node)
    sizes = {"POINT": 2, "CIRCLE": 3, "BOX": 4}
    if kind not in kinds:
        raise AdqlError(f"expected {' or '.join(kinds)} but found {node.sql()[:60]}")
    arguments = list(node.expressions)
    if arguments and isinstance(arguments[0], exp.Literal) and arguments[0].is_string:
        if arguments[0].name.upper() not in ("ICRS", "ICRS GEOCENTER", ""):
            raise AdqlError(f"unknown coordinate system '{arguments[0].name}'")
        del arguments[0]
    numbers: list[str] = []
    for argument in arguments:
        if _name(argument) == "POINT":
            numbers += _shape(argument, "POINT")
        else:
            numbers.append(f"({argument.sql(dialect='duckdb')})::DOUBLE")
    if len(numbers) != sizes[kind]:
        raise AdqlError(f"{kind} takes {sizes[kind]} numbers, not {len(numbers)}")
    return tuple(numbers)


def _two_points(node: exp.Expression) -> tuple[str, str, str, str]:
    arguments = node.unnest().expressions
    if len(arguments) == 4:
        a, b, c, d = (f"({argument.sql(dialect='duckdb')})::DOUBLE" for argument in arguments)
        return a, b, c, d
    if len(arguments) != 2:
        raise AdqlError("DISTANCE takes two points or four numbers")
    return (*_shape(arguments[0], "POINT"), *_shape(arguments[1], "POINT"))  # type: ignore


def _separation(ra1: str, dec1: str, ra2: str, dec2: str) -> str:
    """Return the great-circle distance in degrees (haversine: exact for small ones) as SQL."""
    return (
        f"degrees(2*asin(sqrt(least(1.0, pow(sin(radians({dec2}-{dec1})/2),2)"
        f"+cos(radians({dec1}))*cos(radians({dec2}))*pow(sin(radians({ra2}-{ra1})/2),2)))))"
    )


def _within(ra1: str, dec1: str, ra2: str, dec2: str, radius: str, sign: str = "<=") -> str:
    return (
        f"{dec1} >= {dec2} - ({radius}) AND {dec1} <= {dec2} + ({radius})"
        f" AND {_separation(ra1, dec1, ra2, dec2)} {sign} ({radius})"
    )


def _test_inside(node: exp.Expression) -> str:
    """Return the condition of CONTAINS or INTERSECTS as SQL."""
    name, arguments = _name(node), node.unnest().expressions
    if len(arguments) != 2:
        raise AdqlError(f"{name} takes two shapes")
    inner, outer = arguments
    if name == "INTERSECTS" and _name(outer.unnest()) == "POINT":
        inner, outer = outer, inner
    if _name(outer.unnest()) == "BOX":
        (ra, dec), box = _shape(inner, "POINT"), _shape(outer, "BOX")
        width = f"abs(mod({ra}-{box[0]}+540.0, 360.0)-180.0)"
        return f"(abs({dec}-{box[1]}) <= {box[3]}/2 AND {width} <= {box[2]}/2)"
    kinds = ("POINT",) if name == "CONTAINS" else ("POINT", "CIRCLE")
    first, circle = _shape(inner, *kinds), _shape(outer, "CIRCLE")
    reach = circle[2] if len(first) == 2 else f"{circle[2]}+{first[2]}"
    return _within(first[0], first[1], circle[0], circle[1], reach)


def _bound_distance(node: exp.Expression) -> exp.Expression:
    """Add bounds in declination to ``DISTANCE(...) < radius``, whichever way round it is."""
    signs = {exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    sign, distance, radius = signs[type(node)], node.this, node.expression
    if _name(radius) == "DISTANCE":
        sign, distance, radius = flipped[sign], radius, distance
    if _name(distance) != "DISTANCE" or sign not in ("<", "<="):
        return node
    points = _two_points(distance)
    return _parse(f"({_within(*points, radius.sql(dialect='duckdb'), sign)})")
