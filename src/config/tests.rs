//! What a configuration may say, and what is said about one that may not.

use super::*;
use gitferry_base::Kind;
use gitferry_engine::region::reserved::ACCOUNT;

const GOOD: &str = r#"
[regions.us]
objects = "file:us/objects"
table = "sqlite:us/table.db"
[regions.eu]
objects = "file:///srv/eu/objects"
table = "sqlite:///srv/eu/table.db"
[links.dr]
source = "us"
target = "eu"
repositories = ["team/*", "exact"]
[links.other]
source = "us"
target = "eu"
mode = "standby"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/gitferry/gitferry.toml"))
}

#[test]
fn a_good_configuration() {
    let config = parse(GOOD).unwrap();
    let us = config.stores("us").unwrap();
    assert_eq!(us.objects, ObjectsLocation::Filesystem("/etc/gitferry/us/objects".into()));
    assert_eq!(us.table, TableLocation::Sqlite("/etc/gitferry/us/table.db".into()));
    assert!(!us.is_remote());
    let eu = config.stores("eu").unwrap();
    assert_eq!(eu.objects, ObjectsLocation::Filesystem("/srv/eu/objects".into()));
    let dr = config.link("dr").unwrap();
    assert_eq!(dr.mode, LinkMode::Active);
    let matcher = dr.matcher().unwrap();
    for (name, carried) in [("team/a", true), ("team/a/b", true), ("exact", true), ("exactly", false), ("x", false)] {
        assert_eq!(matcher.is_match(name), carried, "{name}");
    }
    let other = config.link("other").unwrap();
    assert_eq!(other.mode, LinkMode::Standby);
    assert!(other.matcher().unwrap().is_match("any/thing"));
    assert!(parse("").unwrap().regions.is_empty());
    let windows = config.regions.values().map(|region| region.recovery_window.as_hours());
    assert_eq!(windows.collect::<Vec<_>>(), vec![7 * 24; config.regions.len()]);
    let longer =
        parse("[regions.us]\nobjects = \"file:o\"\ntable = \"sqlite:t\"\nrecovery_window = \"35d\"\n").unwrap();
    assert_eq!(longer.regions["us"].recovery_window.as_hours(), 35 * 24);
}

