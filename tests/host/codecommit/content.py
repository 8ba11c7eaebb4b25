"""Files, folders, differences and histories, compared with Git's in the repository SOURCE."""

import base64
import os
import subprocess

from client import COMMITS, Raw, client, refused

main, hidden, blob = COMMITS
cc = client()
raw = Raw()
app = {"repositoryName": "app"}
LIMIT = 6 << 20
MODES = {"100644": "NORMAL", "100755": "EXECUTABLE", "120000": "SYMLINK"}


def run(*args):
    quiet = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", "-C", os.environ["SOURCE"], *args], env=quiet, capture_output=True)


def git(*args):
    done = run(*args)
    assert done.returncode == 0, done
    return done.stdout


def id_of(revision):
    return git("rev-parse", revision).decode().strip()


def entries(revision):
    """Mode, kind, id and path of each entry of a tree."""
    for row in filter(None, git("ls-tree", "-z", revision).decode().split("\0")):
        facts, path = row.split("\t")
        yield (*facts.split(" "), path)


# Files, and the names of commits.
for row in filter(None, git("ls-tree", "-r", "-z", "main").decode().split("\0")):
    (mode, kind, id), path = row.split("\t")[0].split(" "), row.split("\t")[1]
    if kind == "commit":
        refused("FileDoesNotExistException", cc.get_file, filePath=path, **app)
        continue
    content = git("cat-file", "blob", id)
    found = cc.get_file(filePath=path, **app)
    found.pop("ResponseMetadata")
    assert found == {
        "commitId": main, "blobId": id, "filePath": path, "fileMode": MODES[mode], "fileSize": len(content),
        "fileContent": content,
    }, (path, found)
for specifier, revision in (
    ("HEAD", "main"), ("main", "main"), ("refs/heads/main", "main"), (main, "main"), ("team/topic", "team/topic"),
    ("v1", "v1^{}"), ("refs/tags/v1", "v1^{}"), ("linear", "linear"), (id_of("main~3"), "main~3"),
):
    assert cc.get_folder(folderPath="", commitSpecifier=specifier, **app)["commitId"] == id_of(revision), specifier
calls = (
    (cc.get_file, {"filePath": "dir.txt"}),
    (cc.get_folder, {"folderPath": "dir"}),
    (cc.list_file_commit_history, {"filePath": "dir.txt"}),
)
for call, parameters in calls:
    absent = ("none", "refs/heads/none", "1" * 40, id_of("v1"), blob)
    for none in (*absent, hidden, hidden[:10], "refs/internal/secret", "secret"):
        refused("CommitDoesNotExistException", call, commitSpecifier=none, **parameters, **app)
    for bad in ("a b", "main~1", "main..v1", "refs/heads/", "blob", "refs/tags/blob"):
        refused("InvalidCommitException", call, commitSpecifier=bad, **parameters, **app)
    refused("CommitDoesNotExistException", call, repositoryName="empty", **parameters)
for path in ("none", "dir", "dir/none", "dir.txt/x", "dir/link/x", "dir/module/x"):
    refused("FileDoesNotExistException", cc.get_file, filePath=path, **app)
for path in ("", "/", "..", "dir/../z.txt", "a//b", "a\0b", "x" * 5_000):
    refused("InvalidPathException", cc.get_file, filePath=path, **app)
assert len(cc.get_file(filePath="full", commitSpecifier="large", **app)["fileContent"]) == LIMIT
refused("FileTooLargeException", cc.get_file, filePath="large", commitSpecifier="large", **app)

# Folders.
for folder in ("", "/", "dir", "/dir/", "dir/sub", "many"):
    path = folder.strip("/")
    found = cc.get_folder(folderPath=folder, **app)
    assert (found["commitId"], found["folderPath"], found["treeId"]) == (main, path, id_of(f"main:{path}")), found
    lists = {"subFolders": [], "files": [], "symbolicLinks": [], "subModules": []}
    for mode, kind, id, name in entries(f"main:{path}"):
        shown = {"absolutePath": f"{path}/{name}".lstrip("/"), "relativePath": name}
        if kind == "tree":
            lists["subFolders"].append({"treeId": id, **shown})
        elif kind == "commit":
            lists["subModules"].append({"commitId": id, **shown})
        else:
            list_of = "symbolicLinks" if mode == "120000" else "files"
            lists[list_of].append({"blobId": id, "fileMode": MODES[mode], **shown})
    assert {name: found[name] for name in lists} == lists, found
