"""Requests that no client of AWS makes: replayed, tampered with, smuggled, doubled, endless."""

import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import json
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree

from client import ACCOUNT, ENDPOINT, REGION, client, document, refused, trust, user

HOST = urllib.parse.urlsplit(ENDPOINT).netloc
FORM = "application/x-www-form-urlencoded; charset=utf-8"
WHO = "Action=GetCallerIdentity&Version=2011-06-15"
iam = client("iam")
# Each has less than the 20 failures a minute after which its key is not looked at.
everything = document("Allow", "*")
VICTIMS = [user(iam, f"victim-{number}", everything) for number in range(2)]


def signature(key, scope, stamp, canonical):
    secret = ("AWS4" + key["SecretAccessKey"]).encode()
    for part in scope.split("/"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(secret, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()


def stamp_of(age):
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age)
    return at.strftime("%Y%m%dT%H%M%SZ")


def sign(body=WHO, service="sts", region=REGION, query="", age=0, headers=None, key=VICTIMS[0]):
    """Headers of a signed POST."""
    stamp = stamp_of(age)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    headers = {"Content-Type": FORM, "Host": HOST, "X-Amz-Date": stamp, **(headers or {})}
    signed = {name.lower(): value for name, value in sorted(headers.items(), key=lambda one: one[0].lower())}
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    digest = hashlib.sha256(body.encode()).hexdigest()
    canonical = f"POST\n/\n{query}\n{lines}\n{names}\n{digest}"
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key['AccessKeyId']}/{scope}, SignedHeaders={names}, "
        f"Signature={signature(key, scope, stamp, canonical)}"
    )
    return headers


def presign(query=WHO, expires=60, age=0, key=VICTIMS[0]):
    """Path of a presigned GET."""
    stamp = stamp_of(age)
    scope = f"{stamp[:8]}/{REGION}/sts/aws4_request"
    parameters = dict(urllib.parse.parse_qsl(query)) | {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key['AccessKeyId']}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    query = urllib.parse.urlencode(sorted(parameters.items()), quote_via=urllib.parse.quote, safe="")
    digest = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n/\n{query}\nhost:{HOST}\n\nhost\n{digest}"
    return f"/?{query}&X-Amz-Signature={signature(key, scope, stamp, canonical)}"


