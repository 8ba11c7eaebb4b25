"""Clients of boto3 whose answers are compared with botocore's own model of the API, element by element."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ENDPOINT"]
REGION = os.environ["REGION"]
ADMINISTRATOR = json.loads(os.environ["ADMINISTRATOR"])
ACCOUNT = os.environ["ACCOUNT"]

# Errors that every operation may have.
COMMON = {
    "AccessDenied", "ExpiredToken", "IncompleteSignature", "InvalidAction", "InvalidClientTokenId",
    "InvalidInput", "LimitExceeded", "MalformedQueryString", "MissingAuthenticationToken", "NoSuchEntity", "RequestExpired",
    "ServiceFailure", "SignatureDoesNotMatch", "Throttling", "UnmodifiableEntity", "ValidationError",
}
# A fingerprint is that of OpenSSH, which is longer than the MD5 of AWS.
OTHER_LENGTH = {"Fingerprint"}

called = {}


def client(service, key=None, endpoint=ENDPOINT, region=REGION, **config):
    key = key or ADMINISTRATOR
    made = boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        config=Config(retries={"max_attempts": 0}, **config),
    )
    made.meta.events.register(f"before-parse.{service}", check)
    return made


def name_of(element):
    return element.tag.split("}")[-1]


def check(operation_model, response_dict, **_):
    operation = operation_model.name
    root = ElementTree.fromstring(response_dict["body"])
    if response_dict["status_code"] >= 300:
        check_error(operation_model, root)
        called.setdefault(operation, set()).add("error")
        return
    namespace = operation_model.service_model.metadata["xmlNamespace"]
    assert root.tag.startswith("{" + namespace + "}"), (operation, root.tag)
    assert name_of(root) == operation + "Response", (operation, root.tag)
    children = {name_of(child): child for child in root}
    assert children["ResponseMetadata"][0].text, operation
    shape = operation_model.output_shape
    wrapper = shape and shape.serialization.get("resultWrapper")
    assert set(children) == {"ResponseMetadata"} | ({wrapper} if wrapper else set()), (operation, children)
    if wrapper:
        walk(children[wrapper], shape, operation)
    called.setdefault(operation, set()).add("result")


def check_error(operation_model, root):
    assert name_of(root) == "ErrorResponse", root.tag
    fields = {name_of(child): child for child in root}
    assert set(fields) == {"Error", "RequestId"} and fields["RequestId"].text, fields
    error = {name_of(child): child.text for child in fields["Error"]}
    assert set(error) == {"Type", "Code", "Message"} and error["Message"], error
    declared = {shape.metadata.get("error", {}).get("code", shape.name) for shape in operation_model.error_shapes}
    assert error["Code"] in declared | COMMON, (operation_model.name, error)


def walk(element, shape, path):
    if shape.type_name == "structure":
        members = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        found = [name_of(child) for child in element]
        assert len(found) == len(set(found)), (path, found)
        assert set(found) <= set(members), (path, set(found) - set(members))
        missing = {name for name in shape.required_members} - {members[name][0] for name in found}
        assert not missing, (path, missing)
        for child in element:
            walk(child, members[name_of(child)][1], f"{path}.{name_of(child)}")
    elif shape.type_name == "list":
        for child in element:
            assert name_of(child) == "member", (path, child.tag)
            walk(child, shape.member, path + "[]")
    elif shape.type_name == "map":
        for entry in element:
            assert name_of(entry) == "entry" and [name_of(part) for part in entry] == ["key", "value"], path
            walk(entry[0], shape.key, path + ".key")
            walk(entry[1], shape.value, path + ".value")
    else:
        scalar(element.text or "", shape, path)


def scalar(text, shape, path):
    if shape.type_name == "timestamp":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text), (path, text)
    elif shape.type_name == "boolean":
        assert text in ("true", "false"), (path, text)
    elif shape.type_name in ("integer", "long"):
        int(text)
    elif shape.type_name == "string":
        if path.endswith(".key"):
            # The summary of an account has more quotas here.
            return
        if "enum" in shape.metadata:
            assert text in shape.metadata["enum"], (path, text)
        if path.split(".")[-1] not in OTHER_LENGTH:
            least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 10**9)
            assert least <= len(text) <= most, (path, text, least, most)


def refused(code, call, *args, **parameters):
    """Calls an operation that must be refused with a code; the message."""
    try:
        call(*args, **parameters)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call} was not refused with {code}: {parameters}")


def document(effect, actions, resource="*", **more):
    statement = {"Effect": effect, "Action": actions, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trust(principal, action="sts:AssumeRole", **more):
    statement = {"Effect": "Allow", "Action": action, "Principal": principal, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def user(iam, name, policy=None, **more):
    """Makes a user with an inline policy; its access key."""
    iam.create_user(UserName=name, **more)
    if policy:
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    return iam.create_access_key(UserName=name)["AccessKey"]
