#!/usr/bin/env python3
"""Writes a JSON schema for every kind of Kubernetes object, for kubeconform.

    schemas.py SWAGGER.json CRD_FOLDER OUT_FOLDER

The built-in kinds come from Kubernetes' own OpenAPI document, the others from their CustomResourceDefinitions. Unknown
members are refused everywhere but in maps. Each schema holds all that it refers to.
"""

import json
import pathlib
import sys

import yaml

swagger, crds, out = (pathlib.Path(name) for name in sys.argv[1:])
REFERENCE = "#/definitions/"


def strict(schema):
    """The schema with unknown members refused, and with the loose types that the API server takes."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {name: strict(part) for name, part in schema.items() if name not in ("description", "default")}
    if "properties" in schema:
        # A member may be named like a keyword.
        found["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    return found


def references(schema):
    if isinstance(schema, list):
        for part in schema:
            yield from references(part)
    elif isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(REFERENCE)
        for part in schema.values():
            yield from references(part)


def whole(name, definitions):
    """The definition with all that it needs."""
    needed, looked_at = {name}, set()
    while needed - looked_at:
        for one in needed - looked_at:
            looked_at.add(one)
            needed |= set(references(definitions[one]))
    return {"$ref": REFERENCE + name, "definitions": {one: definitions[one] for one in sorted(needed)}}


def write(kind, version, schema):
    (out / f"{kind.lower()}_{version}.json").write_text(json.dumps(schema))


out.mkdir(parents=True, exist_ok=True)
documented = json.loads(swagger.read_text())["definitions"]
definitions = {name: strict(schema) for name, schema in documented.items()}
definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
metadata = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
for name, schema in documented.items():
    kinds = schema.get("x-kubernetes-group-version-kind", [])
    # One that names many kinds is no object, but an option of requests.
    if len(kinds) == 1:
        kind = kinds[0]
        api_version = f"{kind['group']}/{kind['version']}".lstrip("/")
        properties = definitions[name]["properties"]
        if "apiVersion" in properties:
            properties["apiVersion"]["enum"] = [api_version]
            definitions[name]["required"] = sorted({*definitions[name].get("required", []), "apiVersion", "kind"})
            write(kind["kind"], kind["version"], whole(name, definitions))
for file in sorted(crds.glob("*.yaml")):
    spec = yaml.safe_load(file.read_text())["spec"]
    for version in spec["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"$ref": REFERENCE + metadata}
        schema["properties"]["apiVersion"]["enum"] = [f"{spec['group']}/{version['name']}"]
        schema["definitions"] = whole(metadata, definitions)["definitions"]
        write(spec["names"]["kind"], version["name"], schema)
