"""Policies decide on every call: the resources, the condition keys and the ways to more rights."""

import json

from client import ACCOUNT, client, document, refused, trust, user

iam = client("iam")
of = lambda kind, name: f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"

# Without a policy nothing, but the question who one is.
nobody = user(iam, "nobody")
assert client("sts", nobody).get_caller_identity()["Arn"] == of("user", "nobody")
said = refused("AccessDenied", client("iam", nobody).list_users)
assert said == (
    f"User: {of('user', 'nobody')} is not authorized to perform: iam:ListUsers on resource: {of('user', '')} "
    "because no identity-based policy allows the iam:ListUsers action"
), said
# The answer does not tell who exists.
hidden = [refused("AccessDenied", client("iam", nobody).get_user, UserName=name) for name in ("administrator", "missing")]
assert hidden[0].replace("user/administrator", "user/missing") == hidden[1], hidden
# A denial wins, also over the question of the administrator's rights.
iam.put_user_policy(UserName="nobody", PolicyName="x", PolicyDocument=document("Deny", "iam:ListUsers"))
iam.attach_user_policy(UserName="nobody", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
said = refused("AccessDenied", client("iam", nobody).list_users)
assert said.endswith("with an explicit deny in an identity-based policy"), said
client("iam", nobody).list_groups()

# Users manage their own credentials, as the managed policies of CodeCommit allow it.
bob = user(iam, "bob")
iam.attach_user_policy(UserName="bob", PolicyArn="arn:aws:iam::aws:policy/AWSCodeCommitPowerUser")
own = client("iam", bob)
git = own.create_service_specific_credential(UserName="bob", ServiceName="codecommit.amazonaws.com")
own.list_service_specific_credentials()
own.reset_service_specific_credential(
    ServiceSpecificCredentialId=git["ServiceSpecificCredential"]["ServiceSpecificCredentialId"]
)
refused("AccessDenied", own.create_service_specific_credential, UserName="nobody", ServiceName="codecommit.amazonaws.com")

# Paths are part of the resource, and a user is not moved out of them.
lead = user(iam, "lead", document("Allow", "iam:*", of("user", "dev/*")))
led = client("iam", lead)
led.create_user(UserName="new", Path="/dev/")
refused("AccessDenied", led.create_user, UserName="other", Path="/ops/")
refused("AccessDenied", led.create_user, UserName="other")
refused("AccessDenied", led.update_user, UserName="new", NewPath="/ops/")
led.update_user(UserName="new", NewUserName="newer")
refused("AccessDenied", led.get_user, UserName="bob")

# Only these policies are attached, and only below this boundary.
read_only = "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly"
administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
rights = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["iam:AttachUserPolicy", "iam:DetachUserPolicy"], "Resource": "*",
     "Condition": {"ArnEquals": {"iam:PolicyARN": read_only}}},
    {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:PutUserPolicy", "iam:PutUserPermissionsBoundary"], "Resource": "*",
     "Condition": {"StringEquals": {"iam:PermissionsBoundary": read_only}}},
]})
helper = client("iam", user(iam, "helper", rights))
helper.attach_user_policy(UserName="bob", PolicyArn=read_only)
refused("AccessDenied", helper.attach_user_policy, UserName="bob", PolicyArn=administrator)
helper.create_user(UserName="bounded", PermissionsBoundary=read_only)
refused("AccessDenied", helper.create_user, UserName="free")
refused("AccessDenied", helper.create_user, UserName="free", PermissionsBoundary=administrator)
helper.put_user_policy(UserName="bounded", PolicyName="all", PolicyDocument=document("Allow", "*"))
refused("AccessDenied", helper.put_user_policy, UserName="bob", PolicyName="all", PolicyDocument=document("Allow", "*"))
refused("AccessDenied", helper.put_user_permissions_boundary, UserName="bounded", PermissionsBoundary=administrator)
refused("AccessDenied", helper.delete_user_permissions_boundary, UserName="bounded")
bounded = client("iam", iam.create_access_key(UserName="bounded")["AccessKey"])
said = refused("AccessDenied", bounded.create_user, UserName="more")
assert said.endswith("because no permissions boundary allows the iam:CreateUser action"), said

