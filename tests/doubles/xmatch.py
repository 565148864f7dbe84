"""CDS in this process: XMatch and TAPVizieR with SDSS DR16 (V/154/sdss16), real SQL behind them."""

from __future__ import annotations

import io
from html import escape

from astropy.table import Table

from doubles.adql import AdqlDatabase, AdqlError, write_result
from doubles.web_service import Reply, ServiceDouble

__all__ = ["CdsDouble"]

TABLE = "V/154/sdss16"


class CdsDouble(ServiceDouble):
    """The two services of CDS that know SDSS.

    Parameters
    ----------
    sdss16 : Table
        With VizieR's column names.
    """

    def __init__(self, sdss16: Table) -> None:
        super().__init__()
        self.database = AdqlDatabase({TABLE: sdss16})

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.database.close()

    @property
    def xmatch_url(self) -> str:
        return f"{self.base}/xmatch/api/v1/sync"

    @property
    def vizier_tap_url(self) -> str:
        return f"{self.base}/TAPVizieR/tap"

    def answer(self, path: str, fields: dict[str, str], files: dict[str, bytes]) -> Reply:
        try:
            if path == "/xmatch/api/v1/sync":
                table = self._crossmatch(fields, files)
            elif path == "/xmatch/api/v1/sync/tables":
                return 200, "text/plain", f"II/246/out\n{TABLE}\n".encode()
            elif path == "/TAPVizieR/tap/sync":
                table = self._query(fields, files)
            else:
                return 404, "text/html", b"<title>404 Not Found</title>"
        except AdqlError as error:
            return 400, "application/x-votable+xml", _say_error(str(error))
        return 200, *write_result(table, "votable")

    def _crossmatch(self, fields: dict[str, str], files: dict[str, bytes]) -> Table:
        if fields.get("request") != "xmatch" or "cat1" not in files:
            raise AdqlError("request must be xmatch and cat1 be uploaded")
        if fields.get("cat2") != f"vizier:{TABLE}":
            raise AdqlError(f"unknown table {fields.get('cat2')}")
        distance = float(fields["distMaxArcsec"])
        if distance > 180:
            raise AdqlError("distMaxArcsec must not be more than 180")
        positions = Table.read(io.BytesIO(files["cat1"]), format="ascii.csv")
        ra, dec = fields["colRA1"], fields["colDec1"]
        between = f"DISTANCE(a.{ra}, a.{dec}, b.RA_ICRS, b.DE_ICRS)"
        return self.database.query(
            f"SELECT ROUND({between} * 3600, 6) AS angDist, a.*, b.* FROM TAP_UPLOAD.cat1 AS a"
            f' JOIN "{TABLE}" AS b ON {between} <= {distance} / 3600.0',
            {"cat1": positions},
        )

    def _query(self, fields: dict[str, str], files: dict[str, bytes]) -> Table:
        uploads = {}
        for part in filter(None, fields.get("UPLOAD", "").split(";")):
            name, _, reference = part.partition(",")
            content = files[reference.removeprefix("param:")]
            uploads[name] = Table.read(io.BytesIO(content), format="votable")
        most = int(fields["MAXREC"]) if "MAXREC" in fields else None
        return self.database.query(fields["QUERY"], uploads, most)


def _say_error(message: str) -> bytes:
    return (
        '<?xml version="1.0"?><VOTABLE version="1.3"><RESOURCE type="results">'
        f'<INFO ID="QUERY_STATUS" name="QUERY_STATUS" value="ERROR">{escape(message)}</INFO>'
        "</RESOURCE></VOTABLE>"
    ).encode()