#[test]
fn what_makes_no_sense_is_refused_and_named() {
    let table: &[(&str, &str, &str)] = &[
        ("[regions.us]", "[regions.us", "TOML"),
        ("[regions.us]", "[regionen.us]", "regionen"),
        ("objects = \"file:us/objects\"", "", "objects"),
        ("objects = \"file:us/objects\"", "objects = 1", "string"),
        ("objects = \"file:us/objects\"", "objekts = \"file:x\"", "objekts"),
        ("file:us/objects", "us/objects", "regions.us.objects"),
        ("file:us/objects", "sqlite:us/objects", "regions.us.objects"),
        ("file:us/objects", "s3://b", "regions.us.objects"),
        ("file:us/objects", "s3:bucket", "regions.us.objects"),
        ("file:us/objects", "file:", "has no path"),
        ("file:us/objects", "file://host/path", "names a host"),
        ("sqlite:us/table.db", "file:us/table.db", "regions.us.table"),
        ("sqlite:us/table.db", "sqlite:", "has no path"),
        ("sqlite:us/table.db", "dynamodb:table", "dynamodb://TABLE"),
        ("sqlite:us/table.db", "dynamodb://", "not a valid table name"),
        ("sqlite:us/table.db", "dynamodb://a/b", "not a valid table name"),
        ("[regions.eu]", "kms_key = \"k\"\n[regions.eu]", "regions.us.kms_key"),
        ("[regions.eu]", "storage_class = \"X\"\n[regions.eu]", "regions.us.storage_class"),
        ("[regions.eu]", "recovery_window = \"12h\"\n[regions.eu]", "between 1d and 400d"),
        ("[regions.eu]", "recovery_window = \"a while\"\n[regions.eu]", "not a duration"),
        ("[regions.eu]", "recovery_window = 7\n[regions.eu]", "string"),
        ("[regions.eu]", "aws = { region = \"\" }\n[regions.eu]", "regions.us.aws: region"),
        ("[regions.eu]", "aws = { zone = \"x\" }\n[regions.eu]", "zone"),
        ("[regions.eu]", "aws = { endpoint_url = \"ftp://x\" }\n[regions.eu]", "regions.us.aws: endpoint_url"),
        ("[regions.eu]", "aws = { endpoint_url = \"http://a:b@x\" }\n[regions.eu]", "regions.us.aws: endpoint_url"),
        ("[regions.eu]", "aws = { role_arn = \"x\" }\n[regions.eu]", "regions.us.aws: role_arn"),
        ("[regions.eu]", "aws = { external_id = \"x\" }\n[regions.eu]", "regions.us.aws: external_id"),
        ("file:us/objects", "file:///srv/eu/objects", "the regions eu and us use the same store"),
        ("sqlite:us/table.db", "sqlite:/srv/eu/table.db", "use the same store"),
        ("file:us/objects", "file:/srv//eu/./objects", "use the same store"),
        ("file:us/objects", "file:/srv/eu/x/../objects", "use the same store"),
        ("source = \"us\"", "source = \"mars\"", "links.dr: there is no region mars"),
        ("target = \"eu\"", "target = \"mars\"", "links.dr: there is no region mars"),
        ("target = \"eu\"", "target = \"us\"", "source and target are the same region"),
        ("target = \"eu\"", "", "target"),
        ("\"team/*\"", "\"team/[\"", "links.dr: "),
        ("\"team/*\"", "7", "string"),
        ("mode = \"standby\"", "mode = \"idle\"", "idle"),
        ("mode = \"standby\"", "priority = 1", "priority"),
        ("[links.dr]", "[links.\"a b\"]", "`a b` is not a name for a link"),
        ("[links.dr]", "[links.\"../dr\"]", "is not a name for a link"),
        ("[links.dr]", "[links.\"\"]", "is not a name for a link"),
        ("[regions.us]", "[regions.\"u\\ns\"]", "is not a name for a region"),
        ("[regions.us]", "[regions.us]\n[regions.us]", "duplicate"),
    ];
    for (from, to, expected) in table {
        assert!(GOOD.contains(from), "{from:?}");
        let error = parse(&GOOD.replacen(from, to, 1)).map(drop).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{to:?}: {message}");
        assert!(message.contains("/etc/gitferry/gitferry.toml"), "{message}");
        assert_eq!(error.kind(), Kind::Usage);
    }
    let long = GOOD.replace("[links.dr]", &format!("[links.{}]", "x".repeat(65)));
    assert!(parse(&long).is_err());
}

const REMOTES: &str = r#"
[regions.us]
objects = "file:us/objects"
table = "sqlite:us/table.db"
[remotes.a]
url = "https://a.example/{name}.git"
[remotes.b]
url = "https://b.example/{name}.git"
[links.ab]
source = "a"
target = "b"
repositories = ["team/app", "team/*", "x[ab]"]
refs = ["refs/heads/*"]
rename = ["refs/heads/*:refs/m/*"]
deletions = "keep"
divergence = "refuse"
table = "sqlite:ab.db"
[links.in]
source = "a"
target = "us"
"#;

#[test]
fn links_with_remotes() {
    let config = parse(REMOTES).unwrap();
    let link = config.link("ab").unwrap();
    assert!(config.has_remote(link));
    assert_eq!(link.literal_names().collect::<Vec<_>>(), ["team/app"]);
    assert_eq!((link.deletions, link.divergence), (Some(Deletions::Keep), Some(Divergence::Refuse)));
    assert_eq!(config.link_table(link).unwrap(), Some(TableLocation::Sqlite("/etc/gitferry/ab.db".into())));
    assert_eq!(config.link_table(config.link("in").unwrap()).unwrap(), None);
}

