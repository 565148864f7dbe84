"""SDSS's SkyServer in this process: its SQL search on a table SpecObj, as csv."""

from __future__ import annotations

import io
import re

import duckdb
import sqlglot
from astropy.table import Table

from doubles.loopback import Fault
from doubles.results import to_arrow, to_astropy
from doubles.web_service import Reply, ServiceDouble

__all__ = ["SkyServerDouble"]

LONGEST_QUERY = 2048


class SkyServerDouble(ServiceDouble):
    """The SQL search.

    Parameters
    ----------
    specobj : Table
        With SkyServer's column names.
    """

    def __init__(self, specobj: Table) -> None:
        super().__init__()
        self.connection = duckdb.connect()
        self.connection.register("_new", to_arrow(specobj))
        self.connection.execute("CREATE TABLE SpecObj AS SELECT * FROM _new")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.connection.close()

    @property
    def url(self) -> str:
        return self.base

    def answer(self, path: str, fields: dict[str, str], files: dict[str, bytes]) -> Reply:
        if not re.fullmatch(r"/dr\d+/en/tools/search/x_results\.aspx", path):
            return 404, "text/html", b"<title>404 Not Found</title>"
        if fields.get("searchtool") != "SQL" or fields.get("format") != "csv":
            return 200, "text/html", b"<html><body>a page for people</body></html>"
        if sum(map(len, fields.values())) > LONGEST_QUERY:
            return 404, "text/html", b"<title>The request is too long</title>"
        try:
            sql = sqlglot.transpile(fields["cmd"], read="tsql", write="duckdb")[0]
            with self.lock:
                table = to_astropy(self.connection.sql(sql).to_arrow_table())
        except (duckdb.Error, sqlglot.errors.SqlglotError) as error:
            # As it does: HTTP 200, and the error in words in the "csv".
            said = f"error_message\n{str(error).splitlines()[0]}\n"
            return 200, "text/plain", said.encode()
        stream = io.StringIO()
        if len(table):
            table.write(stream, format="ascii.csv")
        else:
            stream.write(",".join(table.colnames) + "\n")
        return 200, "text/csv", f"#Table1\n{stream.getvalue()}".encode()

    def change(self, fault: Fault, body: bytes) -> bytes:
        if fault.kind == "short_csv":  # whole lines missing inside valid HTTP
            lines = body.splitlines(keepends=True)
            return b"".join(lines[: max(3, len(lines) // 2)])
        return body
