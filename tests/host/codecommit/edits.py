"""Edits and merges through boto3; real Git judges each commit."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from client import ACCOUNT, COMMITS, ENDPOINT, REGION, REPLICA, REPLICA_REGION, client, judged, refused

first, second, blob = COMMITS
cc = client()
iam = client(service="iam")
EDITS = {
    "CreateCommit", "DeleteFile", "MergeBranchesByFastForward", "MergeBranchesBySquash", "MergeBranchesByThreeWay",
    "PutFile",
}
assert EDITS <= set(sys.argv[1:])

# Git, as a user of its own.
iam.create_user(UserName="git")
allow = {"Effect": "Allow", "Action": "codecommit:Git*", "Resource": "*"}
document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
iam.put_user_policy(UserName="git", PolicyName="p", PolicyDocument=document)
made = iam.create_service_specific_credential(UserName="git", ServiceName="codecommit.amazonaws.com")
made = made["ServiceSpecificCredential"]
login = ":".join(urllib.parse.quote(made[part], safe="") for part in ("ServiceUserName", "ServicePassword"))
URL = ENDPOINT.replace("://", f"://{login}@") + "/"
folder = tempfile.TemporaryDirectory()
QUIET = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}


def git(*args):
    done = subprocess.run(["git", "-C", folder.name, *args], capture_output=True, env=QUIET)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def cloned(name):
    """A fresh mirror of a repository, judged by Git; its folder."""
    path = f"{folder.name}/{time.monotonic_ns()}"
    git("clone", "-q", "--mirror", URL + name, path)
    git("-C", path, "fsck", "--strict")
    return path


def files(path, commit):
    """Mode and content of each file of a commit."""
    found = {}
    for row in git("-C", path, "ls-tree", "-r", "-z", commit).decode().split("\0")[:-1]:
        facts, name = row.split("\t")
        mode, _, id = facts.split(" ")
        found[name] = (mode, git("-C", path, "cat-file", "blob", id))
    return found


# The first commit of an empty repository makes its default branch.
cc.create_repository(repositoryName="new")
new = {"repositoryName": "new", "branchName": "trunk"}
refused("ParentCommitDoesNotExistException", cc.put_file, filePath="a", fileContent=b"x", parentCommitId=first, **new)
put = cc.put_file(filePath="docs/a b", fileContent=b"one\n", name="Ann", email="ann@example.com", **new)
path = cloned("new")
assert git("-C", path, "symbolic-ref", "HEAD") == b"refs/heads/trunk\n"
assert git("-C", path, "rev-parse", "trunk", "trunk^{tree}", "trunk:docs/a b").decode().split() == [
    put["commitId"], put["treeId"], put["blobId"],
]
shown = git("-C", path, "log", "-1", "--format=%an <%ae> %cn <%ce> %s|%P").decode()
assert shown == "Ann <ann@example.com> Ann <ann@example.com> Added docs/a b|\n", shown
assert cc.get_repository(repositoryName="new")["repositoryMetadata"]["defaultBranch"] == "trunk"
tip = put["commitId"]
for parameters, code in (
    ({}, "ParentCommitIdRequiredException"),
    ({"parentCommitId": "1" * 40}, "ParentCommitDoesNotExistException"),
    ({"parentCommitId": put["blobId"]}, "ParentCommitDoesNotExistException"),
    ({"parentCommitId": "trunk"}, "InvalidParentCommitIdException"),
    ({"parentCommitId": tip, "branchName": "none"}, "BranchDoesNotExistException"),
    ({"parentCommitId": tip, "fileContent": b"one\n"}, "SameFileContentException"),
    ({"parentCommitId": tip, "filePath": "docs"}, "FileNameConflictsWithDirectoryNameException"),
    ({"parentCommitId": tip, "filePath": "docs/a b/c"}, "DirectoryNameConflictsWithFileNameException"),
    ({"parentCommitId": tip, "filePath": "../x"}, "InvalidPathException"),
    ({"parentCommitId": tip, "filePath": ".git/config"}, "InvalidPathException"),
    ({"parentCommitId": tip, "fileMode": "FOLDER"}, "InvalidFileModeException"),
    ({"parentCommitId": tip, "email": "a\nb"}, "InvalidEmailException"),
    ({"parentCommitId": tip, "name": "a" * 1025}, "NameLengthExceededException"),
    ({"parentCommitId": tip, "commitMessage": "a" * (256 * 1024 + 1)}, "CommitMessageLengthExceededException"),
    ({"parentCommitId": tip, "fileContent": b"x" * (6 * 1024 * 1024 + 1)}, "FileContentSizeLimitExceededException"),
):
    refused(code, cc.put_file, **{"filePath": "docs/a b", "fileContent": b"x", **new, **parameters})
# A file of the greatest size, and without a name the caller's.
big = os.urandom(6 << 20)
put = cc.put_file(filePath="run", fileContent=big, fileMode="EXECUTABLE", parentCommitId=tip, **new)
refused("ParentCommitIdOutdatedException", cc.put_file, filePath="x", fileContent=b"x", parentCommitId=tip, **new)
tip = put["commitId"]
path = cloned("new")
assert files(path, tip) == {"docs/a b": ("100644", b"one\n"), "run": ("100755", big)}
assert git("-C", path, "log", "-1", "--format=%an <%ae>", "trunk") == b"administrator <>\n"

# Operations with contents alone have large bodies, and those have an end.
for operation, length in (("GetBranch", (1 << 20) + 1), ("PutFile", 11 << 20)):
    refused_body = http.client.HTTPConnection(urllib.parse.urlsplit(ENDPOINT).netloc)
    refused_body.request("POST", "/", b" " * length, {"X-Amz-Target": f"CodeCommit_20150413.{operation}"})
    answer = refused_body.getresponse()
    assert answer.status == 400 and b"the body has more than" in answer.read(), (operation, answer.status)

# CreateCommit: contents, copies, moves, modes, deletions, kept folders.
commit = cc.create_commit(
    parentCommitId=tip, keepEmptyFolders=True, authorName="Bob", commitMessage="all\n\nof it",
    putFiles=[
        {"filePath": "link", "fileMode": "SYMLINK", "fileContent": b"run"},
        {"filePath": "moved", "sourceFile": {"filePath": "docs/a b", "isMove": True}},
        {"filePath": "empty", "fileContent": b""},
    ],
    setFileModes=[{"filePath": "run", "fileMode": "NORMAL"}], **new,
)
tip = commit["commitId"]
path = cloned("new")
assert files(path, "trunk") == {
    "docs/.gitkeep": ("100644", b""), "link": ("120000", b"run"), "moved": ("100644", b"one\n"),
    "empty": ("100644", b""), "run": ("100644", big),
}
assert [one["absolutePath"] for one in commit["filesAdded"]] == ["empty", "link", "moved"], commit
assert [one["fileMode"] for one in commit["filesAdded"]] == ["NORMAL", "SYMLINK", "NORMAL"], commit
assert [one["absolutePath"] for one in commit["filesUpdated"] + commit["filesDeleted"]] == ["run", "docs/a b"], commit
assert git("-C", path, "log", "-1", "--format=%B", "trunk") == b"all\n\nof it\n\n"
content = {"fileContent": b"x"}
source = {"sourceFile": {"filePath": "run"}}
# Seven MiB in one folder, which takes six.
halves = [{"filePath": f"a/{n}", "fileContent": b"x" * (7 << 19)} for n in (1, 2)]
for parameters, code in (
    ({}, "FileEntryRequiredException"),
    ({"deleteFiles": [{"filePath": str(n)} for n in range(101)]}, "MaximumFileEntriesExceededException"),
    ({"deleteFiles": [{"filePath": "none"}]}, "FileDoesNotExistException"),
    ({"deleteFiles": [{"filePath": "run"}, {"filePath": "run"}]}, "SamePathRequestException"),
    ({"setFileModes": [{"filePath": "run", "fileMode": "NORMAL"}]}, "NoChangeException"),
    ({"putFiles": [{"filePath": "a"}]}, "SourceFileOrContentRequiredException"),
    ({"putFiles": [{"filePath": "a", **content, **source}]}, "FileContentAndSourceFileSpecifiedException"),
    ({"putFiles": [{"filePath": "a", **content}, {"filePath": "a/b", **content}]}, "PutFileEntryConflictException"),
    ({"putFiles": [{"filePath": "a", "sourceFile": {"filePath": "docs/.gitkeep"}}]}, "RestrictedSourceFileException"),
    ({"putFiles": halves}, "FolderContentSizeLimitExceededException"),
    ({"putFiles": [{"filePath": "run/x", **content}]}, "DirectoryNameConflictsWithFileNameException"),
):
    refused(code, cc.create_commit, **{"parentCommitId": tip, **new, **parameters})
gone = cc.delete_file(filePath="moved", parentCommitId=tip, **new)
assert gone["filePath"] == "moved" and gone["blobId"] == git("-C", path, "rev-parse", "trunk:moved").decode().strip()
refused("ParentCommitIdOutdatedException", cc.delete_file, filePath="run", parentCommitId=tip, **new)
refused("FileDoesNotExistException", cc.delete_file, filePath="moved", parentCommitId=gone["commitId"], **new)
assert "moved" not in files(cloned("new"), "trunk")

# A race has one winner.
tip = gone["commitId"]
results = []


def race(name):
    try:
        results.append(client().put_file(filePath=name, fileContent=b"x", parentCommitId=tip, **new)["commitId"])
    except Exception as error:
        results.append(error.response["Error"]["Code"])


threads = [threading.Thread(target=race, args=(name,)) for name in ("r1", "r2")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert results.count("ParentCommitIdOutdatedException") == 1, results
assert cc.get_branch(**new)["branch"]["commitId"] in results, results

# Merges.
app = {"repositoryName": "app"}
ends = {"sourceCommitSpecifier": "topic", "destinationCommitSpecifier": "main", **app}
cc.create_branch(branchName="topic", commitId=second, **app)
topic = cc.put_file(branchName="topic", filePath="t", fileContent=b"t\n", parentCommitId=second, **app)["commitId"]
cc.create_branch(branchName="early", commitId=second, **app)
forward = cc.merge_branches_by_fast_forward(**{**ends, "destinationCommitSpecifier": "early"})
assert forward["commitId"] == topic == cc.get_branch(branchName="early", **app)["branch"]["commitId"]
main = cc.put_file(branchName="main", filePath="m", fileContent=b"m\n", parentCommitId=second, **app)["commitId"]
refused("ManualMergeRequiredException", cc.merge_branches_by_fast_forward, **ends)
refused("CommitDoesNotExistException", cc.merge_branches_by_squash, **{**ends, "sourceCommitSpecifier": "none"})
stale = {**ends, "destinationCommitSpecifier": second, "targetBranch": "main"}
refused("ConcurrentReferenceUpdateException", cc.merge_branches_by_three_way, **stale)
merged = cc.merge_branches_by_three_way(**ends)
path = cloned("app")
assert git("-C", path, "rev-parse", "main^1", "main^2", "main^{tree}").decode().split() == [main, topic, merged["treeId"]]
assert git("-C", path, "merge-tree", "--write-tree", main, topic).decode().strip() == merged["treeId"]
assert cc.merge_branches_by_three_way(**ends)["commitId"] == merged["commitId"]
edit = {"filePath": "file", **app}
topic = cc.put_file(branchName="topic", fileContent=b"topic\n", parentCommitId=topic, **edit)["commitId"]
main = cc.put_file(branchName="main", fileContent=b"main\n", parentCommitId=merged["commitId"], **edit)["commitId"]
refused("ManualMergeRequiredException", cc.merge_branches_by_squash, **ends)
keep = {"filePath": "file", "replacementType": "USE_NEW_CONTENT"}
resolving = {**ends, "conflictResolutionStrategy": "AUTOMERGE"}
refused("ReplacementContentRequiredException", cc.merge_branches_by_squash, conflictResolution={"replaceContents": [keep]}, **resolving)
none = {"replaceContents": [{"filePath": "none", "replacementType": "KEEP_SOURCE"}]}
refused("InvalidConflictResolutionException", cc.merge_branches_by_squash, conflictResolution=none, **resolving)
resolution = {"replaceContents": [{**keep, "content": b"both\n"}]}
squashed = cc.merge_branches_by_squash(conflictResolution=resolution, commitMessage="squashed", **resolving)
path = cloned("app")
assert git("-C", path, "log", "-1", "--format=%P %s", "main").decode() == f"{main} squashed\n"
assert files(path, "main")["file"] == ("100644", b"both\n")
git("-C", path, "merge-base", "--is-ancestor", main, squashed["commitId"])

# Rules for pushes, and rights on refs, hold.
cc.create_repository(repositoryName="closed")
closed = {"repositoryName": "closed", "branchName": "closed/x"}
message = refused("OperationNotAllowedException", cc.put_file, filePath="x", fileContent=b"x", **closed)
assert "protected ref" in message, message
iam.create_user(UserName="ann")
only = {"StringEquals": {"codecommit:References": "refs/heads/topic"}}
allow = {"Effect": "Allow", "Action": ["codecommit:PutFile", "codecommit:Merge*"], "Resource": "*", "Condition": only}
iam.put_user_policy(
    UserName="ann", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]})
)
ann = client(iam.create_access_key(UserName="ann")["AccessKey"])
main = squashed["commitId"]
refused("AccessDeniedException", ann.put_file, branchName="main", fileContent=b"ann\n", parentCommitId=main, **edit)
refused("AccessDeniedException", ann.create_commit, branchName="topic", **app)
refused("AccessDeniedException", ann.merge_branches_by_squash, **ends)
ann.put_file(branchName="topic", fileContent=b"ann\n", parentCommitId=topic, **edit)

# The replica has the commits, and refuses edits with the name of the primary.
there = client(endpoint=REPLICA, region=REPLICA_REGION)
deadline = time.monotonic() + 60


def arrived():
    try:
        return there.get_branch(branchName="main", **app)["branch"]["commitId"] == main
    except Exception:
        return False


while not arrived():
    assert time.monotonic() < deadline, "the commits do not arrive"
    time.sleep(0.1)
for call, parameters in (
    (there.put_file, {"branchName": "main", "fileContent": b"x", "parentCommitId": main, **edit}),
    (there.delete_file, {"branchName": "main", "parentCommitId": main, **edit}),
    (there.create_commit, {"branchName": "main", "parentCommitId": main, "deleteFiles": [{"filePath": "m"}], **app}),
    (there.merge_branches_by_squash, ends),
):
    message = refused("OperationNotAllowedException", call, **parameters)
    assert REGION in message and cc.meta.endpoint_url in message, message
assert EDITS <= judged, EDITS - judged
print("edits and merges hold")
