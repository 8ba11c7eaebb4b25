"""A region that receives the account answers reads, and names the place of writes."""

import os
import time

from client import ACCOUNT, client, refused

there = os.environ["REPLICA"]
iam = client("iam")
iam.create_user(UserName="ann")
key = iam.create_access_key(UserName="ann")["AccessKey"]
remote = client("iam", endpoint=there)
deadline = time.monotonic() + 60
while "ann" not in [one["UserName"] for one in remote.list_users()["Users"]]:
    assert time.monotonic() < deadline, "the account does not arrive"
    time.sleep(0.2)
said = refused("UnmodifiableEntity", remote.create_user, UserName="bob")
assert "us-east-1" in said and os.environ["ENDPOINT"] in said, said
# Signatures for IAM are of us-east-1 in every region, and those for STS of the region or of us-east-1.
for region in ("us-east-1", "eu-west-1"):
    while True:
        try:
            found = client("sts", key, endpoint=there, region=region).get_caller_identity()
            break
        except Exception:
            assert time.monotonic() < deadline, "the key does not arrive"
            time.sleep(2)
    assert found["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann", found
refused("SignatureDoesNotMatch", client("sts", key, region="eu-west-1").get_caller_identity)
print("the replica answers")
