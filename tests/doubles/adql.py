"""A database that is asked in ADQL, for the doubles of TAP servers: DuckDB with ADQL's geometry.

ADQL is read by sqlglot's T-SQL reader (which knows ``TOP``); its geometry is rewritten to plain
arithmetic. What the Gaia archive refuses and DuckDB would accept is refused: ``LIMIT``, reserved
words as names, more than one statement, anything but ``SELECT``, tables that do not exist.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping

import duckdb
import sqlglot
from astropy.table import Column, Table
from sqlglot import exp

from doubles.adql_geometry import FUNCTIONS, PREFIX, AdqlError, rewrite_geometry
from doubles.results import to_arrow, to_astropy, write_result

__all__ = ["AdqlDatabase", "AdqlError", "write_result"]

_TOKENS = re.compile(  # strings, quoted names and comments are passed over
    r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|\b(?P<name>" + "|".join(FUNCTIONS) + r")\s*(?=\()", re.I
)
# ADQL 2.0, section 2.1.2, as far as a query here might use them for a name.
_WORDS = """
    acos area asin atan atan2 box centroid circle contains coord1 coord2 coordsys cos date day
    degrees distance exp first floor hour intersects last log minute mod month pi point polygon
    position radians region round second section session sin sqrt tan time timestamp top usage
    user value view work write year zone
