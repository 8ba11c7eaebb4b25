"""Each operation that is served, through boto3, and what other regions see of it."""

import sys
import time

from client import ACCOUNT, COMMITS, REGION, REPLICA, REPLICA_REGION, client, judged, refused

first, second, blob = COMMITS
cc = client()
arn = f"arn:aws:codecommit:{REGION}:{ACCOUNT}:"

# Repositories.
made = cc.create_repository(repositoryName="new", repositoryDescription="a <\"b\">\n\u00e4", tags={"team": "infra", "e": ""})
made = made["repositoryMetadata"]
assert made["Arn"] == arn + "new" and made["accountId"] == ACCOUNT and "defaultBranch" not in made, made
assert made["cloneUrlHttp"].endswith("/clone/new") and "cloneUrlSsh" not in made and "kmsKeyId" not in made, made
assert made["repositoryDescription"] == "a <\"b\">\n\u00e4" and made["creationDate"] <= made["lastModifiedDate"], made
assert cc.get_repository(repositoryName="new")["repositoryMetadata"] == made
refused("RepositoryNameExistsException", cc.create_repository, repositoryName="new")
refused("InvalidRepositoryNameException", cc.create_repository, repositoryName="new.git")
refused("InvalidRepositoryNameException", cc.create_repository, repositoryName="..")
refused("EncryptionKeyInvalidUsageException", cc.create_repository, repositoryName="x", kmsKeyId="k")
cc.update_repository_description(repositoryName="new", repositoryDescription="other")
assert cc.get_repository(repositoryName="new")["repositoryMetadata"]["repositoryDescription"] == "other"
cc.update_repository_description(repositoryName="new")
assert "repositoryDescription" not in cc.get_repository(repositoryName="new")["repositoryMetadata"]
refused("EncryptionKeyInvalidUsageException", cc.update_repository_encryption_key, repositoryName="new", kmsKeyId="k")
cc.update_repository_name(oldName="new", newName="newer")
refused("RepositoryDoesNotExistException", cc.get_repository, repositoryName="new")
refused("RepositoryNameExistsException", cc.update_repository_name, oldName="newer", newName="app")
renamed = cc.get_repository(repositoryName="newer")["repositoryMetadata"]
assert (renamed["repositoryId"], renamed["creationDate"]) == (made["repositoryId"], made["creationDate"])
# An id is no name: policies decide on names.
refused("RepositoryDoesNotExistException", cc.get_repository, repositoryName=made["repositoryId"])
refused("RepositoryDoesNotExistException", cc.get_repository, repositoryName="gitferry/account")
some = cc.batch_get_repositories(repositoryNames=["app", "none", "newer"])
assert [one["repositoryName"] for one in some["repositories"]] == ["app", "newer"], some
assert some["repositoriesNotFound"] == ["none"] and some["errors"][0]["errorCode"] == "RepositoryDoesNotExistException"
refused("MaximumRepositoryNamesExceededException", cc.batch_get_repositories, repositoryNames=["a"] * 4)

# Tags.
assert cc.list_tags_for_resource(resourceArn=arn + "newer")["tags"] == {"team": "infra", "e": ""}
cc.tag_resource(resourceArn=arn + "newer", tags={"team": "web", "cost": "7"})
cc.untag_resource(resourceArn=arn + "newer", tagKeys=["e", "none"])
assert cc.list_tags_for_resource(resourceArn=arn + "newer")["tags"] == {"team": "web", "cost": "7"}
refused("InvalidSystemTagUsageException", cc.tag_resource, resourceArn=arn + "newer", tags={"aws:a": ""})
refused("TooManyTagsException", cc.tag_resource, resourceArn=arn + "newer", tags={str(n): "" for n in range(49)})
refused("TooManyTagsException", cc.create_repository, repositoryName="x", tags={str(n): "" for n in range(51)})
refused("RepositoryDoesNotExistException", cc.list_tags_for_resource, resourceArn=arn + "none")
for bad in ("newer", arn, arn.replace(REGION, "eu-west-1") + "newer", arn.replace(ACCOUNT, "1" * 12) + "newer"):
    refused("InvalidResourceArnException", cc.list_tags_for_resource, resourceArn=bad)