# Tags of the request and of the resource.
rights = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:TagUser"], "Resource": "*",
     "Condition": {"StringEquals": {"aws:RequestTag/team": "a"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}},
    {"Effect": "Allow", "Action": "iam:DeleteUser", "Resource": "*",
     "Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}},
]})
tagger = client("iam", user(iam, "tagger", rights))
tagger.create_user(UserName="tagged", Tags=[{"Key": "team", "Value": "a"}])
refused("AccessDenied", tagger.create_user, UserName="x", Tags=[{"Key": "team", "Value": "b"}])
refused("AccessDenied", tagger.create_user, UserName="x", Tags=[{"Key": "team", "Value": "a"}, {"Key": "admin", "Value": "1"}])
refused("AccessDenied", tagger.create_user, UserName="x")
refused("AccessDenied", tagger.delete_user, UserName="bounded")
tagger.delete_user(UserName="tagged")
# Tags at creation need the right to tag.
creator = client("iam", user(iam, "creator", document("Allow", "iam:CreateUser")))
said = refused("AccessDenied", creator.create_user, UserName="x", Tags=[{"Key": "team", "Value": "a"}])
assert "iam:TagUser" in said, said

# A trust policy lets its principals assume the role, and grants nothing else on it.
mallory = user(iam, "mallory")
iam.create_role(RoleName="power", AssumeRolePolicyDocument=trust({"AWS": of("user", "mallory")}, ["sts:*"]))
iam.attach_role_policy(RoleName="power", PolicyArn="arn:aws:iam::aws:policy/AWSCodeCommitPowerUser")
evil = client("iam", mallory)
for call, more in [
    (evil.update_assume_role_policy, {"PolicyDocument": trust({"AWS": "*"})}),
    (evil.attach_role_policy, {"PolicyArn": administrator}),
    (evil.put_role_policy, {"PolicyName": "x", "PolicyDocument": document("Allow", "*")}),
    (evil.get_role, {}),
]:
    refused("AccessDenied", call, RoleName="power", **more)
session = client("sts", mallory).assume_role(RoleArn=of("role", "power"), RoleSessionName="evil")["Credentials"]
# Nor may the session change the trust policy of its own role, or assume another that trusts the account alone.
refused("AccessDenied", client("iam", session).update_assume_role_policy, RoleName="power", PolicyDocument=trust({"AWS": "*"}))
iam.create_role(RoleName="admin", AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))
iam.attach_role_policy(RoleName="admin", PolicyArn=administrator)
for who in (session, mallory):
    refused("AccessDenied", client("sts", who).assume_role, RoleArn=of("role", "admin"), RoleSessionName="evil")
# A role that trusts itself by name is assumed by its sessions alone.
iam.create_role(RoleName="self", AssumeRolePolicyDocument=trust({"AWS": of("user", "administrator")}))
iam.update_assume_role_policy(RoleName="self", PolicyDocument=trust({"AWS": of("role", "self")}))
for who in (session, mallory):
    refused("AccessDenied", client("sts", who).assume_role, RoleArn=of("role", "self"), RoleSessionName="evil")
# A user deleted and made anew is not the one that was trusted.
for one in iam.list_access_keys(UserName="mallory")["AccessKeyMetadata"]:
    iam.delete_access_key(UserName="mallory", AccessKeyId=one["AccessKeyId"])
iam.delete_user(UserName="mallory")
again = user(iam, "mallory")
refused("AccessDenied", client("sts", again).assume_role, RoleArn=of("role", "power"), RoleSessionName="evil")

# The confused deputy: without the external id nobody gets the role, and with another one neither.
deputy = client("sts", user(iam, "deputy", document("Allow", "sts:AssumeRole")))
iam.create_role(
    RoleName="customer",
    AssumeRolePolicyDocument=trust(
        {"AWS": of("user", "deputy")}, Condition={"StringEquals": {"sts:ExternalId": "customer-42"}}
    ),
)
role = {"RoleArn": of("role", "customer"), "RoleSessionName": "work"}
refused("AccessDenied", deputy.assume_role, **role)
refused("AccessDenied", deputy.assume_role, ExternalId="customer-43", **role)
deputy.assume_role(ExternalId="customer-42", **role)
# A role that does not exist and one that does not trust look the same.
hidden = [
    refused("AccessDenied", deputy.assume_role, RoleArn=of("role", name), RoleSessionName="work") for name in ("power", "missing")
]
assert hidden[0].replace("role/power", "role/missing") == hidden[1], hidden

# Sessions have what role and session policies both allow, and end with their role.
iam.put_role_policy(RoleName="customer", PolicyName="iam", PolicyDocument=document("Allow", "iam:List*"))
limited = deputy.assume_role(ExternalId="customer-42", Policy=document("Allow", "iam:ListUsers"), **role)["Credentials"]
session = client("iam", limited)
session.list_users()
said = refused("AccessDenied", session.list_groups)
assert said.endswith("because no session policy allows the iam:ListGroups action"), said
iam.delete_role_policy(RoleName="customer", PolicyName="iam")
iam.delete_role(RoleName="customer")
refused("InvalidClientTokenId", session.list_users)
iam.create_role(RoleName="customer", AssumeRolePolicyDocument=trust({"AWS": of("user", "deputy")}))
refused("InvalidClientTokenId", session.list_users)
print("rights hold")
