"""Build, compare, require and infer schemas; all of them are plain `StructType` objects."""

from sparkstream_kit.schemas.compare import diff, require
from sparkstream_kit.schemas.dataclass import from_dataclass
from sparkstream_kit.schemas.ddl import from_ddl, schema_of
from sparkstream_kit.schemas.inference import infer, to_code

__all__ = ["diff", "from_dataclass", "from_ddl", "infer", "require", "schema_of", "to_code"]