# Branches.
app = {"repositoryName": "app"}
assert cc.get_repository(**app)["repositoryMetadata"]["defaultBranch"] == "main"
assert cc.get_branch(branchName="main", **app)["branch"] == {"branchName": "main", "commitId": second}
cc.create_branch(branchName="old", commitId=first, **app)
assert cc.get_branch(branchName="old", **app)["branch"]["commitId"] == first
refused("BranchNameExistsException", cc.create_branch, branchName="old", commitId=first, **app)
refused("CommitDoesNotExistException", cc.create_branch, branchName="x", commitId="1" * 40, **app)
refused("CommitDoesNotExistException", cc.create_branch, branchName="x", commitId=blob, **app)
refused("InvalidCommitIdException", cc.create_branch, branchName="x", commitId="main", **app)
refused("InvalidBranchNameException", cc.create_branch, branchName="old/x", commitId=first, **app)
for bad in ("a b", "-x", "a" * 40, "HEAD"):
    refused("InvalidBranchNameException", cc.create_branch, branchName=bad, commitId=first, **app)
message = refused("OperationNotAllowedException", cc.create_branch, branchName="closed/x", commitId=first, **app)
assert "protected ref" in message, message
refused("BranchDoesNotExistException", cc.get_branch, branchName="none", **app)
refused("BranchDoesNotExistException", cc.update_default_branch, defaultBranchName="none", **app)
refused("DefaultBranchCannotBeDeletedException", cc.delete_branch, branchName="main", **app)
for name in ("b1", "b2", "b3"):
    cc.create_branch(branchName=name, commitId=second, **app)
pages = list(cc.get_paginator("list_branches").paginate(**app))
assert [name for page in pages for name in page["branches"]] == ["b1", "b2", "b3", "main", "old"], pages
assert len(pages) == 3, pages
token = pages[0]["nextToken"]
refused("InvalidContinuationTokenException", cc.list_branches, repositoryName="newer", nextToken=token)
refused("InvalidContinuationTokenException", cc.list_repositories, nextToken=token)
cc.update_default_branch(defaultBranchName="old", **app)
cc.update_default_branch(defaultBranchName="old", **app)
assert cc.get_repository(**app)["repositoryMetadata"]["defaultBranch"] == "old"
refused("DefaultBranchCannotBeDeletedException", cc.delete_branch, branchName="old", **app)
assert cc.delete_branch(branchName="main", **app)["deletedBranch"] == {"branchName": "main", "commitId": second}
assert "deletedBranch" not in cc.delete_branch(branchName="main", **app)

# Commits and blobs.
commit = cc.get_commit(commitId=second, **app)["commit"]
assert commit["parents"] == [first] and commit["message"] == "write file", commit
assert commit["author"]["email"] and commit["author"]["date"].count(" ") == 1 and len(commit["treeId"]) == 40, commit
refused("CommitIdDoesNotExistException", cc.get_commit, commitId="1" * 40, **app)
refused("CommitIdDoesNotExistException", cc.get_commit, commitId=blob, **app)
refused("InvalidCommitIdException", cc.get_commit, commitId=first[:10], **app)
batch = cc.batch_get_commits(commitIds=[first, second, first], **app)
assert {one["commitId"] for one in batch["commits"]} == {first, second} and not batch["errors"], batch
batch = cc.batch_get_commits(commitIds=["1" * 40, "x"], **app)
codes = [one["errorCode"] for one in batch["errors"]]
assert codes == ["CommitDoesNotExistException", "InvalidCommitIdException"], batch
refused("CommitIdsLimitExceededException", cc.batch_get_commits, commitIds=[first] * 4, **app)
assert cc.get_blob(blobId=blob, **app)["content"] == b"second\n"
refused("BlobIdDoesNotExistException", cc.get_blob, blobId=first, **app)
refused("InvalidBlobIdException", cc.get_blob, blobId="x", **app)

