"""The API's own schemas as kubeconform reads them, from a cluster that is up: the project that publishes them is not needed."""

import json
from pathlib import Path
from typing import Any


def write(openapi: dict[str, Any], folder: Path) -> None:
    """One file for each kind, all definitions beside them; members that no schema names are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    definitions = openapi["definitions"]
    for definition in definitions.values():
        # A quantity, a port by number or name: in OpenAPI 2 there is no word for that.
        if definition.get("type") == "string" and (definition.get("format") == "int-or-string" or "quantity" in str(definition.get("description", "")).lower()[:40]):
            definition["type"] = ["string", "number"]
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    text = json.dumps({"definitions": definitions}).replace('"#/definitions/', '"_definitions.json#/definitions/')
    (folder / "_definitions.json").write_text(text)
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            group = f"{kind['group'].split('.')[0]}-" * bool(kind["group"])
            file = folder / f"{kind['kind'].lower()}-{group}{kind['version']}.json"
            file.write_text(json.dumps({"$ref": f"_definitions.json#/definitions/{name}"}))
