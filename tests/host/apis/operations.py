"""Each operation of IAM and STS once at least, through boto3."""

import json
import sys

from client import ACCOUNT, called, client, document, refused, trust

iam = client("iam")
sts = client("sts")
POWER_USER = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIhz2GK/XCUj4i6Q5yQJNL1MKMY0RxzPV2QrBqfHrDq ann@example.com"

# Users, tags, boundaries.
made = iam.create_user(UserName="ann", Path="/people/", Tags=[{"Key": "team", "Value": "infra + more"}])["User"]
assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/people/ann" and made["UserId"].startswith("AIDA"), made
assert iam.get_user(UserName="ann")["User"] == made
assert iam.get_user()["User"]["UserName"] == "administrator"
refused("EntityAlreadyExists", iam.create_user, UserName="Ann")
refused("ValidationError", iam.create_user, UserName="a b")
refused("NoSuchEntity", iam.get_user, UserName="nobody")
assert [one["UserName"] for one in iam.list_users(PathPrefix="/people/")["Users"]] == ["ann"]
iam.tag_user(UserName="ann", Tags=[{"Key": "cost", "Value": "7"}])
iam.untag_user(UserName="ann", TagKeys=["cost"])
assert iam.list_user_tags(UserName="ann")["Tags"] == made["Tags"]
iam.put_user_permissions_boundary(UserName="ann", PermissionsBoundary=POWER_USER)
assert iam.get_user(UserName="ann")["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == POWER_USER
iam.delete_user_permissions_boundary(UserName="ann")
iam.update_user(UserName="ann", NewPath="/staff/", NewUserName="anna")
iam.update_user(UserName="anna", NewPath="/people/", NewUserName="ann")
assert iam.get_user(UserName="ann")["User"] == made

# Groups.
group = iam.create_group(GroupName="devs")["Group"]
iam.add_user_to_group(GroupName="devs", UserName="ann")
answer = iam.get_group(GroupName="devs")
assert answer["Group"] == group and [one["UserName"] for one in answer["Users"]] == ["ann"], answer
assert iam.list_groups_for_user(UserName="ann")["Groups"] == [group]
iam.update_group(GroupName="devs", NewGroupName="developers", NewPath="/eng/")
assert [one["Path"] for one in iam.list_groups(PathPrefix="/eng/")["Groups"]] == ["/eng/"]

# Managed policies and their versions.
read = document("Allow", "codecommit:GitPull")
policy = iam.create_policy(PolicyName="read", PolicyDocument=read, Description="reads & <\"x\"> \u00e4\r\n", Tags=[{"Key": "a", "Value": "b"}])
arn = policy["Policy"]["Arn"]
assert iam.get_policy(PolicyArn=arn)["Policy"]["Description"] == "reads & <\"x\"> \u00e4\r\n"
version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=document("Allow", "codecommit:Git*"), SetAsDefault=True)
assert version["PolicyVersion"]["VersionId"] == "v2" and version["PolicyVersion"]["IsDefaultVersion"], version
assert iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"] == json.loads(read)
assert [one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v2", "v1"]
refused("DeleteConflict", iam.delete_policy_version, PolicyArn=arn, VersionId="v2")
iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
refused("NoSuchEntity", iam.get_policy_version, PolicyArn=arn, VersionId="v2")
refused("MalformedPolicyDocument", iam.create_policy, PolicyName="bad", PolicyDocument="{}")
refused("UnmodifiableEntity", iam.delete_policy, PolicyArn=POWER_USER)
assert iam.get_policy_version(PolicyArn=POWER_USER, VersionId="v1")["PolicyVersion"]["IsDefaultVersion"]
iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "c", "Value": "d"}])
iam.untag_policy(PolicyArn=arn, TagKeys=["a"])
assert iam.list_policy_tags(PolicyArn=arn)["Tags"] == [{"Key": "c", "Value": "d"}]
assert [one["Arn"] for one in iam.list_policies(Scope="Local")["Policies"]] == [arn]
assert len(iam.list_policies(Scope="AWS")["Policies"]) == 4

