"""Clients of CodeCommit whose answers are compared with botocore's own model of the API, member by member."""

import base64
import http.client
import json
import os
import re
import time
import urllib.parse

import boto3
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ENDPOINT"]
REPLICA = os.environ["REPLICA"]
REGION = os.environ["REGION"]
REPLICA_REGION = os.environ["REPLICA_REGION"]
ACCOUNT = os.environ["ACCOUNT"]
ADMINISTRATOR = json.loads(os.environ["ADMINISTRATOR"])
COMMITS = os.environ["COMMITS"].split()
MODEL = botocore.session.get_session().get_service_model("codecommit")

# Errors that every operation may have.
COMMON = {
    "AccessDeniedException", "NotImplementedException", "OperationNotAllowedException", "SerializationException",
    "ThrottlingException", "ValidationException",
}
# Names may have folders here.
OTHER_PATTERN = {"RepositoryName"}
judged = set()


def client(key=None, endpoint=ENDPOINT, region=REGION, service="codecommit"):
    key = key or ADMINISTRATOR
    made = boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        config=Config(retries={"max_attempts": 0}),
    )
    if service == "codecommit":
        made.meta.events.register("before-parse.codecommit", check)
    return made


def check(operation_model, response_dict, **_):
    judge(operation_model.name, response_dict["status_code"], response_dict["body"])


def judge(operation, status, body):
    """Compares an answer with the model."""
    model = MODEL.operation_model(operation)
    if status >= 300:
        error = json.loads(body)
        assert set(error) == {"__type", "message"} and error["message"], error
        declared = {shape.name for shape in model.error_shapes}
        assert error["__type"] in declared | COMMON, (operation, error)
        assert status == (501 if error["__type"] == "NotImplementedException" else 400), (operation, status, error)
        return
    judged.add(operation)
    if model.output_shape is None:
        assert body == b"", (operation, body)
    else:
        walk(json.loads(body), model.output_shape, operation)


def walk(value, shape, path):
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict) and set(value) <= set(shape.members), (path, value)
        assert set(shape.required_members) <= set(value), (path, value)
        for name, member in value.items():
            walk(member, shape.members[name], f"{path}.{name}")
    elif kind == "list":
        assert isinstance(value, list), (path, value)
        for item in value:
            walk(item, shape.member, path + "[]")
    elif kind == "map":
        assert isinstance(value, dict), (path, value)
        for key, item in value.items():
            walk(key, shape.key, path + ".key")
            walk(item, shape.value, path + ".value")
    elif kind == "timestamp":
        assert isinstance(value, float), (path, value)
    elif kind in ("integer", "long"):
        assert isinstance(value, int) and not isinstance(value, bool), (path, value)
    elif kind == "boolean":
        assert isinstance(value, bool), (path, value)
    elif kind == "blob":
        assert len(base64.b64decode(value, validate=True)) <= shape.metadata.get("max", 10**9), path
    else:
        assert isinstance(value, str), (path, value)
        facts = shape.metadata
        assert facts.get("min", 0) <= len(value) <= facts.get("max", 10**9), (path, value)
        assert "enum" not in facts or value in facts["enum"], (path, value)
        if "pattern" in facts and shape.name not in OTHER_PATTERN:
            assert re.fullmatch(facts["pattern"], value), (path, value)


def refused(code, call, *args, **parameters):
    """Calls an operation that must be refused with a code; the message."""
    try:
        call(*args, **parameters)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call} was not refused with {code}: {parameters}")


class Raw:
    """One connection for requests that no client would send."""

    def __init__(self, key=None):
        self.key = key or ADMINISTRATOR
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(ENDPOINT).netloc)

    def __call__(self, operation, body, model=True):
        data = body if isinstance(body, (str, bytes)) else json.dumps(body)
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"CodeCommit_20150413.{operation}"}
        request = AWSRequest("POST", ENDPOINT + "/", headers, data)
        signer = SigV4Auth(Credentials(self.key["AccessKeyId"], self.key["SecretAccessKey"]), "codecommit", REGION)
        signer.add_auth(request)
        self.connection.request("POST", "/", data, dict(request.headers))
        response = self.connection.getresponse()
        answer = response.read()
        if b"ThrottlingException" in answer:
            # The tables ask more often than one principal may.
            time.sleep(0.1)
            return self(operation, body, model)
        assert response.getheader("Content-Type") == "application/x-amz-json-1.1", response.headers
        if model:
            judge(operation, response.status, answer)
        return response.status, json.loads(answer) if answer else None