# Lists.
def listed(**how):
    pages = cc.get_paginator("list_repositories").paginate(**how)
    return [one["repositoryName"] for page in pages for one in page["repositories"]]


cc.create_repository(repositoryName="a.first")
cc.create_repository(repositoryName="zlast")
assert listed() == ["a.first", "app", "newer", "zlast"], listed()
assert listed(order="descending") == ["zlast", "newer", "app", "a.first"]
assert listed(sortBy="lastModifiedDate", order="descending") == ["zlast", "a.first", "app", "newer"]

# Another region has the same, and changes nothing.
there = client(endpoint=REPLICA, region=REPLICA_REGION)
deadline = time.monotonic() + 60
def arrived():
    try:
        found = there.get_repository(**app)["repositoryMetadata"]
        last = there.get_repository(repositoryName="zlast")
        return found.get("defaultBranch") == "old" and bool(last)
    except Exception:
        return False


while not arrived():
    assert time.monotonic() < deadline, "the repositories do not arrive"
    time.sleep(0.1)
here = cc.get_repository(repositoryName="newer")["repositoryMetadata"]
found = there.get_repository(repositoryName="newer")["repositoryMetadata"]
for name in ("repositoryId", "repositoryName", "creationDate", "lastModifiedDate", "accountId"):
    assert here[name] == found[name], name
assert found["Arn"] == f"arn:aws:codecommit:{REPLICA_REGION}:{ACCOUNT}:newer", found
assert there.list_tags_for_resource(resourceArn=found["Arn"])["tags"] == {"team": "web", "cost": "7"}
assert there.list_branches(**app)["branches"] == cc.list_branches(**app)["branches"]
assert there.get_commit(commitId=second, **app)["commit"] == commit
reads = (
    ("get_differences", {"beforeCommitSpecifier": first, "afterCommitSpecifier": second}),
    ("get_file", {"filePath": "file", "commitSpecifier": second}),
    ("get_folder", {"folderPath": "", "commitSpecifier": second}),
    ("list_file_commit_history", {"filePath": "file", "commitSpecifier": second}),
    ("get_merge_options", {"sourceCommitSpecifier": second, "destinationCommitSpecifier": first}),
)
for name, parameters in reads:
    answers = [getattr(region, name)(**parameters, **app) for region in (cc, there)]
    one, two = [{key: value for key, value in answer.items() if key != "ResponseMetadata"} for answer in answers]
    assert one == two and (blob in str(one) or second == one["sourceCommitId"]), (name, one, two)
writes = (
    (there.create_repository, {"repositoryName": "elsewhere"}),
    (there.delete_repository, app),
    (there.update_repository_description, {"repositoryDescription": "x", **app}),
    (there.update_repository_name, {"oldName": "app", "newName": "ppa"}),
    (there.create_branch, {"branchName": "x", "commitId": first, **app}),
    (there.delete_branch, {"branchName": "b1", **app}),
    (there.update_default_branch, {"defaultBranchName": "b1", **app}),
    (there.tag_resource, {"resourceArn": found["Arn"], "tags": {"a": "b"}}),
    (there.untag_resource, {"resourceArn": found["Arn"], "tagKeys": ["team"]}),
)
for call, parameters in writes:
    message = refused("OperationNotAllowedException", call, **parameters)
    assert REGION in message and cc.meta.endpoint_url in message, message

# The end.
assert cc.delete_repository(repositoryName="newer")["repositoryId"] == made["repositoryId"]
assert "repositoryId" not in cc.delete_repository(repositoryName="newer")
served = set(sys.argv[1:])
# No bucket of S3 here.
edits = {name for name in served if name.startswith("MergeBranches")} | {"CreateCommit", "DeleteFile", "PutFile"}
assert served - judged - edits == {"UpdateRepositoryEncryptionKey"}, served - judged
print("all operations answered")