# Roles.
role = iam.create_role(
    RoleName="deploy",
    AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
    Description="deploys",
    MaxSessionDuration=7200,
    Tags=[{"Key": "stage", "Value": "prod"}],
)["Role"]
assert role["AssumeRolePolicyDocument"]["Statement"][0]["Action"] == "sts:AssumeRole", role
assert iam.get_role(RoleName="deploy")["Role"]["MaxSessionDuration"] == 7200
iam.update_role(RoleName="deploy", Description="", MaxSessionDuration=3600)
assert "Description" not in iam.get_role(RoleName="deploy")["Role"]
assert iam.update_role_description(RoleName="deploy", Description="again")["Role"]["Description"] == "again"
by_ann = trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/people/ann"}, ["sts:AssumeRole", "sts:SetSourceIdentity"])
iam.update_assume_role_policy(RoleName="deploy", PolicyDocument=by_ann)
refused(
    "MalformedPolicyDocument",
    iam.update_assume_role_policy,
    RoleName="deploy",
    PolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/nobody"}),
)
iam.tag_role(RoleName="deploy", Tags=[{"Key": "x", "Value": "y"}])
iam.untag_role(RoleName="deploy", TagKeys=["x"])
assert iam.list_role_tags(RoleName="deploy")["Tags"] == [{"Key": "stage", "Value": "prod"}]
iam.put_role_permissions_boundary(RoleName="deploy", PermissionsBoundary=arn)
iam.delete_role_permissions_boundary(RoleName="deploy")
assert [one["RoleName"] for one in iam.list_roles()["Roles"]] == ["deploy"]
assert iam.list_instance_profiles_for_role(RoleName="deploy")["InstanceProfiles"] == []

# Policies of each kind of entity.
for kind, key, name in [("user", "UserName", "ann"), ("group", "GroupName", "developers"), ("role", "RoleName", "deploy")]:
    call = lambda verb, what="", **more: getattr(iam, f"{verb}_{kind}_{what or 'policy'}")(**{key: name}, **more)
    call("attach", PolicyArn=arn)
    call("attach", PolicyArn=POWER_USER)
    attached = getattr(iam, f"list_attached_{kind}_policies")(**{key: name})["AttachedPolicies"]
    assert {one["PolicyName"] for one in attached} == {"read", "AWSCodeCommitPowerUser"}, attached
    call("put", PolicyName="own", PolicyDocument=read)
    assert call("get", PolicyName="own")["PolicyDocument"] == json.loads(read)
    assert getattr(iam, f"list_{kind}_policies")(**{key: name})["PolicyNames"] == ["own"]
    refused("NoSuchEntity", call, "get", PolicyName="other")
    call("detach", PolicyArn=POWER_USER)
    refused("NoSuchEntity", call, "detach", PolicyArn=POWER_USER)
entities = iam.list_entities_for_policy(PolicyArn=arn)
assert [len(entities[kind]) for kind in ("PolicyGroups", "PolicyUsers", "PolicyRoles")] == [1, 1, 1], entities
assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 3
refused("DeleteConflict", iam.delete_policy, PolicyArn=arn)

# Credentials.
key = iam.create_access_key(UserName="ann")["AccessKey"]
assert len(key["SecretAccessKey"]) == 40 and key["Status"] == "Active", key
iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
assert [one["Status"] for one in iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]] == ["Inactive"]
refused("InvalidClientTokenId", client("sts", key).get_caller_identity)
iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Active")
iam.create_access_key(UserName="ann")
refused("LimitExceeded", iam.create_access_key, UserName="ann")
assert iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["UserName"] == "ann"
ssh = iam.upload_ssh_public_key(UserName="ann", SSHPublicKeyBody=SSH_KEY)["SSHPublicKey"]
assert iam.get_ssh_public_key(UserName="ann", SSHPublicKeyId=ssh["SSHPublicKeyId"], Encoding="SSH")["SSHPublicKey"] == ssh
refused("DuplicateSSHPublicKey", iam.upload_ssh_public_key, UserName="ann", SSHPublicKeyBody=SSH_KEY)
iam.update_ssh_public_key(UserName="ann", SSHPublicKeyId=ssh["SSHPublicKeyId"], Status="Inactive")
assert [one["Status"] for one in iam.list_ssh_public_keys(UserName="ann")["SSHPublicKeys"]] == ["Inactive"]
service = {"UserName": "ann", "ServiceName": "codecommit.amazonaws.com"}
git = iam.create_service_specific_credential(**service)["ServiceSpecificCredential"]
assert git["ServiceUserName"] == f"ann-at-{ACCOUNT}", git
refused("NotSupportedService", iam.create_service_specific_credential, UserName="ann", ServiceName="cassandra.amazonaws.com")
which = {"UserName": "ann", "ServiceSpecificCredentialId": git["ServiceSpecificCredentialId"]}
reset = iam.reset_service_specific_credential(**which)["ServiceSpecificCredential"]
assert reset["ServicePassword"] != git["ServicePassword"] and reset["ServiceUserName"] == git["ServiceUserName"]
iam.update_service_specific_credential(Status="Inactive", **which)
listed = iam.list_service_specific_credentials(UserName="ann")["ServiceSpecificCredentials"]
assert [one["Status"] for one in listed] == ["Inactive"], listed