"""
_RESERVED = frozenset(_WORDS.split())


class AdqlDatabase:
    """Tables that answer ADQL.

    Parameters
    ----------
    tables : mapping of str to Table
        Full name (``schema.table``) to content. Integers stay exact, masked values are NULL, 2-D
        columns are arrays.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 2; SET integer_division = true")
        self._lock = threading.Lock()
        self._described: dict[tuple[str, str], Column] = {}
        self.columns: dict[str, list[tuple[str, str]]] = {}
        for name, table in tables.items():
            self.add_table(name, table)

    def add_table(self, name: str, table: Table) -> None:
        """Create a table, or replace it."""
        schema, _, short = name.rpartition(".")
        with self._lock:
            target = ".".join(f'"{part}"' for part in ([schema] if schema else []) + [short])
            if schema:
                self._connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            self._connection.register("_new", to_arrow(table))
            self._connection.execute(f"CREATE OR REPLACE TABLE {target} AS SELECT * FROM _new")
            self._connection.unregister("_new")
            rows = self._connection.execute(f"DESCRIBE {target}").fetchall()
        self.columns[name] = [(row[0], _TYPES.get(row[1], row[1].lower())) for row in rows]
        for column in table.colnames:
            self._described[name.lower(), column.lower()] = table[column]

    def close(self) -> None:
        """Free the database."""
        self._connection.close()

    def query(
        self,
        adql: str,
        uploads: Mapping[str, Table] | None = None,
        maxrec: int | None = None,
    ) -> Table:
        """Run a query.

        Parameters
        ----------
        adql : str
            The query.
        uploads : mapping of str to Table, optional
            Tables that the query knows as ``tap_upload.NAME``.
        maxrec : int, optional
            Largest number of rows; ``meta["QUERY_STATUS"]`` of the result tells of an overflow.

        Raises
        ------
        AdqlError
            If the query cannot be read or run.
        """
        names = {name.lower(): f"upload_{uuid.uuid4().hex}" for name in uploads or {}}
        tree = self._read(adql, names)
        described = self._describe(tree, uploads or {})
        sql = tree.sql(dialect="duckdb", comments=False)
        with self._lock:
            for name, table in (uploads or {}).items():
                self._connection.register(names[name.lower()], to_arrow(table))
            try:
                result = self._connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                raise AdqlError(_put_in_words(adql, str(error))) from None
            finally:
                for hidden in names.values():
                    self._connection.unregister(hidden)
        overflow = maxrec is not None and result.num_rows > maxrec
        table = to_astropy(result.slice(0, maxrec) if overflow else result)
        table.meta["QUERY_STATUS"] = "OVERFLOW" if overflow else "OK"
        for column in table.itercols():
            source = described.get(column.name.lower())
            if source is not None:
                column.unit, column.description = source.unit, source.description
                column.meta.update(source.meta)
        return table

    def _read(self, adql: str, uploads: Mapping[str, str]) -> exp.Query:
        """Parse, check and rewrite a query; ``uploads`` tells the hidden name of each."""
        marked = _TOKENS.sub(lambda m: f"{PREFIX}{m['name']}" if m["name"] else m[0], adql)
        try:
            statements = sqlglot.parse(marked, read="tsql")
        except sqlglot.errors.SqlglotError as error:
            details = getattr(error, "errors", None) or [{}]
            first = details[0]
            where = f'Encountered "{first.get("highlight", "")}" at line {first.get("line", 1)},'
            raise AdqlError(
                f"Cannot parse query '{adql}': {where} column {first.get('col', 1)}."
            ) from None
        tree = statements[0] if len(statements) == 1 else None
        if not isinstance(tree, exp.Query):
            raise AdqlError(f"Cannot parse query '{adql}': Was expecting: \"SELECT\"")
        if re.search(r"\b(?:LIMIT|FETCH)\b", _TOKENS.sub("", adql), re.I):
            raise AdqlError(
                f"Cannot parse query '{adql}': Encountered \"LIMIT\". Was expecting one of: <EOF>"
                ' "." "," ";" "UNION" "ASC" "DESC" "OFFSET"'
            )
        for alias in tree.find_all(exp.Alias, exp.TableAlias):
            word = str(alias.alias or alias.name).lower()
            if word in _RESERVED and not _is_quoted(alias):
                raise AdqlError(f"Cannot parse query '{adql}': Encountered \"{word}\"")
        self._resolve_tables(tree, uploads)
        return rewrite_geometry(tree)

    def _resolve_tables(self, tree: exp.Query, uploads: Mapping[str, str]) -> None:
        known = {name.lower() for name in self.columns}
        shared = {query.alias.lower() for query in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            schema, name = table.db.lower(), table.name.lower()
            full = f"{schema}.{name}" if schema else name
            if schema == "tap_upload" and name in uploads:
                if not table.alias:
                    table.set("alias", exp.TableAlias(this=exp.to_identifier(name)))
                table.set("db", None)
                table.set("this", exp.to_identifier(uploads[name]))
            elif not (full in known or (not schema and name in shared)):
                raise AdqlError(f'Unknown table "{full}" !')

    def _describe(self, tree: exp.Query, uploads: Mapping[str, Table]) -> dict[str, Column]:
        """Return what is known of the columns of the tables in the query (units, words)."""
        used = {f"{t.db}.{t.name}".strip(".").lower() for t in tree.find_all(exp.Table)}
        known = {name: col for (table, name), col in self._described.items() if table in used}
        for table in uploads.values():
            known.update({name.lower(): table[name] for name in table.colnames})
        renamed = {
            alias.alias.lower(): known[alias.this.name.lower()]
            for alias in tree.find_all(exp.Alias)
            if isinstance(alias.this, exp.Column) and alias.this.name.lower() in known
        }
        computed = {
            alias.alias.lower()
            for alias in tree.find_all(exp.Alias)
            if not isinstance(alias.this, exp.Column)
        }
        return {name: col for name, col in {**known, **renamed}.items() if name not in computed}


_TYPES = {
    "BIGINT": "long",
    "INTEGER": "int",
    "SMALLINT": "short",
    "DOUBLE": "double",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "VARCHAR": "char",
}


def _is_quoted(alias: exp.Expression) -> bool:
    name = alias.args.get("alias") or alias.this
    name = name.this if isinstance(name, exp.TableAlias) else name
    return isinstance(name, exp.Identifier) and bool(name.args.get("quoted"))


def _put_in_words(adql: str, message: str) -> str:
    """Say an error of DuckDB's as the archive would."""
    column = re.search(
        r'(?:column|Column) (?:name )?"([^"]+)"|does not have a column named "([^"]+)', message
    )
    first = message.splitlines()[0]
    if column and ("not found" in message or "does not have" in message):
        return f"1 unresolved identifiers: {column[1] or column[2]} [l.1 c.1] !\n{first}"
    if "does not exist" in message and "Function" in message:
        return f"1 unresolved identifiers [function]: {first}"
    return f"Cannot run query '{adql}': {first}"
