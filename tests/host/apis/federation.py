"""A provider, and a role for the jobs of one repository."""

import sys

from client import ACCOUNT, client, trust

issuer = sys.argv[1]
iam = client("iam")
iam.create_open_id_connect_provider(Url=f"https://{issuer}", ClientIDList=["gitferry"], ThumbprintList=["0" * 40])
conditions = {
    "StringEquals": {f"{issuer}:aud": "gitferry"},
    "StringLike": {f"{issuer}:sub": "repo:team/app:*"},
}
federated = {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}"}
document = trust(federated, "sts:AssumeRoleWithWebIdentity", Condition=conditions)
iam.create_role(RoleName="ci", AssumeRolePolicyDocument=document)
iam.attach_role_policy(RoleName="ci", PolicyArn="arn:aws:iam::aws:policy/AWSCodeCommitPowerUser")