# OpenID Connect providers.
provider = iam.create_open_id_connect_provider(
    Url="https://token.actions.githubusercontent.com",
    ClientIDList=["sts.amazonaws.com"],
    ThumbprintList=["6938fd4d98bab03faadb97b34396831e3780aea1"],
    Tags=[{"Key": "a", "Value": "b"}],
)["OpenIDConnectProviderArn"]
iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=provider, ClientID="other")
iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=provider, ClientID="sts.amazonaws.com")
iam.update_open_id_connect_provider_thumbprint(OpenIDConnectProviderArn=provider, ThumbprintList=["0" * 40])
found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider)
assert (found["ClientIDList"], found["ThumbprintList"]) == (["other"], ["0" * 40]), found
iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=provider, Tags=[{"Key": "c", "Value": "d"}])
iam.untag_open_id_connect_provider(OpenIDConnectProviderArn=provider, TagKeys=["a"])
assert iam.list_open_id_connect_provider_tags(OpenIDConnectProviderArn=provider)["Tags"] == [{"Key": "c", "Value": "d"}]
assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == [{"Arn": provider}]

# The account.
summary = iam.get_account_summary()["SummaryMap"]
assert (summary["Users"], summary["Groups"], summary["UsersQuota"]) == (2, 2, 5000), summary
details = iam.get_account_authorization_details()
ann = next(one for one in details["UserDetailList"] if one["UserName"] == "ann")
assert ann["GroupList"] == ["developers"] and ann["UserPolicyList"][0]["PolicyDocument"] == json.loads(read), ann
assert [one["RoleName"] for one in details["RoleDetailList"]] == ["deploy"], details
only = iam.get_account_authorization_details(Filter=["LocalManagedPolicy"])
assert not only["UserDetailList"] and [one["PolicyName"] for one in only["Policies"]] == ["read"], only
iam.create_account_alias(AccountAlias="our-account")
assert iam.list_account_aliases()["AccountAliases"] == ["our-account"]
refused("NoSuchEntity", iam.delete_account_alias, AccountAlias="other")
iam.delete_account_alias(AccountAlias="our-account")
refused("NoSuchEntity", iam.get_account_password_policy)