def send(method, path, headers, body=""):
    """Sends exactly these headers; status, error code and text."""
    connection = http.client.HTTPConnection(HOST, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    body = body.encode() if isinstance(body, str) else body
    if body and not any(name.lower() == "content-length" for name, _ in headers):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        connection.send(body)
    except (BrokenPipeError, ConnectionResetError):
        pass
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    code = None
    if text.startswith("<"):
        found = ElementTree.fromstring(text).find(".//{*}Code")
        code = found.text if found is not None else None
    return answer.status, code, text


def post(headers, body=WHO, path="/", more=()):
    return send("POST", path, [*headers.items(), *more], body)


def expect(answer, status, code):
    assert answer[:2] == (status, code), answer


# As it should be.
expect(post(sign()), 200, None)
expect(post(sign(age=14 * 60)), 200, None)
expect(send("GET", presign(), [("Host", HOST)]), 200, None)
expect(send("GET", presign(expires=3600, age=3000), [("Host", HOST)]), 200, None)
# Nothing proven.
expect(post({"Host": HOST, "Content-Type": FORM}), 403, "MissingAuthenticationToken")
expect(post({"Host": HOST, "Content-Type": FORM, "Authorization": "Basic YTpi"}), 403, "InvalidClientTokenId")
expect(send("GET", "/?Action=CreateUser&Version=2010-05-08&UserName=x", [("Host", HOST)]), 403, "MissingAuthenticationToken")
# Another time: a replay after 15 minutes, a clock ahead, a presigned URL that is over or too long.
expect(post(sign(age=16 * 60)), 400, "RequestExpired")
expect(post(sign(age=-16 * 60)), 400, "RequestExpired")
expect(send("GET", presign(expires=60, age=120), [("Host", HOST)]), 400, "RequestExpired")
expect(send("GET", presign(expires=8 * 86400), [("Host", HOST)]), 400, "IncompleteSignature")
# Another body, query, path, method, host, region, service.
expect(post(sign(), body=WHO + "&X=1"), 403, "SignatureDoesNotMatch")
expect(post(sign("Action=ListUsers&Version=2010-05-08", "iam"), body="Action=CreateUser&Version=2010-05-08&UserName=x"), 403, "SignatureDoesNotMatch")
expect(send("GET", presign().replace("GetCallerIdentity", "GetSessionToken"), [("Host", HOST)]), 403, "SignatureDoesNotMatch")
expect(send("GET", presign() + "&DurationSeconds=900", [("Host", HOST)]), 403, "SignatureDoesNotMatch")
expect(post(sign(), path="/?Action=GetSessionToken"), 403, "SignatureDoesNotMatch")
for path in ("//", "/./", "/%2e/", "/x", "/../"):
    status, code, text = post(sign(), path=path)
    assert status == 404 and code is None, (path, status, text)
expect(post({**sign(), "Host": "evil.example"}), 403, "SignatureDoesNotMatch")
expect(post(sign(region="eu-central-1")), 403, "SignatureDoesNotMatch")
expect(post(sign(service="codecommit")), 403, "SignatureDoesNotMatch")
expect(post(sign(service="s3")), 403, "SignatureDoesNotMatch")
listing = "Action=ListUsers&Version=2010-05-08"
expect(post(sign(listing, "sts"), listing), 403, "SignatureDoesNotMatch")
expect(post(sign(WHO, "iam"), WHO), 403, "SignatureDoesNotMatch")
expect(post(sign(listing, "iam", region="us-east-1"), listing), 200, None)
# Headers that two readers may read differently.
expect(post(sign(), more=[("X-Amz-Security-Token", "x")]), 403, "SignatureDoesNotMatch")
expect(post(sign(), more=[("X-Amz-Date", "20260101T000000Z")]), 403, "SignatureDoesNotMatch")
expect(post(sign(), more=[("Authorization", "AWS4-HMAC-SHA256 x")]), 403, "SignatureDoesNotMatch")
expect(post(sign(), more=[("X-Amz-Target", "CodeCommit_20150413.ListRepositories")]), 403, None)
unsigned = sign(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
expect(post(unsigned), 403, "SignatureDoesNotMatch")
expect(post(sign(), path=presign()), 403, "SignatureDoesNotMatch")
status, _, text = post(sign(), more=[("Transfer-Encoding", "chunked"), ("Content-Length", "4")])
assert status in (400, 403), (status, text)
# Parameters that come twice, however they are spelt and wherever they are.
for body in (
    "Action=GetUser&Action=DeleteUser&Version=2010-05-08&UserName=administrator",
    "Action=GetUser&Version=2010-05-08&UserName=administrator&UserName=bob",
    "Action=GetUser&Version=2010-05-08&UserName=administrator&User%4Eame=bob",
    "Action=TagUser&Version=2010-05-08&UserName=administrator&Tags.member.1.Key=a&Tags.member.1.Value=b&Tags.member.1.Key=c",
):
    expect(post(sign(body, "iam", key=VICTIMS[1]), body), 404, "MalformedQueryString")
body = "Action=GetUser&Version=2010-05-08&UserName=administrator"
split = sign(body, "iam", query="UserName=bob", key=VICTIMS[1])
expect(post(split, body, path="/?UserName=bob"), 404, "MalformedQueryString")
# Parameters that would be a limit, if the operation had them.
body = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/x&RoleSessionName=xx&TokenCode=123456"
expect(post(sign(body, key=VICTIMS[1]), body), 400, "ValidationError")
# Operations, versions and services that are not there.
for body, service, code in (
    ("Action=CreateVirtualMFADevice&Version=2010-05-08", "iam", "InvalidAction"),
    ("Action=ListUsers&Version=2011-06-15", "iam", "SignatureDoesNotMatch"),
    ("Action=ListUsers", "iam", "InvalidAction"),
    ("Action=ListUsers&Version=2020-01-01", "iam", "InvalidAction"),
    ("Version=2010-05-08", "iam", "MissingAction"),
    ("Action=DecodeAuthorizationMessage&Version=2011-06-15", "sts", "InvalidAction"),
):
    answer = post(sign(body, service, key=VICTIMS[1]), body)
    assert answer[1] == code, (body, answer)
for target in ("CodeCommit_20150413.ListThings", "DynamoDB_20120810.ListTables"):
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = sign("{}", "codecommit", headers=headers, key=VICTIMS[1])
    status, _, text = post(request, "{}")
    answer = json.loads(text)
    assert status == 400 and answer["__type"] == "UnknownOperationException" and target.split(".")[1] in answer["message"], text
status, _, text = send("POST", "/", [("Host", HOST), ("X-Amz-Target", "CodeCommit_20150413.GetBranch")], "{}")
assert (status, json.loads(text)["__type"]) == (403, "MissingAuthenticationTokenException"), text
# Methods, bodies without end, compressed bodies.
assert send("DELETE", "/", [("Host", HOST)])[0] == 405
assert send("POST", "/", [("Host", HOST)], b"A" * ((1 << 20) + 1))[0] == 400
body = "Action=ListUsers&Version=2010-05-08&" + "&".join(f"P{number}=x" for number in range(3000))
expect(post(sign(body, "iam", key=VICTIMS[1]), body), 404, "MalformedQueryString")
body = "Action=GetUser&Version=2010-05-08&UserName=" + "x" * 500_000
expect(post(sign(body, "iam", key=VICTIMS[1]), body), 400, "ValidationError")
deep = "Action=TagUser&Version=2010-05-08&" + ".".join(["a"] * 5000) + "=x"
expect(post(sign(deep, "iam", key=VICTIMS[1]), deep), 404, "MalformedQueryString")

# A policy of 10 KB whose wildcards mean harm costs a bounded time, asked about or in force.
pattern = "*a" * 60
hostile = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Deny", "Action": "iam:ListUsers", "Resource": "*",
     "Condition": {"StringLike": {"aws:UserAgent": [f"{pattern}{number}b" for number in range(75)]}}}]}, separators=(",", ":"))