for path in ("none", "dir.txt", "dir/link", "dir/module", "dir.txt/x"):
    refused("FolderDoesNotExistException", cc.get_folder, folderPath=path, **app)
refused("InvalidPathException", cc.get_folder, folderPath="dir/..", **app)


# Differences.
def by_git(before, after, *paths):
    shown = git("diff", "--raw", "-z", "--no-abbrev", "--no-renames", before, after, "--", *paths)
    fields = iter(shown.decode().split("\0"))
    for facts in filter(None, fields):
        modes, ids, letter = facts[1:].split(" ")[:2], facts.split(" ")[2:4], facts.split(" ")[4]
        path = next(fields)
        sides = {}
        for side, mode, id in zip(("beforeBlob", "afterBlob"), modes, ids):
            if mode != "000000":
                sides[side] = {"blobId": id, "path": path, "mode": mode}
        yield {"changeType": letter.replace("T", "M"), **sides}


def pages(call, result, limit, token, **parameters):
    """All items of a list in pages of so many."""
    found = []
    while True:
        page = call(**parameters)
        assert len(page[result]) <= limit, page
        found += page[result]
        if token not in page:
            return found
        parameters[token] = page[token]


EMPTY = git("hash-object", "-t", "tree", os.devnull).decode().strip()
compared = ("main~1", "main"), ("linear~6", "main"), ("main", "linear~6"), ("team/topic", "main"), ("main", "main")
for before, after in (*compared, (EMPTY, "main")):
    expected = list(by_git(before, after))
    parameters = {"afterCommitSpecifier": id_of(after), **app}
    if before != EMPTY:
        parameters["beforeCommitSpecifier"] = id_of(before)
    for limit in (1, 2, 3, len(expected) + 1):
        found = pages(cc.get_differences, "differences", limit, "NextToken", MaxResults=limit, **parameters)
        assert found == expected, (before, after, limit, found, expected)
both = {"beforeCommitSpecifier": id_of("linear~6"), "afterCommitSpecifier": "main", **app}
for path in ("dir", "dir/sub", "b \u00fc", "/many/", "dir/exec.sh"):
    for paths in ({"beforePath": path, "afterPath": path}, {"afterPath": path}, {"beforePath": path}):
        found = pages(cc.get_differences, "differences", 2, "NextToken", MaxResults=2, **both, **paths)
        assert found == list(by_git("linear~6", "main", path.strip("/"))), (paths, found)
[renamed] = cc.get_differences(beforePath="a.txt", afterPath="z.txt", **both)["differences"]
assert (renamed["changeType"], renamed["beforeBlob"]["path"], renamed["afterBlob"]["path"]) == ("M", "a.txt", "z.txt"), renamed
refused("PathDoesNotExistException", cc.get_differences, afterPath="none", **both)
refused("InvalidPathException", cc.get_differences, beforePath="a/../b", **both)
refused("InvalidMaxResultsException", cc.get_differences, MaxResults=0, **both)
for name in ("beforeCommitSpecifier", "afterCommitSpecifier"):
    for none in ("none", hidden, "refs/internal/secret"):
        refused("CommitDoesNotExistException", cc.get_differences, **{**both, name: none})

# The pages of one list are of the same commits, and a token is no way to hidden ones.
cc.create_branch(branchName="moving", commitId=id_of("linear"), **app)
moving = {"beforeCommitSpecifier": id_of("linear~6"), "afterCommitSpecifier": "moving", "MaxResults": 1, **app}
page = cc.get_differences(**moving)
cc.delete_branch(branchName="moving", **app)
rest = pages(cc.get_differences, "differences", 1, "NextToken", NextToken=page["NextToken"], **moving)
assert page["differences"] + rest == list(by_git("linear~6", "linear"))


def forged(token, key):
    digest = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:16]
    return base64.urlsafe_b64encode(digest + key.encode()).decode().rstrip("=")


for key, code in (
    (f" {hidden} YQ", "CommitDoesNotExistException"), (f"{hidden} {main} YQ", "CommitDoesNotExistException"),
    ("", "InvalidContinuationTokenException"), (f"{main} {main} *", "InvalidContinuationTokenException"),
):
    refused(code, cc.get_differences, **{**moving, "NextToken": forged(page["NextToken"], key)})
refused("InvalidContinuationTokenException", cc.get_differences, **{**both, "NextToken": page["NextToken"]})