# Simulations, which name the statement that decides.
deny = document("Deny", "codecommit:GitPush", Condition={"StringEquals": {"codecommit:References": "refs/heads/prod"}})
result = iam.simulate_custom_policy(
    PolicyInputList=[document("Allow", "codecommit:*"), deny],
    ActionNames=["codecommit:GitPush", "codecommit:GitPull"],
    ContextEntries=[
        {"ContextKeyName": "codecommit:References", "ContextKeyValues": ["refs/heads/prod"], "ContextKeyType": "string"}
    ],
)["EvaluationResults"]
assert [one["EvalDecision"] for one in result] == ["explicitDeny", "allowed"], result
matched, = result[0]["MatchedStatements"]
assert matched["SourcePolicyId"] == "PolicyInputList.2" and matched["StartPosition"]["Line"] == 1, matched
start, end = matched["StartPosition"]["Column"], matched["EndPosition"]["Column"]
assert json.loads(deny[start - 1 : end])["Effect"] == "Deny"
source = f"arn:aws:iam::{ACCOUNT}:user/people/ann"
result = iam.simulate_principal_policy(
    PolicySourceArn=source, ActionNames=["codecommit:GitPull", "codecommit:GitPush"], ResourceArns=["*"]
)["EvaluationResults"]
assert [one["EvalDecision"] for one in result] == ["allowed", "implicitDeny"], result
bounded = iam.simulate_principal_policy(
    PolicySourceArn=source,
    ActionNames=["codecommit:GitPull"],
    PermissionsBoundaryPolicyInputList=[document("Allow", "iam:*")],
)["EvaluationResults"][0]
assert bounded["EvalDecision"] == "implicitDeny", bounded
assert bounded["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}, bounded
keys = iam.get_context_keys_for_custom_policy(PolicyInputList=[deny])["ContextKeyNames"]
assert keys == ["codecommit:References"], keys
iam.get_context_keys_for_principal_policy(PolicySourceArn=source)

# Pages.
for number in range(7):
    iam.create_user(UserName=f"page-{number}")
pages = list(iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 3}))
names = [one["UserName"] for page in pages for one in page["Users"]]
assert names == sorted(names) and len(names) == 9 and [len(page["Users"]) for page in pages] == [3, 3, 3], names
refused("ValidationError", iam.list_users, Marker="*")
for number in range(7):
    iam.delete_user(UserName=f"page-{number}")

# Things that an account never has.
for call in (iam.list_mfa_devices, iam.list_signing_certificates):
    call(UserName="ann")
iam.list_virtual_mfa_devices()
iam.list_instance_profiles()
refused("NoSuchEntity", iam.get_login_profile, UserName="ann")
refused("NoSuchEntity", iam.delete_login_profile, UserName="ann")

# STS.
me = sts.get_caller_identity()
assert (me["Account"], me["Arn"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/administrator"), me
assert sts.get_access_key_info(AccessKeyId=key["AccessKeyId"])["Account"] == ACCOUNT
session = sts.get_session_token(DurationSeconds=900)["Credentials"]
assert client("sts", session).get_caller_identity()["Arn"] == me["Arn"]
refused("InvalidClientTokenId", client("iam", session).list_users)
refused("AccessDenied", client("sts", session).get_session_token)
ann_sts = client("sts", key)
assumed = ann_sts.assume_role(
    RoleArn=f"arn:aws:iam::{ACCOUNT}:role/deploy",
    RoleSessionName="build-7",
    Policy=document("Allow", "codecommit:GitPull"),
    PolicyArns=[{"arn": POWER_USER}],
    DurationSeconds=900,
    SourceIdentity="ann",
)
assert assumed["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/build-7", assumed
assert client("sts", assumed["Credentials"]).get_caller_identity()["UserId"].endswith(":build-7")

# Everything is taken apart again.
refused("DeleteConflict", iam.delete_user, UserName="ann")
iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)
for kind, key_name, name in [("user", "UserName", "ann"), ("group", "GroupName", "developers"), ("role", "RoleName", "deploy")]:
    getattr(iam, f"detach_{kind}_policy")(**{key_name: name}, PolicyArn=arn)
    getattr(iam, f"delete_{kind}_policy")(**{key_name: name}, PolicyName="own")
for one in iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]:
    iam.delete_access_key(UserName="ann", AccessKeyId=one["AccessKeyId"])
iam.delete_ssh_public_key(UserName="ann", SSHPublicKeyId=ssh["SSHPublicKeyId"])
iam.delete_service_specific_credential(**which)
iam.remove_user_from_group(GroupName="developers", UserName="ann")
iam.delete_user(UserName="ann")
iam.delete_group(GroupName="developers")
iam.delete_role(RoleName="deploy")
iam.delete_policy(PolicyArn=arn)
refused("NoSuchEntity", iam.get_user, UserName="ann")
refused("InvalidClientTokenId", client("sts", assumed["Credentials"]).get_caller_identity)

# Every operation of the tables has answered: with a result, or with the error that is its only answer.
only_errors = {"DeleteLoginProfile", "GetLoginProfile", "GetAccountPasswordPolicy"}
elsewhere = {"AssumeRoleWithWebIdentity"}
for operation in sys.argv[1:]:
    expected = "error" if operation in only_errors else "result"
    assert operation in elsewhere or expected in called.get(operation, ()), f"{operation} was not called"
print("all operations answered:", len(called))
