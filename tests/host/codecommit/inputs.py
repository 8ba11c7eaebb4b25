"""A table of bad inputs from botocore's model: missing members, wrong types, unknown repositories; and rights."""

import json
import sys

from client import ACCOUNT, ADMINISTRATOR, COMMITS, MODEL, REGION, Raw, client, refused

served = set(sys.argv[1:])
raw = Raw()
ARN = f"arn:aws:codecommit:{REGION}:{ACCOUNT}:none"
GOOD = {
    "repositoryName": "none", "oldName": "none", "newName": "other", "branchName": "b", "defaultBranchName": "b",
    "commitId": COMMITS[0], "commitIds": [COMMITS[0]], "blobId": COMMITS[2], "resourceArn": ARN, "tags": {"a": "b"},
    "tagKeys": ["a"], "kmsKeyId": "k", "repositoryNames": ["none"], "folderPath": "p", "afterCommitSpecifier": "b",
    "filePath": "a", "fileContent": "YQ==", "parentCommitId": COMMITS[0], "sourceCommitSpecifier": "a",
    "destinationCommitSpecifier": "b",
}
# Members that the service requires, and the model does not.
ALSO_REQUIRED = {"GetBranch": ["repositoryName", "branchName"]}
# Members for which the model has no exception.
WITHOUT_EXCEPTION = {("ListFileCommitHistory", "filePath")}
# Operations of this boto3 that are newer than the model of the host.
NEWER = {"GetBlobDifferences"}
# A value of another type for each.
WRONG = {"string": 7, "list": "x", "map": ["x"], "structure": "x", "boolean": "true", "integer": "1", "long": "1", "blob": 7}

for name in MODEL.operation_names:
    if name in NEWER:
        assert raw(name, {}, model=False)[1]["__type"] == "UnknownOperationException", name
        continue
    if name not in served:
        status, answer = raw(name, {})
        assert (status, answer["__type"]) == (501, "NotImplementedException") and name in answer["message"], answer
        continue
    model = MODEL.operation_model(name)
    shape = model.input_shape
    required = ALSO_REQUIRED.get(name, shape.required_members)
    good = {member: GOOD[member] for member in required}
    codes = {error.name for error in model.error_shapes}
    for member in required:
        status, answer = raw(name, {key: value for key, value in good.items() if key != member})
        said = answer["__type"]
        if (name, member) in WITHOUT_EXCEPTION:
            assert said == "ValidationException", (name, member, answer)
            continue
        assert said in codes and said.endswith("RequiredException"), (name, member, answer)
        # The exception is about this member.
        about = {"repositoryName": "RepositoryName", "oldName": "RepositoryName", "newName": "RepositoryName"}
        word = about.get(member, member[0].upper() + member[1:].replace("default", "").replace("Ids", "").replace("Keys", "Key"))
        word = {"DefaultBranchName": "BranchName", "KmsKeyId": "EncryptionKey", "Tags": "TagsMap", "FilePath": "Path", "FolderPath": "Path"}.get(word, word)
        word = "Commit" if member.endswith("CommitSpecifier") else word
        assert said.startswith(word), (name, member, said)
    for member, of in shape.members.items():
        status, answer = raw(name, {**good, member: WRONG[of.type_name]})
        assert answer["__type"] == "SerializationException" and member in answer["message"], (name, member, answer)
    if "RepositoryDoesNotExistException" in codes:
        status, answer = raw(name, {**good, "unknownMember": {"a": [1]}})
        assert answer["__type"] == "RepositoryDoesNotExistException" and "none" in answer["message"], (name, answer)

assert raw("DeleteRepository", {"repositoryName": "none"}) == (200, {})
for body in ("[]", "7", "{", "nothing", '{"repositoryName": "none"', b"\xff{}"):
    status, answer = raw("GetRepository", body)
    assert answer["__type"] == "SerializationException", (body, answer)
for unknown in ("GetThings", "getrepository", "", "X" * 300):
    status, answer = raw(unknown, {}, model=False)
    assert (status, answer["__type"]) == (400, "UnknownOperationException"), answer

# Rights: an action for each operation, on the ARN of the repository, its tags, the tags of a request, and refs.
cc = client()
iam = client(service="iam")


def user(name, *statements):
    iam.create_user(UserName=name)
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    return client(iam.create_access_key(UserName=name)["AccessKey"])


def allow(actions, name="*", **condition):
    resource = "*" if name == "*" else f"arn:aws:codecommit:{REGION}:{ACCOUNT}:{name}"
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


cc.create_repository(repositoryName="web", tags={"team": "web"})
cc.create_repository(repositoryName="ops", tags={"team": "ops"})
app = {"repositoryName": "app"}
ann = user(
    "ann",
    allow("codecommit:GetRepository", **{"StringEquals": {"aws:ResourceTag/team": "web"}}),
    allow("codecommit:*Branch", "app", **{"StringLikeIfExists": {"codecommit:References": "refs/heads/team/*"}}),
    allow("codecommit:CreateRepository", **{"StringEquals": {"aws:RequestTag/team": "web"}}),
    allow("codecommit:*Resource", "web", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}),
    allow("codecommit:BatchGetRepositories", "web"),
)
ann.get_repository(repositoryName="web")
for name in ("ops", "app", "none"):
    message = refused("AccessDeniedException", ann.get_repository, repositoryName=name)
    assert "codecommit:GetRepository" in message and f":{name}" in message, message
ann.create_branch(branchName="team/x", commitId=COMMITS[0], **app)
refused("AccessDeniedException", ann.create_branch, branchName="x", commitId=COMMITS[0], **app)
refused("AccessDeniedException", ann.delete_branch, branchName="b1", **app)
assert ann.get_branch(branchName="team/x", **app)["branch"]["commitId"] == COMMITS[0]
ann.delete_branch(branchName="team/x", **app)
ann.create_repository(repositoryName="web2", tags={"team": "web"})
refused("AccessDeniedException", ann.create_repository, repositoryName="web3", tags={"team": "ops"})
refused("AccessDeniedException", ann.create_repository, repositoryName="web3")
web = f"arn:aws:codecommit:{REGION}:{ACCOUNT}:web"
ann.tag_resource(resourceArn=web, tags={"team": "web"})
refused("AccessDeniedException", ann.tag_resource, resourceArn=web, tags={"team": "web", "other": ""})
refused("AccessDeniedException", ann.untag_resource, resourceArn=web, tagKeys=["other"])
ann.untag_resource(resourceArn=web, tagKeys=["team"])
refused("AccessDeniedException", ann.get_repository, repositoryName="web")
ann.batch_get_repositories(repositoryNames=["web"])
refused("AccessDeniedException", ann.batch_get_repositories, repositoryNames=["web", "none"])
refused("AccessDeniedException", ann.list_repositories)
# A bad input is told before a right that is missing, and nothing of a repository is.
status, answer = Raw({**ADMINISTRATOR, "SecretAccessKey": "x"})("GetRepository", app, model=False)
assert answer["__type"] == "InvalidSignatureException", answer
print("inputs and rights hold")
