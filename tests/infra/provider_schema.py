# Prints the schema of AWS resources and data sources as JSON, from the package of CDK for Terraform that is generated from
# it: arguments (required or not, with those of blocks) and attributes. Arguments of this script: the package, and kinds
# such as `resource aws_lb`.
import io
import json
import re
import sys
import tarfile
import zipfile

package = zipfile.ZipFile(sys.argv[1])
(archive,) = [name for name in package.namelist() if name.endswith(".tgz")]
archive = tarfile.open(fileobj=io.BytesIO(package.read(archive)))
types = json.load(archive.extractfile("package/.jsii"))["types"]


def block(kind):
    """The type of a block in an argument's type, if it is one."""
    if "fqn" in kind:
        found = types.get(kind["fqn"])
        return found if found and found.get("datatype") else None
    if "collection" in kind:
        return block(kind["collection"]["elementtype"]) if kind["collection"]["kind"] == "array" else None
    return next(filter(None, map(block, kind.get("union", {}).get("types", []))), None)


def arguments(interface):
    found = {}
    for argument in interface.get("properties", []):
        inner = block(argument["type"])
        found[argument["name"]] = {
            "required": not argument.get("optional", False),
            "block": arguments(inner) if inner else None,
        }
    return found


wanted = set(sys.argv[2:])
schema = {}
for name, kind in types.items():
    summary = kind.get("docs", {}).get("summary", "")
    link = re.search(r"/aws/([0-9.]+)/docs/(resources|data-sources)/\S+ (aws_\w+)\}", summary)
    if kind["kind"] != "class" or not link:
        continue
    key = ("resource " if link[2] == "resources" else "data ") + link[3]
    if key in wanted:
        attributes = [one["name"] for one in kind["properties"] if not one.get("static")]
        schema[key] = {"arguments": arguments(types[name + "Config"]), "attributes": attributes, "version": link[1]}
json.dump(schema, sys.stdout)
