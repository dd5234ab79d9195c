"""What the tests see of Iceberg tables: with pyiceberg, by a catalog of their own."""

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy.exc import OperationalError


def catalog(lake, makes="true"):
    """Return the SQLite catalog of a folder, or the REST catalog of a URL."""
    if isinstance(lake, str):
        return load_catalog("rest", type="rest", uri=lake)
    uri = f"sqlite:///{lake / 'catalog.db'}?timeout=30"
    own = {
        "type": "sql",
        "uri": uri,
        "warehouse": f"file://{lake}",
        "init_catalog_tables": makes,
    }
    return load_catalog("default", **own)


def make(lake, schema):
    """Make the table shop.t of a new catalog, and return it."""
    lake.mkdir()
    catalog(lake).create_namespace("shop")
    return catalog(lake).create_table("shop.t", schema)


def table(lake, name="shop.t"):
    """Return a table in its newest version; None if there is none."""
    while isinstance(lake, str) or (lake / "catalog.db").exists():
        try:
            # It makes no tables of the catalog's own: a driver may make them at the
            # same time.
            return catalog(lake, makes="false").load_table(name)
        except NoSuchTableError:
            return None
        except OperationalError as err:
            if "no such table" not in str(err):
                raise
            return None
        except FileNotFoundError:
            continue  # twenty commits have been made since the catalog was asked
    return None


def rows(lake, name="shop.t"):
    """Return the rows of a table, sorted."""
    return sorted(
        tuple(row.values()) for row in table(lake, name).scan().to_arrow().to_pylist()
    )


def _batches(properties):
    return [
        int(number)
        for key, number in properties.items()
        if key.startswith("sparkstream.batch.")
    ]


def batches(lake, name="shop.t"):
    """Return the batches of the snapshots of a table, in their order, each once."""
    snapshots = sorted(
        table(lake, name).snapshots(), key=lambda each: each.sequence_number
    )
    return [
        number
        for each in snapshots
        for number in _batches(each.summary.additional_properties)
    ]


def last_batch(lake, name="shop.t"):
    """Return the last batch that is in a table; -1 before the first."""
    found = table(lake, name)
    return max(_batches(found.properties if found else {}), default=-1)
