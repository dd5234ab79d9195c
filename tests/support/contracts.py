"""Small data contracts, as tests write them."""

import yaml

BEGINS = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "shop",
    "version": "1.0.0",
    "status": "active",
}


def written(folder, *properties, name="orders", table=None, **contract):
    """Write a contract with an object of these properties, and return its path.

    Args:
        folder: where to write it.
        *properties: YAML of each property, such as "name: id, logicalType: integer".
        name: the name of the object and of the file.
        table: more of the object, such as its quality rules.
        **contract: more of the contract, or other values.
    """
    parts = [yaml.safe_load("{" + each + "}") for each in properties]
    schema = [{"name": name, "properties": parts, **(table or {})}]
    path = folder / f"{name}.odcs.yaml"
    whole = {**BEGINS, "schema": schema, **contract}
    path.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    return path