#[test]
fn settings_of_links_with_remotes_are_checked() {
    let table: &[(&str, &str, &str)] = &[
        ("\"refs/heads/*\"]", "\"heads/*\"]", "links.ab: refs: "),
        ("refs/heads/*:refs/m/*", "refs/heads/*:refs/m", "links.ab: rename: "),
        ("refs/heads/*:refs/m/*", "refs/heads/*:refs/gitferry/*", "gitferry's own"),
        ("deletions = \"keep\"", "deletions = \"some\"", "some"),
        ("divergence = \"refuse\"", "divergence = \"merge\"", "merge"),
        ("sqlite:ab.db", "file:ab.db", "links.ab: table: "),
        (
            "table = \"sqlite:ab.db\"",
            "queue = \"https://sqs.eu-west-1.amazonaws.com/1/in\"\n\
             dead_letters = \"https://sqs.eu-west-1.amazonaws.com/1/dead\"",
            "links.ab: queue needs table",
        ),
        ("deletions = \"keep\"", "lfs_missing = \"allow\"", "links.ab: lfs_missing: only with lfs"),
        ("target = \"b\"", "target = \"b\"\nmode = \"standby\"", "links.ab: mode"),
        ("target = \"b\"", "target = \"c\"", "there is no region c, and no remote"),
        ("target = \"b\"", "target = \"a\"", "the same remote"),
        ("deletions = \"keep\"", "via = \"eu\"", "links.ab: via: there is no region eu"),
        ("target = \"us\"", "target = \"us\"\nvia = \"us\"", "links.in: via: only where the target is a remote"),
        ("target = \"us\"", "target = \"us\"\ntable = \"sqlite:x.db\"", "uses that of us"),
    ];
    for (from, to, expected) in table {
        assert!(REMOTES.contains(from), "{from:?}");
        let message = parse(&REMOTES.replacen(from, to, 1)).map(drop).unwrap_err().to_string();
        assert!(message.contains(expected), "{to:?}: {message}");
    }
    for setting in [
        "refs = []",
        "rename = []",
        "deletions = \"keep\"",
        "divergence = \"force\"",
        "lfs = \"copy\"",
        "lfs_missing = \"allow\"",
        "via = \"us\"",
        "table = \"sqlite:x\"",
    ] {
        let message = parse(&GOOD.replace("mode = \"standby\"", setting)).map(drop).unwrap_err().to_string();
        assert!(message.contains("a link between regions carries whole repositories"), "{setting}: {message}");
    }
}

#[test]
fn unknown_names_are_answered_with_those_that_there_are() {
    let config = parse(GOOD).unwrap();
    let region = config.stores("mars").unwrap_err().to_string();
    assert!(region.contains("no region mars") && region.contains("eu, us"), "{region}");
    let link = config.link("mars").unwrap_err().to_string();
    assert!(link.contains("no link mars") && link.contains("dr, other"), "{link}");
    assert!(parse("").unwrap().link("x").unwrap_err().to_string().contains("it has none"));
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Config::load(&dir.path().join("gitferry.toml")).unwrap_err();
    assert!(matches!(missing, ConfigError::Missing { .. }) && missing.kind() == Kind::Usage);
    let directory = Config::load(dir.path()).unwrap_err();
    assert!(matches!(directory, ConfigError::Unreadable { .. }), "{directory}");
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"\xff\xfe\0").unwrap();
    assert!(Config::load(&binary).unwrap_err().to_string().contains("binary.toml"));
}

#[test]
fn hosts_are_served_to_nobody_unknown() {
    let with = |lines: &str| parse(&format!("{GOOD}\n[hosts.us]\n{lines}"));
    for address in ["127.0.0.1:80", "[::1]:80", "127.9.9.9:80"] {
        with(&format!("listen = \"{address}\"\nauth = \"none\"")).unwrap();
    }
    for address in ["0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80", "[::ffff:0.0.0.0]:80", "10.0.0.1:80"] {
        let error = with(&format!("listen = \"{address}\"\nauth = \"none\"")).map(drop).unwrap_err().to_string();
        assert!(error.contains("hosts.us") && error.contains("loopback only"), "{error}");
        with(&format!("listen = \"{address}\"\nauth = {{ tokens = \"t\" }}")).unwrap();
    }
}