assert 9_000 < len(hostile) < 10_240, len(hostile)
began = time.monotonic()
answer = iam.simulate_custom_policy(
    PolicyInputList=[hostile], ActionNames=["iam:ListUsers"],
    ContextEntries=[{"ContextKeyName": "aws:UserAgent", "ContextKeyValues": ["a" * 2000], "ContextKeyType": "string"}])
assert answer["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"
assert time.monotonic() - began < 5, time.monotonic() - began
refused(
    "InvalidInput", iam.simulate_custom_policy, PolicyInputList=[hostile] * 10, ActionNames=[f"iam:A{n}" for n in range(100)],
    ContextEntries=[{"ContextKeyName": "aws:UserAgent", "ContextKeyValues": ["a" * 2000] * 10, "ContextKeyType": "stringList"}])
refused("InvalidInput", iam.simulate_custom_policy, PolicyInputList=[hostile], ActionNames=["iam:A"] * 40, ResourceArns=["*"] * 40)
iam.create_role(RoleName="slow", AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/administrator"}))
iam.put_role_policy(RoleName="slow", PolicyName="slow", PolicyDocument=hostile)
slow = client("sts").assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/slow", RoleSessionName="slow")["Credentials"]
began = time.monotonic()
for _ in range(10):
    refused("AccessDenied", client("iam", slow, user_agent="a" * 2000).list_users)
assert time.monotonic() - began < 10, time.monotonic() - began

# A client that asks for more than its rate is told to slow down.
quick = user(iam, "quick", document("Allow", "iam:GetUser"))
body = "Action=GetUser&Version=2010-05-08"
request = sign(body, "iam", key=quick)
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    codes = list(threads.map(lambda _: post(request, body)[1], range(1600)))
assert set(codes) == {None, "Throttling"} and codes.count(None) >= 200, (codes.count(None), codes.count("Throttling"))
print("attacks are refused")