# Histories.
files = ("z.txt", "linear"), ("dir/moved.txt", "linear~1"), ("dir/sub/deep.txt", "linear"), ("b \u00fc", "linear")
for path, tip in (*files, ("dir/exec.sh", "linear"), ("a.txt", "team/topic")):
    expected = git("log", "--follow", "--format=%H", tip, "--", path).decode().split()
    history = {"filePath": path, "commitSpecifier": id_of(tip), **app}
    for limit in (1, 2, len(expected) + 1):
        found = pages(cc.list_file_commit_history, "revisionDag", limit, "nextToken", maxResults=limit, **history)
        assert [version["commit"]["commitId"] for version in found] == expected, (path, limit, found)
        newer = [[]] + [[id] for id in expected]
        for version, children in zip(found, newer):
            assert version["commit"] == cc.get_commit(commitId=version["commit"]["commitId"], **app)["commit"], version
            assert version["revisionChildren"] == children, version
            if "blobId" in version:
                assert version["blobId"] == id_of(f"{version['commit']['commitId']}:{version['path']}"), version
            else:
                assert path == "dir/exec.sh", version
renamed = cc.list_file_commit_history(filePath="z.txt", commitSpecifier="linear", **app)["revisionDag"]
assert [version["path"] for version in renamed] == ["z.txt", "dir/moved.txt", "dir/moved.txt", "a.txt", "a.txt"], renamed
# Behind a merge, both lines are followed, page by page as in one.
whole = cc.list_file_commit_history(filePath="z.txt", **app)["revisionDag"]
assert {version["commit"]["commitId"] for version in renamed} < {version["commit"]["commitId"] for version in whole}, whole
token = cc.list_file_commit_history(filePath="z.txt", maxResults=1, **app)["nextToken"]
assert pages(cc.list_file_commit_history, "revisionDag", 1, "nextToken", maxResults=1, filePath="z.txt", **app) == whole
assert cc.list_file_commit_history(filePath="none", **app)["revisionDag"] == []
refused("ValidationException", cc.list_file_commit_history, filePath="../z.txt", **app)
refused("InvalidMaxResultsException", cc.list_file_commit_history, filePath="z.txt", maxResults=-1, **app)
path = base64.urlsafe_b64encode(b"z.txt").decode().rstrip("=")
for key in (f"{hidden} {path} \n", f"{'1' * 40} {path} \n", f"{'1' * 64} {path} \n", f"{blob} {path} \n", "x"):
    made_up = {"filePath": "z.txt", "nextToken": forged(token, key), **app}
    refused("InvalidContinuationTokenException", cc.list_file_commit_history, **made_up)
status, answer = raw("ListFileCommitHistory", app)
assert (status, answer["__type"]) == (400, "ValidationException"), answer

# Merges.
sides = ("linear", "main"), ("main", "linear"), ("linear", "team/topic"), ("large", "team/topic"), ("main", "main")
for destination, source in sides:
    [base] = git("merge-base", "--all", destination, source).decode().split()
    ids = {"sourceCommitId": id_of(source), "destinationCommitId": id_of(destination), "baseCommitId": base}
    merged = run("merge-tree", "--write-tree", destination, source)
    assert merged.returncode in (0, 1), merged
    fast = ["FAST_FORWARD_MERGE"] if base == id_of(destination) else []
    true = ["SQUASH_MERGE", "THREE_WAY_MERGE"]
    asked = {"sourceCommitSpecifier": source, "destinationCommitSpecifier": destination, **app}
    by_line = cc.get_merge_options(conflictDetailLevel="LINE_LEVEL", **asked)
    assert by_line["mergeOptions"] == fast + (true if merged.returncode == 0 else []), (destination, source, by_line)
    assert {name: by_line[name] for name in ids} == ids, by_line
    accepted = cc.get_merge_options(conflictResolutionStrategy="ACCEPT_SOURCE", **asked)
    assert accepted["mergeOptions"] == fast + true, accepted
conflict = {"sourceCommitSpecifier": "team/topic", "destinationCommitSpecifier": "linear", **app}
assert cc.get_merge_options(**conflict)["mergeOptions"] == []
for name in ("sourceCommitSpecifier", "destinationCommitSpecifier"):
    refused("CommitDoesNotExistException", cc.get_merge_options, **{**asked, name: hidden})
print("content is that of Git")