#[test]
fn ssh_is_for_keys_that_are_known() {
    let with = |auth: &str, lines: &str| {
        let host = format!("[hosts.us]\nlisten = \"127.0.0.1:80\"\nauth = {auth}\n{lines}");
        parse(&format!("{GOOD}\n{host}")).map_err(|error| error.to_string())
    };
    let tokens = "{ tokens = \"t\" }";
    let config = with("\"none\"", "ssh = \"127.0.0.1:22\"").unwrap();
    let keys = config.ssh_host_keys("us", &config.hosts["us"]);
    assert!(keys.ends_with("ssh/us"), "{keys:?}");
    let given = "ssh = \"0.0.0.0:22\"\nssh_authorized_keys = \"keys\"\nssh_host_keys = \"/etc/ssh\"";
    let config = with(tokens, given).unwrap();
    assert_eq!(config.ssh_host_keys("us", &config.hosts["us"]), Path::new("/etc/ssh"));
    with("\"none\"", given).unwrap();
    with("\"iam\"", "ssh = \"0.0.0.0:22\"\nssh_host_keys = \"keys\"").unwrap();
    let bad = [
        ("\"none\"", "ssh = \"0.0.0.0:22\"", "ssh needs ssh_authorized_keys"),
        (tokens, "ssh = \"127.0.0.1:22\"", "ssh needs ssh_authorized_keys"),
        (tokens, "ssh_authorized_keys = \"keys\"", "need ssh"),
        ("\"iam\"", given, "remove ssh_authorized_keys"),
        (tokens, "ssh_host_keys = \"keys\"", "need ssh"),
        (tokens, "ssh = \"somewhere\"", "not an address"),
    ];
    for (auth, lines, expected) in bad {
        let error = with(auth, lines).map(drop).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

#[test]
fn where_hosts_are_reached() {
    let host = |lines: &str| {
        let config = parse(&format!("{GOOD}\n[hosts.us]\nlisten = \"127.0.0.1:80\"\nauth = \"none\"\n{lines}"))?;
        Ok::<_, ConfigError>(config.hosts["us"].clone())
    };
    assert_eq!(host("").unwrap().url(), "http://127.0.0.1:80");
    assert_eq!(host("tls = { cert = \"c\", key = \"k\" }").unwrap().url(), "https://127.0.0.1:80");
    let full = host("url = \"https://git.example.com/x\"\non_push = \"forward\"\nca = \"ca.pem\"").unwrap();
    assert_eq!((full.url().as_str(), full.on_push), ("https://git.example.com/x", OnPush::Forward));
    let bad = [
        "url = \"git.example.com\"",
        "url = \"https://\"",
        "url = \"https://user:secret@git.example.com\"",
        "on_push = \"maybe\"",
        "tls = { cert = \"c\" }",
        "limits = { request = 1 }",
    ];
    for lines in bad {
        let error = host(lines).map(drop).unwrap_err().to_string();
        assert!(!lines.contains('@') || !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_account_has_a_key_file_or_kms_keys_or_both() {
    const US: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd";
    let account = |lines: &str| Config::parse(&format!("[account]\n{lines}"), Path::new("gitferry.toml"));
    let file = |lines: &str| account(lines).unwrap().account.key_file().map(Path::to_owned);
    assert_eq!(file(""), Some("account.key".into()));
    assert_eq!(file("key = \"k\""), Some("k".into()));
    assert_eq!(file(&format!("kms_key = \"{US}\"")), None);
    assert_eq!(file(&format!("key = \"k\"\nkms_key = [\"{US}\"]")), Some("k".into()));
    let eu = US.replace("us-east-1", "eu-west-1");
    let both = account(&format!("kms_key = [\"{US}\", \"{eu}\"]\nkms = {{ profile = \"git\" }}")).unwrap().account;
    let aws: Vec<_> = both.kms_key.iter().map(|key| both.kms_settings(key)).collect();
    assert_eq!(aws.iter().map(|aws| aws.region.as_deref().unwrap()).collect::<Vec<_>>(), ["us-east-1", "eu-west-1"]);
    assert!(aws.iter().all(|aws| aws.profile.as_deref() == Some("git")));
    let alias = US.replace("key/1234abcd", "alias/git");
    for (lines, expected) in [
        ("kms_key = \"1234abcd\"".to_owned(), "is not of the form arn:aws:kms"),
        (format!("kms_key = \"{alias}\""), "an alias may name another key later"),
        (format!("kms_key = \"{US}\"\nkms = {{ region = \"us-east-1\" }}"), "account.kms: region"),
        ("kms = { profile = \"git\" }".to_owned(), "account.kms: only for a kms_key"),
        (format!("kms_key = {:?}", vec![US; 17]), "the limit is 16"),
    ] {
        let error = account(&lines).map(drop).unwrap_err();
        assert!(error.to_string().contains(expected), "{lines}: {error}");
        assert_eq!(error.kind(), Kind::Usage);
    }
}

const REMOTE: &str = r#"
[regions.us]
objects = "s3://bucket-us/git"
table = "dynamodb://git"
aws = { region = "us-east-1", profile = "ops" }
kms_key = "alias/git"
storage_class = "STANDARD_IA"
[regions.eu]
objects = "s3://bucket-eu"
table = "dynamodb://git"
aws = { region = "eu-west-1", role_arn = "arn:aws:iam::123456789012:role/git", external_id = "x" }
[regions.mixed]
objects = "s3://bucket-mixed"
table = "sqlite:mixed/table.db"
aws = { region = "eu-west-1", endpoint_url = "http://127.0.0.1:4566" }
"#;

#[test]
fn regions_on_aws() {
    let config = parse(REMOTE).unwrap();
    let us = config.stores("us").unwrap();
    let ObjectsLocation::S3(options) = &us.objects else { panic!("{us:?}") };
    assert_eq!((options.bucket.as_str(), options.prefix.as_str()), ("bucket-us", "git"));
    assert_eq!(options.kms_key.as_deref(), Some("alias/git"));
    assert_eq!(options.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(us.table, TableLocation::DynamoDb("git".into()));
    assert_eq!((us.aws.region.as_deref(), us.aws.profile.as_deref()), (Some("us-east-1"), Some("ops")));
    assert!(us.is_remote() && config.stores("mixed").unwrap().is_remote());
    assert_eq!(config.stores("eu").unwrap().aws.external_id.as_deref(), Some("x"));
}

/// A service of AWS without a region is an error of the file, and none of the first request.
#[test]
fn services_of_aws_name_their_region() {
    let region = |lines: &str| format!("[regions.us]\nobjects = \"file:o\"\ntable = \"sqlite:t\"\n{lines}");
    let s3 = region("").replace("file:o", "s3://bucket");
    let dynamo = region("").replace("sqlite:t", "dynamodb://table");
    let host = "[hosts.us]\nlisten = \"127.0.0.1:1\"\nauth = \"none\"\naudit = { events = \"eventbridge:a\" }\n";
    let queue = "[links.dr]\nsource = \"us\"\ntarget = \"eu\"\nqueue = \"http://localhost/0/in\"\n\
                 dead_letters = \"http://localhost/0/dead\"\n[regions.eu]\nobjects = \"file:p\"\ntable = \"sqlite:u\"\n";
    let remotes = "[remotes.a]\nurl = \"https://h/{name}\"\n[remotes.b]\nurl = \"https://i/{name}\"\n\
                   [links.ab]\nsource = \"a\"\ntarget = \"b\"\ntable = \"dynamodb://git\"\n";
    for (text, expected) in [
        (s3, "regions.us.objects: this is in a region of AWS"),
        (dynamo, "regions.us.table: this is in a region of AWS"),
        (region("events = \"eventbridge:a\"\n"), "regions.us.events: this is in a region of AWS"),
        (region(host), "hosts.us: audit.events: the bus, which has the settings of regions.us, is in a region of AWS"),
        (region("") + queue, "links.dr: queue: this is in a region of AWS"),
        (remotes.to_owned(), "links.ab: table: this is in a region of AWS"),
    ] {
        let message = parse(&text).map(drop).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
        // With a region, or a profile that has one.
        let place = if expected.starts_with("links") { "[links." } else { "[regions.us]" };
        let at = text.find(place).unwrap();
        let end = at + text[at..].find('\n').unwrap() + 1;
        for aws in ["aws = { region = \"eu-west-1\" }\n", "aws = { profile = \"git\" }\n"] {
            parse(&format!("{}{aws}{}", &text[..end], &text[end..])).unwrap();
        }
        let credentials = "aws = { role_arn = \"arn:aws:iam::123456789012:role/git\" }\n";
        assert!(parse(&format!("{}{credentials}{}", &text[..end], &text[end..])).is_err(), "{text}");
    }
}

#[test]
fn stores_on_aws_are_not_shared_either() {
    let shared = |from: &str, to: &str| {
        assert!(REMOTE.contains(from), "{from:?}");
        parse(&REMOTE.replacen(from, to, 1)).map(drop).map_err(|error| error.to_string())
    };
    let refused = [
        ("s3://bucket-eu", "s3://bucket-us/git"),
        ("s3://bucket-eu", "s3://bucket-us/git/eu"),
        ("s3://bucket-eu", "s3://bucket-us"),
        (
            "region = \"eu-west-1\", role_arn = \"arn:aws:iam::123456789012:role/git\", external_id = \"x\"",
            "region = \"us-east-1\", profile = \"ops\"",
        ),
    ];
    for (from, to) in refused {
        assert!(shared(from, to).unwrap_err().contains("use the same store"), "{to}");
    }
    let allowed = [
        ("s3://bucket-eu", "s3://bucket-us/git-eu"),
        ("s3://bucket-eu", "s3://bucket-us/eu"),
        // Another account.
        ("eu-west-1", "us-east-1"),
        // Another server.
        ("s3://bucket-mixed", "s3://bucket-us/git"),
    ];
    for (from, to) in allowed {
        shared(from, to).unwrap();
    }
}

#[test]
fn remotes_are_ends_of_links() {
    let with = |remotes: &str, from: &str, to: &str| {
        parse(&format!("{}\n{remotes}", GOOD.replacen(from, to, 1))).map_err(|error| error.to_string())
    };
    let there = "[remotes.there]\nurl = \"https://git.example/{name}.git\"";
    let config = with(there, "target = \"eu\"", "target = \"there\"").unwrap();
    assert_eq!(config.remote("there").unwrap().url, "https://git.example/{name}.git");
    let unknown = config.remote("mars").unwrap_err().to_string();
    assert!(unknown.contains("no remote mars") && unknown.contains("there"), "{unknown}");
    for (remotes, from, to, expected) in [
        (there, "source = \"us\"", "source = \"mars\"", "no region mars, and no remote"),
        ("[remotes.us]\nurl = \"https://h/{name}\"", "us", "us", "us is the name of a region and of a remote"),
        ("[remotes.\"a b\"]\nurl = \"https://h/{name}\"", "us", "us", "`a b` is not a name for a remote"),
        ("[remotes.there]\nurl = \"https://x:hunter2@h/{name}\"", "us", "us", "remotes.there: url holds credentials"),
        ("[remotes.there]\nurl = \"https://h/{name}\"\nport = 1", "us", "us", "port"),
        (
            "[remotes.there]\nurl = \"https://h/{name}\"\nauth = { kind = \"bearer\", token = \"hunter2\" }",
            "us",
            "us",
            "in line 19: unknown field `token`",
        ),
    ] {
        let error = with(remotes, from, to).map(drop).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let both = "source = \"us\"\ntarget = \"eu\"\nrepositories";
    let error = with(there, both, "source = \"there\"\ntarget = \"there\"\nrepositories").map(drop).unwrap_err();
    assert!(error.contains("the same remote"), "{error}");
}

#[test]
fn two_active_links_for_one_pair_are_refused() {
    let link = |name: &str, repositories: &str, more: &str| {
        format!("[links.{name}]\nsource = \"us\"\ntarget = \"eu\"\nrepositories = {repositories}\n{more}\n")
    };
    let regions = "[regions.us]\nobjects = \"file:us\"\ntable = \"sqlite:us.db\"\n\
                   [regions.eu]\nobjects = \"file:eu\"\ntable = \"sqlite:eu.db\"\n";
    let remotes =
        "[remotes.us]\nurl = \"https://us.example/{name}\"\n[remotes.eu]\nurl = \"https://eu.example/{name}\"\n";
    let parsed = |ends: &str, one: &str, other: &str| {
        Config::parse(&[ends, one, other].concat(), Path::new("gitferry.toml"))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for (one, other, more, is_ok) in [
        ("[\"team/*\"]", "[\"team/app\"]", "", false),
        ("[\"*\"]", "[\"other\"]", "", false),
        ("[\"team/*\"]", "[\"other/*\"]", "", true),
        ("[\"a\", \"b\"]", "[\"c\", \"d\"]", "", true),
        ("[\"team/*\"]", "[\"*/app\"]", "", false),
        ("[\"team/*\"]", "[\"team/*\"]", "mode = \"standby\"", true),
    ] {
        let result = parsed(regions, &link("a", one, ""), &link("b", other, more));
        assert_eq!(result.is_ok(), is_ok, "{one} {other} {more}: {result:?}");
        if let Err(reason) = result {
            assert!(reason.contains("links.a and links.b both carry"), "{reason}");
        }
    }
    for (one, other, is_ok) in [
        ("refs = [\"refs/heads/*\"]", "refs = [\"refs/tags/*\"]", true),
        ("refs = [\"refs/heads/*\"]", "refs = [\"refs/heads/*\"]", false),
        ("refs = [\"refs/heads/*\"]", "", false),
    ] {
        let result = parsed(remotes, &link("a", "[\"x\"]", one), &link("b", "[\"x\"]", other));
        assert_eq!(result.is_ok(), is_ok, "{one} {other}: {result:?}");
    }
    // The other way round is another pair.
    let back = "[links.b]\nsource = \"eu\"\ntarget = \"us\"\n";
    assert!(parsed(regions, &link("a", "[\"*\"]", ""), back).is_ok());
}

#[test]
fn links_between_regions_carry_the_account_unless_they_say_otherwise() {
    let ends = "[regions.us]\nobjects = \"file:us\"\ntable = \"sqlite:us.db\"\n\
                [regions.eu]\nobjects = \"file:eu\"\ntable = \"sqlite:eu.db\"\n\
                [remotes.a]\nurl = \"https://a.example/{name}\"\n[remotes.b]\nurl = \"https://b.example/{name}\"\n";
    let parsed = |source: &str, target: &str, more: &str| {
        let link = format!("[links.l]\nsource = \"{source}\"\ntarget = \"{target}\"\n{more}\n");
        Config::parse(&[ends, &link].concat(), Path::new("gitferry.toml")).map_err(|error| error.to_string())
    };
    for (more, account, app) in [
        ("", true, true),
        ("repositories = [\"team/*\"]", true, false),
        ("repositories = []\naccount = true", true, false),
        ("account = false", false, true),
        ("repositories = [\"gitferry/*\"]\naccount = false", false, false),
    ] {
        let names = parsed("us", "eu", more).unwrap().links["l"].carried_names().unwrap();
        assert_eq!((names.is_match(ACCOUNT), names.is_match("app")), (account, app), "{more}");
    }
    for (source, target) in [("us", "a"), ("a", "us"), ("a", "b")] {
        for account in ["true", "false"] {
            let error = parsed(source, target, &format!("account = {account}")).unwrap_err();
            assert!(error.contains("account: only for a link between regions"), "{error}");
        }
    }
    let named = "repositories = [\"app\", \"gitferry/account\"]";
    for (source, target) in [("us", "eu"), ("us", "a"), ("a", "us")] {
        let error = parsed(source, target, named).unwrap_err();
        assert!(error.contains("holds the account of a region"), "{error}");
    }
    // Servers may hold a repository of that name, which is no account.
    assert!(parsed("a", "b", named).is_ok());
}

#[test]
fn names_of_repositories_are_checked_as_their_ends_take_them() {
    let ends = "[regions.us]\nobjects = \"file:us\"\ntable = \"sqlite:us.db\"\n\
                [remotes.a]\nurl = \"https://a.example/{name}\"\n[remotes.b]\nurl = \"https://b.example/{name}\"\n";
    let parsed = |source: &str, name: &str| {
        let link = format!("[links.l]\nsource = \"{source}\"\ntarget = \"b\"\nrepositories = [\"{name}\"]\n");
        Config::parse(&[ends, &link].concat(), Path::new("gitferry.toml")).map(drop).map_err(|error| error.to_string())
    };
    for (name, region, remote) in [
        ("team/app", true, true),
        (".github", false, true),
        ("libstdc++", false, true),
        ("my project", false, true),
        ("a/b/c", true, true),
        ("a//b", false, false),
        ("app.git", false, false),
        (".hidden/*", true, true),
    ] {
        assert_eq!(parsed("us", name).is_ok(), region, "{name} from a region: {:?}", parsed("us", name));
        assert_eq!(parsed("a", name).is_ok(), remote, "{name} between remotes: {:?}", parsed("a", name));
    }
    assert!(parsed("us", ".github").unwrap_err().contains("links.l: repositories"));
}

/// All settings that are a size, each with the text of a configuration around it.
const SIZES: [(&str, &str); 8] = [
    ("push_memory", "push_memory = SIZE\n"),
    ("read_memory", "read_memory = SIZE\n"),
    (
        "max_bytes",
        "[regions.us]\nobjects = \"s3://bucket/git\"\ntable = \"dynamodb://table\"\naws = { region = \"us-east-1\" }\n\
         cache = { max_bytes = SIZE }\n",
    ),
    ("bytes_per_push", "[remotes.r]\nurl = \"https://h/{name}\"\nlimits = { bytes_per_push = SIZE }\n"),
    ("spool", "[remotes.r]\nurl = \"https://h/{name}\"\nlimits = { spool = SIZE }\n"),
    ("max_push", "[[push_policies]]\nmax_push = SIZE\n"),
    ("max_object", "[[push_policies]]\nmax_object = SIZE\n"),
    ("max_lfs_object", "[[push_policies]]\nmax_lfs_object = SIZE\n"),
];

#[test]
fn all_sizes_are_read_alike() {
    for (setting, text) in SIZES {
        // 0 admits nothing: no LFS object, no pack in the cache that is not in use.
        for good in ["\"512MiB\"", "\"2 GiB\"", "\"1 B\"", "4096", "0", "\"0\"", "\"0 MiB\""] {
            parse(&text.replace("SIZE", good)).unwrap_or_else(|error| panic!("{setting} = {good}: {error}"));
        }
        for bad in ["-5", "\"-1 MiB\"", "\"12 parsecs\"", "\"\"", "1.5", "true", "[1]"] {
            let said = match parse(&text.replace("SIZE", bad)) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{setting} = {bad} is taken"),
            };
            let expected = "a size has the form \"512MiB\", \"2 GiB\" or a number of bytes";
            assert!(said.contains(setting) && said.contains(expected), "{setting} = {bad}: {said}");
        }
    }
}

/// The list of sizes above is complete.
#[test]
fn every_size_of_the_configuration_is_in_the_list() {
    let sources = [
        include_str!("lib.rs"),
        include_str!("cache.rs"),
        include_str!("link.rs"),
        include_str!("limits.rs"),
        include_str!("push_policy.rs"),
        include_str!("remote.rs"),
    ];
    let lines = sources.iter().flat_map(|source| source.lines());
    let fields = lines.filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": Option<ByteSize>"));
    let mut fields: Vec<&str> = fields.map(|(name, _)| name).collect();
    let mut listed: Vec<&str> = SIZES.iter().map(|(name, _)| *name).collect();
    fields.sort_unstable();
    listed.sort_unstable();
    assert_eq!(fields, listed);
}
